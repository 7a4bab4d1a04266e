"""llama.cpp through llama-cpp-python's C functions: a model, one sequence in it, a sampler.

llama-cpp-python is no dependency of this project; without it `library` says so. Letters: T new tokens, V
vocabulary.
"""

import ctypes
import hashlib
import importlib
import logging
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refute.targets.base import Sampling, TargetError

_NORMAL_TOKEN = 1 << 2  # LLAMA_TOKEN_ATTR_NORMAL
_ANY_SEED = 0xFFFFFFFF  # LLAMA_DEFAULT_SEED: fresh entropy


def library() -> Any:
    """Import llama_cpp and quieten it. Raises `TargetError` where it is not installed."""
    try:
        llama = importlib.import_module("llama_cpp")
    except (ImportError, OSError, RuntimeError) as error:
        why = f"llama-cpp-python cannot be imported ({error})"
        raise TargetError(f"{why}; expected it beside refute: pip install llama-cpp-python") from None
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    return llama


def library_digest() -> str:
    """sha256 over the compiled libraries: two of one digest run the same code."""
    total = hashlib.sha256()
    for path in sorted((Path(library().__file__).parent / "lib").glob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            total.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


class LlamaModel:
    """A model file in llama.cpp, on the CPU. It is freed when nothing refers to it, its contexts included."""

    def __init__(self, path: Path, threads: int) -> None:
        llama = self.llama = library()
        self.threads = threads
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.handle = llama.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise TargetError(f"{path}: llama.cpp cannot load it; expected a GGUF model that it knows")
        weakref.finalize(self, llama.llama_model_free, self.handle)
        self.vocab = llama.llama_model_get_vocab(self.handle)
        self.vocabulary: int = llama.llama_vocab_n_tokens(self.vocab)

    def text(self, key: str) -> str:
        """A value of the file's metadata, as llama.cpp writes it; "" where there is none."""
        buffer = ctypes.create_string_buffer(1 << 12)
        size = self.llama.llama_model_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace") if size > 0 else ""

    def ordinary_ids(self) -> list[int]:
        get = self.llama.llama_vocab_get_attr
        return [token for token in range(self.vocabulary) if get(self.vocab, token) & _NORMAL_TOKEN]

    def tokenize(self, text: str) -> tuple[int, ...]:
        raw = text.encode()
        tokens = (self.llama.llama_token * (len(raw) + 1))()
        count = self.llama.llama_tokenize(self.vocab, raw, len(raw), tokens, len(tokens), False, False)
        if count < 0:
            raise TargetError(f"llama.cpp cannot tokenize a text of {len(raw)} bytes")
        return tuple(tokens[:count])

    def detokenize(self, tokens: Sequence[int]) -> str:
        buffer = ctypes.create_string_buffer(1 << 10)
        pieces = []
        for token in tokens:
            size = self.llama.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            pieces.append(buffer.raw[: max(size, 0)])
        return b"".join(pieces).decode(errors="replace")


class LlamaSequence:
    """One sequence, in a context of its own. Its cache is float32: rounding flips near ties of experts."""

    def __init__(self, model: LlamaModel, capacity: int) -> None:
        llama = model.llama
        self.model = model
        self.capacity = capacity
        self.length = 0
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = capacity
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = model.threads
        params.type_k = params.type_v = llama.GGML_TYPE_F32
        params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.handle = llama.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise TargetError(f"llama.cpp cannot make a context of {capacity} tokens")
        weakref.finalize(self, llama.llama_free, self.handle)
        self._memory = llama.llama_get_memory(self.handle)

    def decode(self, tokens: Sequence[int], *, all_logits: bool) -> np.ndarray:
        """Run tokens in one call; logits (T, V) or, of the last token alone, (1, V): a copy."""
        model, count = self.model, len(tokens)
        unknown = [token for token in tokens if not 0 <= token < model.vocabulary]
        if unknown or not tokens:
            found = unknown[0] if unknown else "none"
            raise TargetError(f"expected one or more token ids below {model.vocabulary}, found {found}")
        if self.length + count > self.capacity:
            raise TargetError(f"{self.length} tokens and {count} more exceed a sequence of {self.capacity}")
        batch = model.llama.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i] = token, self.length + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                batch.logits[i] = all_logits or i == count - 1
            status = model.llama.llama_decode(self.handle, batch)
        finally:
            model.llama.llama_batch_free(batch)
        if status:
            raise TargetError(f"llama.cpp failed to decode {count} tokens (status {status})")
        self.length += count
        found = model.llama.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(found, (count if all_logits else 1, model.vocabulary)).copy()

    def trim(self, length: int) -> None:
        self.model.llama.llama_memory_seq_rm(self._memory, 0, length, -1)
        self.length = length

    def fork(self) -> "LlamaSequence":
        """A sequence with a copy of this one's cache."""
        llama, other = self.model.llama, LlamaSequence(self.model, self.capacity)
        size = llama.llama_state_seq_get_size(self.handle, 0)
        state = (ctypes.c_uint8 * size)()
        llama.llama_state_seq_get_data(self.handle, state, size, 0)
        if not llama.llama_state_seq_set_data(other.handle, state, size, 0):
            raise TargetError(f"llama.cpp cannot copy a sequence of {self.length} tokens")
        other.length = self.length
        return other


class LlamaSampler:
    """llama.cpp's own samplers, in the order that `Sampling` states."""

    def __init__(self, model: LlamaModel, sampling: Sampling, prompt: Sequence[int], longest: int) -> None:
        llama = self._llama = model.llama
        self._chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        weakref.finalize(self, llama.llama_sampler_free, self._chain)
        parts = []
        if sampling.repetition_penalty != 1:
            penalty = sampling.repetition_penalty
            parts.append(llama.llama_sampler_init_penalties(model.vocabulary, longest, penalty, 0.0, 0.0))
        if sampling.temperature == 0:
            parts.append(llama.llama_sampler_init_greedy())
        else:
            seed = _ANY_SEED if sampling.seed is None else sampling.seed % _ANY_SEED
            parts.append(llama.llama_sampler_init_temp(sampling.temperature))
            if sampling.top_k:
                parts.append(llama.llama_sampler_init_top_k(sampling.top_k))
            parts.append(llama.llama_sampler_init_top_p(sampling.top_p, 1))
            parts.append(llama.llama_sampler_init_min_p(sampling.min_p, 1))
            parts.append(llama.llama_sampler_init_dist(seed))
        for part in parts:
            llama.llama_sampler_chain_add(self._chain, part)
        for token in prompt:
            llama.llama_sampler_accept(self._chain, token)

    def next(self, sequence: LlamaSequence) -> int:
        """Choose a token by the last logits of a sequence, and remember it."""
        token: int = self._llama.llama_sampler_sample(self._chain, sequence.handle, -1)
        return token

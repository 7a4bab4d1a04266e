"""Small random GGUF models for tests: any dimensions, any tensor type, a tokenizer that works."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as TensorType

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_TOKENS = ("<tool_call>", "</tool_call>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ t", "Ġt he", "i n", "Ġ a", "o r", "w or", "l d", "Ã ©")
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyModel:
    """Dimensions chosen so that none can stand in for another: heads x head_dim != hidden, odd top-k.

    `type` is the type of every matrix but the router; `types` maps name patterns to other types.
    K-quants want `hidden`, `expert_ffn`, `dense_ffn` and heads x head_dim in multiples of 256.
    """

    architecture: str = "qwen3moe"
    layers: int = 2
    hidden: int = 64
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 16
    experts: int = 5
    experts_per_token: int = 3
    expert_ffn: int = 32
    dense_ffn: int = 160
    context: int = 256
    rms_eps: float = 1e-5
    rope_base: float = 5e5
    tied: bool = False
    type: TensorType = TensorType.F32
    types: Mapping[str, TensorType] = field(default_factory=dict)
    vocabulary: int | None = None  # pads the 273 tokens with unused ones
    seed: int = 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and NumPy shape of every tensor, in file order."""
        h, wide, narrow = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(vocabulary(self)[0]), h)}
        for layer in range(self.layers):
            block = {
                "attn_norm": (h,), "attn_q": (wide, h), "attn_k": (narrow, h), "attn_v": (narrow, h),
                "attn_q_norm": (self.head_dim,), "attn_k_norm": (self.head_dim,), "attn_output": (h, wide),
                "ffn_norm": (h,),
            }  # fmt: skip
            if self.architecture == "qwen3moe":
                e, f = self.experts, self.expert_ffn
                block |= {"ffn_gate_inp": (e, h), "ffn_gate_exps": (e, f, h), "ffn_up_exps": (e, f, h)}
                block |= {"ffn_down_exps": (e, h, f)}
            else:
                f = self.dense_ffn
                block |= {"ffn_gate": (f, h), "ffn_up": (f, h), "ffn_down": (h, f)}
            shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
        shapes["output_norm.weight"] = (h,)
        if not self.tied:
            shapes["output.weight"] = shapes["token_embd.weight"]
        return shapes

    def type_of(self, name: str) -> TensorType:
        for pattern, tensor_type in self.types.items():
            if fnmatch.fnmatchcase(name, pattern):
                return tensor_type
        return TensorType.F32 if "norm" in name or "gate_inp" in name else self.type


def byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    by_byte = {byte: chr(byte) for byte in printable}
    by_byte |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [by_byte[byte] for byte in range(256)]


def vocabulary(model: TinyModel) -> tuple[list[str], list[int]]:
    """Tokens and their GGUF types: bytes, merges, control, user-defined, unused."""
    tokens = [*byte_characters(), *(merge.replace(" ", "") for merge in MERGES)]
    types = [int(gguf.TokenType.NORMAL)] * len(tokens)
    tokens += [*CONTROL_TOKENS, *USER_TOKENS]
    types += [int(gguf.TokenType.CONTROL)] * len(CONTROL_TOKENS)
    types += [int(gguf.TokenType.USER_DEFINED)] * len(USER_TOKENS)
    padding = range(len(tokens), model.vocabulary or 0)
    return [*tokens, *(f"[PAD{i}]" for i in padding)], [
        *types,
        *(int(gguf.TokenType.UNUSED) for _ in padding),
    ]


def metadata(model: TinyModel) -> dict[str, tuple[Any, gguf.GGUFValueType]]:
    """Every key but `general.architecture`, with its value and type."""
    kind = gguf.GGUFValueType
    tokens, types = vocabulary(model)
    sizes = {
        "block_count": model.layers,
        "context_length": model.context,
        "embedding_length": model.hidden,
        "feed_forward_length": model.dense_ffn,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads,
        "attention.key_length": model.head_dim,
        "attention.value_length": model.head_dim,
    }
    if model.architecture == "qwen3moe":
        sizes |= {
            "expert_count": model.experts,
            "expert_used_count": model.experts_per_token,
            "expert_feed_forward_length": model.expert_ffn,
        }
    values: dict[str, tuple[Any, gguf.GGUFValueType]] = {
        "general.name": (f"tiny-{model.architecture}", kind.STRING),
        "general.quantization_version": (2, kind.UINT32),
    }
    values |= {f"{model.architecture}.{key}": (value, kind.UINT32) for key, value in sizes.items()}
    return values | {
        f"{model.architecture}.attention.layer_norm_rms_epsilon": (model.rms_eps, kind.FLOAT32),
        f"{model.architecture}.rope.freq_base": (model.rope_base, kind.FLOAT32),
        "tokenizer.ggml.model": ("gpt2", kind.STRING),
        "tokenizer.ggml.pre": ("qwen2", kind.STRING),
        "tokenizer.ggml.tokens": (tokens, kind.ARRAY),
        "tokenizer.ggml.token_type": (types, kind.ARRAY),
        "tokenizer.ggml.merges": (list(MERGES), kind.ARRAY),
        "tokenizer.ggml.bos_token_id": (tokens.index("<|endoftext|>"), kind.UINT32),
        "tokenizer.ggml.eos_token_id": (tokens.index("<|im_end|>"), kind.UINT32),
        "tokenizer.ggml.padding_token_id": (tokens.index("<|endoftext|>"), kind.UINT32),
        "tokenizer.ggml.add_bos_token": (False, kind.BOOL),
        "tokenizer.chat_template": (CHAT_TEMPLATE, kind.STRING),
    }


def random_blocks(tensor_type: TensorType, blocks: int, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Random quantized blocks (blocks, bytes) whose float16 scales are about `scale`.

    For the K types, which `gguf` reads but does not write.
    """
    raw = rng.integers(0, 256, (blocks, gguf.GGML_QUANT_SIZES[tensor_type][1]), dtype=np.uint8)

    def put(start: int, factor: float) -> None:
        values = (factor * scale * rng.uniform(0.5, 1.5, blocks)).astype(np.float16)
        raw[:, start : start + 2] = values.view(np.uint8).reshape(blocks, 2)

    if tensor_type in (TensorType.Q4_K, TensorType.Q5_K):
        put(0, 1.0)
        put(2, 7.5 if tensor_type is TensorType.Q4_K else 15.5)  # the zero point near the middle
    elif tensor_type in (TensorType.Q6_K, TensorType.Q3_K):
        put(raw.shape[1] - 2, 1.0)
    elif tensor_type is TensorType.Q2_K:
        put(80, 1.0)
        put(82, 1.5)
    else:
        raise ValueError(f"no scale position for {tensor_type.name}")
    return raw


def weights(model: TinyModel) -> dict[str, np.ndarray]:
    """Random float32 values of every tensor, from the model's seed."""
    rng = np.random.default_rng(model.seed)
    values: dict[str, np.ndarray] = {}
    for name, shape in model.shapes().items():
        noise = rng.standard_normal(shape)
        scaled = 1 + 0.1 * noise if "norm" in name else noise / np.sqrt(shape[-1])
        values[name] = scaled.astype(np.float32)
    values["token_embd.weight"] *= np.float32(8)  # rows of about unit size
    return values


def write_tiny(
    path: Path,
    model: TinyModel = TinyModel(),
    *,
    values: Mapping[str, np.ndarray] | None = None,
    overrides: Mapping[str, tuple[Any, gguf.GGUFValueType] | None] | None = None,
    without: frozenset[str] | set[str] = frozenset(),
) -> Path:
    """Write the model and return its path.

    `values` replaces float32 tensors by name (extra names are added), `overrides` metadata (None removes
    a key), `without` leaves tensors out.
    """
    writer = gguf.GGUFWriter(path, model.architecture)
    for key, value in (metadata(model) | dict(overrides or {})).items():
        if value is not None and value[1] is gguf.GGUFValueType.ARRAY:
            writer.add_array(key, value[0])
        elif value is not None:
            writer.add_key_value(key, *value)
    rng = np.random.default_rng(model.seed + 1)
    for name, array in (weights(model) | dict(values or {})).items():
        if name in without:
            continue
        tensor_type = model.type_of(name)
        block, size = gguf.GGML_QUANT_SIZES[tensor_type]
        if tensor_type is TensorType.F32:
            writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
            continue
        try:
            raw = gguf.quantize(array, tensor_type).view(np.uint8)
        except NotImplementedError:
            raw = random_blocks(tensor_type, array.size // block, rng, scale=0.002 / array.shape[-1] ** 0.5)
        raw = raw.reshape(*array.shape[:-1], array.shape[-1] // block * size)
        writer.add_tensor(name, raw, raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

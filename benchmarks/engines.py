"""What a benchmark drives, one of them in a process of its own: refute, llama.cpp, or the machine alone.

`workers.py` starts this file and calls methods by name: a line of JSON in, a line out. Tokens are random and
the same for all engines, as an answer of a model with random weights soon repeats itself and its experts.
"""

import ctypes
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_CHUNK = 16 << 20  # bytes read at once
_BATCH = 2048  # tokens that llama.cpp takes at once


def random_tokens(count: int, seed: int, vocabulary: int) -> list[int]:
    tokens: list[int] = np.random.default_rng(seed).integers(0, vocabulary, count).tolist()
    return tokens


class _Engine:
    """What is measured of any engine, by calling `run` and `rewind`."""

    vocabulary = 0
    context = 0
    length = 0

    def run(self, tokens: Sequence[int]) -> int:
        raise NotImplementedError

    def rewind(self, length: int) -> None:
        raise NotImplementedError

    def fill(self, count: int, seed: int) -> float:
        """Extend the sequence by tokens at once; seconds."""
        tokens = random_tokens(count, seed, self.vocabulary)
        start = time.perf_counter()
        self.run(tokens)
        return time.perf_counter() - start

    def decode(self, count: int, seed: int) -> list[float]:
        """Extend the sequence token by token, then forget them; seconds of each."""
        before, taken = self.length, []
        for token in random_tokens(count, seed, self.vocabulary):
            start = time.perf_counter()
            self.run([token])
            taken.append(time.perf_counter() - start)
        self.rewind(before)
        return taken

    def memory(self) -> dict[str, int]:
        """Bytes resident in this process: at most so far, now, and now without mapped files."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        names = {"peak": "VmHWM", "now": "VmRSS", "anonymous": "RssAnon"}
        return {name: 1024 * int(re.findall(rf"{key}:\s*(\d+)", status)[0]) for name, key in names.items()}


class Refute(_Engine):
    """The bundled runtime."""

    def open(
        self, path: str, capacity: int, threads: int | None, backend: str, options: dict[str, Any]
    ) -> Any:
        """Load a model; seconds of imports and kernels, of loading, of the first token; how it computes.

        threads: None for as many as the engine chooses.
        """
        begun = time.perf_counter()
        from refute_runtime.engine import Engine  # noqa: PLC0415 (timed)

        if backend == "cpu":  # its kernels, from the cache
            importlib.import_module("refute_runtime.backends.cpu")
            importlib.import_module("refute_runtime.backends.simd.build").compile_all()
        imported = time.perf_counter()
        engine = Engine.load(path, backend=backend, **options)
        loaded = time.perf_counter()
        engine = engine if threads is None else engine.with_threads(threads)
        self._model = engine.model
        self._cache = engine.new_cache(capacity)
        self.vocabulary, self.context = engine.config.vocabulary, engine.config.context
        self.run([0])
        first = time.perf_counter()
        self.rewind(0)
        return {
            "start_s": imported - begun,
            "load_s": loaded - imported,
            "first_token_s": first - loaded,
            "row_bytes": engine.backend.cache_row_bytes,
            "engine": {"digest": engine.digest, **engine.settings},
        }

    def run(self, tokens: Sequence[int]) -> int:
        forward = self._model.forward(tokens, self._cache)
        self.length = self._cache.length
        return int(forward.logits[-1].argmax())

    def rewind(self, length: int) -> None:
        self._cache.truncate(length)
        self.length = length


class Llama(_Engine):
    """llama.cpp through llama-cpp-python's C functions, as its defaults are but for the options."""

    def open(self, path: str, capacity: int, threads: int | None, options: dict[str, Any]) -> Any:
        """As of `Refute`. options: mmap, repack, flash; what is not named is llama.cpp's default."""
        threads = threads or os.cpu_count() or 1
        begun = time.perf_counter()
        self._llama = llama = importlib.import_module("llama_cpp")
        imported = time.perf_counter()
        self._quiet = llama.llama_log_callback(lambda *_: None)  # kept, as C calls it
        llama.llama_log_set(self._quiet, ctypes.c_void_p(0))
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        if not options.get("mmap", True):
            _without_mmap(params)
        if not options.get("repack", True):
            params.use_extra_bufts = False
        self._handle = llama.llama_model_load_from_file(path.encode(), params)
        if not self._handle:
            raise RuntimeError(f"{path}: llama.cpp cannot load it")
        loaded = time.perf_counter()
        vocab = llama.llama_model_get_vocab(self._handle)
        self.vocabulary = llama.llama_vocab_n_tokens(vocab)
        self.context = llama.llama_model_n_ctx_train(self._handle)
        self._context: Any = None
        self.sequence(capacity, threads, flash=options.get("flash", True))
        self.run([0])
        first = time.perf_counter()
        self.rewind(0)
        rows = llama.llama_model_n_layer(self._handle) * llama.llama_model_n_head_kv(self._handle)
        size = llama.llama_model_n_embd(self._handle) // llama.llama_model_n_head(self._handle)
        size = int(self._text("attention.key_length") or size)
        return {
            "start_s": imported - begun,
            "load_s": loaded - imported,
            "first_token_s": first - loaded,
            "row_bytes": 2 * rows * size * 2,  # keys and values in half precision
            "engine": {
                "version": f"llama-cpp-python {llama.__version__}",
                "system": llama.llama_print_system_info().decode().strip(" |"),
                "threads": threads,
            },
        }

    def sequence(self, capacity: int, threads: int | None, *, flash: bool) -> None:
        """Begin a new sequence. flash: whether llama.cpp may choose flash attention, its default."""
        llama, threads = self._llama, threads or os.cpu_count() or 1
        if self._context:
            llama.llama_free(self._context)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_seq_max = capacity, min(capacity, _BATCH), 1
        params.n_threads = params.n_threads_batch = threads
        if not flash:
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(self._handle, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot make a context of {capacity} tokens")
        self.length = 0

    def run(self, tokens: Sequence[int]) -> int:
        llama = self._llama
        for start in range(0, len(tokens), _BATCH):
            piece = tokens[start : start + _BATCH]
            array = (llama.llama_token * len(piece))(*piece)
            status = llama.llama_decode(self._context, llama.llama_batch_get_one(array, len(piece)))
            if status:
                raise RuntimeError(f"llama.cpp failed to decode {len(piece)} tokens (status {status})")
        self.length += len(tokens)
        logits = np.ctypeslib.as_array(llama.llama_get_logits(self._context), (self.vocabulary,))
        return int(logits.argmax())

    def rewind(self, length: int) -> None:
        self._llama.llama_memory_seq_rm(self._llama.llama_get_memory(self._context), 0, length, -1)
        self.length = length

    def _text(self, key: str) -> str:
        """A value of the architecture's metadata; "" where there is none."""
        buffer = ctypes.create_string_buffer(256)
        get = self._llama.llama_model_meta_val_str
        if get(self._handle, b"general.architecture", buffer, len(buffer)) <= 0:
            return ""
        name = buffer.value + b"." + key.encode()
        return buffer.value.decode() if get(self._handle, name, buffer, len(buffer)) > 0 else ""


def _without_mmap(params: Any) -> None:
    """Read the file into memory; newer versions of llama.cpp name the ways to load."""
    if hasattr(params, "load_mode"):
        params.load_mode = 0  # LLAMA_LOAD_MODE_NONE
    else:
        params.use_mmap = False


class Machine:
    """What the machine can do without an engine."""

    def bandwidth(self, size: int, passes: int = 3) -> dict[str, float]:
        """Bytes per second read from memory: plainly and with prefetch, by 1 and 2 threads."""
        import bandwidth  # noqa: PLC0415 (Numba compiles there)

        if not hasattr(self, "_data"):
            self._data = np.ones(size // 8, np.int64)  # written, so that it is there
        return bandwidth.measured(self._data, passes)

    def forget(self, path: str) -> None:
        """Drop a file from the page cache, as far as no process maps it."""
        with open(path, "rb") as file:  # noqa: PTH123
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read(self, path: str, threads: int) -> float:
        """Seconds to read a file into new memory, which is what loading cannot do without."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        start = time.perf_counter()
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            size = os.fstat(file.fileno()).st_size
            room = memoryview(np.empty(size, np.uint8))  # NumPy asks for huge pages

            def piece(at: int) -> None:
                done = 0
                wanted = room[at : at + _CHUNK]
                while done < len(wanted):
                    done += os.preadv(file.fileno(), [wanted[done:]], at + done)

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(piece, range(0, size, _CHUNK)))
        return time.perf_counter() - start


ENGINES: dict[str, Callable[[], Any]] = {"refute": Refute, "llama": Llama, "machine": Machine}


def main() -> None:
    """Serve calls until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    driven = ENGINES[sys.argv[1]]()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": getattr(driven, asked["call"])(**asked["with"])}
        except Exception as error:  # noqa: BLE001 (the other side says it)
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

"""Which backend computes: the one that is named, or for `auto` the fastest one that can.

On a GPU `cuda` can where its architecture is not too old and NVRTC is installed, on the host `cpu` where
Numba is; both where every tensor has a type that they compute with. `array` always can, on either. `mirror`
gives the bits of both in NumPy, so slowly that it is never chosen but named.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from refute_runtime.backends.array import ArrayBackend, namespace
from refute_runtime.backends.base import Backend
from refute_runtime.config import ModelConfig
from refute_runtime.errors import UnsupportedError
from refute_runtime.gguf_reader import GgufFile
from refute_runtime.resident import blocks_of
from refute_runtime.weights import Weights

if TYPE_CHECKING:
    from refute_runtime.backends.cpu import CpuBackend

AUTO = "auto"
BACKENDS = (AUTO, "array", "cpu", "cuda", "mirror")
FASTER = "1.5 times as fast on the embedded model, and about 40 times on one of 1.7 GB"  # decoding, 2 cores
Progress = Callable[[str, int, int], None]
"""Told what is done (`READING`, in bytes, or `COMPILING`, in kernels), how much of it, and of how much."""
READING, COMPILING = "reading the model", "compiling kernels"


@dataclass(frozen=True, slots=True)
class Opened:
    """A backend on a model's weights. notes: sentences that a person should be told once."""

    weights: Weights
    backend: Backend
    notes: tuple[str, ...] = ()


def open_backend(
    name: str,
    device: str,
    file: GgufFile,
    config: ModelConfig,
    *,
    mapped: bool | None = None,
    threads: int | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Opened:
    """Open a backend by its name, one of `BACKENDS`.

    mapped: whether `cpu` computes on the mapped file, or reads it into memory; None where it may choose. A
    mapped file is not uploaded either: `auto` then leaves the GPU to `array`.
    threads: those that compute; by default one of `array`, and of `cpu` what it takes for the model, where
    several processes load it their share of the processors at most.
    Raises `UnsupportedError` for a backend that there is not, or that cannot run this here.
    """
    if name not in BACKENDS:
        raise UnsupportedError(f"backend is {name!r}, expected one of {', '.join(BACKENDS)}")
    if name == "mirror":
        return _mirror(file, config, device, mapped, threads)
    if name == "cuda":
        return _on_gpu(file, config, device, mapped, progress)
    xp = np if name == "cpu" and device == AUTO else namespace(device)
    weights = Weights(file, config, xp)
    if name == AUTO and xp is not np and mapped is None:
        from refute_runtime.backends import cuda  # noqa: PLC0415 (seldom)

        why = cuda.why_not(file, config)
        if why is None:
            return _on_gpu(file, config, device, mapped, progress)
        return _array(config, weights, xp, threads, f"computing on the backend array: {why}")
    if name == "array" or (name == AUTO and xp is not np):
        if mapped is False:
            raise UnsupportedError(
                "the backend array computes on the mapped file; expected backend cpu, which can read the "
                "weights into memory, or no word about it"
            )
        return _array(config, weights, xp, threads)
    if xp is not np:
        raise UnsupportedError(f"the backend cpu has device 'cpu' only, expected no device {device!r}")
    made = _cpu()
    why = made if isinstance(made, str) else made.lacks(weights)
    if why is not None or isinstance(made, str):
        if name == "cpu":
            raise UnsupportedError(f"{file.path}: the backend cpu cannot compute: {why}")
        return _array(config, weights, xp, threads, f"computing on the backend array: {why}")

    from refute_runtime.backends.simd import build  # noqa: PLC0415 (an extra)

    compiling = None if progress is None else (lambda done, of, _: progress(COMPILING, done, of))
    build.compile_all(compiling)
    reading = None if progress is None else (lambda done, of: progress(READING, done, of))
    weights.blocks = blocks_of(file, mapped, reading, processes=processes)
    backend = made(config, weights, threads)
    share = max(build.most_threads() // processes, 1)
    if threads is None and processes > 1 and backend.threads > share:
        backend = backend.with_threads(share)
    notes = (weights.blocks.note, build.folder().why, build.slow_layer())
    return Opened(weights, backend, tuple(note for note in notes if note is not None))


def _array(config: ModelConfig, weights: Weights, xp: Any, threads: int | None, *notes: str) -> Opened:
    """The backend `array`; notes: why it is not a faster one."""
    return Opened(weights, ArrayBackend(config, weights, xp, threads or 1), notes)


def _mirror(
    file: GgufFile, config: ModelConfig, device: str, mapped: bool | None, threads: int | None
) -> Opened:
    """The backend `mirror`, on the mapped file."""
    from refute_runtime.backends.mirror import MirrorBackend  # noqa: PLC0415 (seldom)

    if device == "gpu":
        raise UnsupportedError("the backend mirror computes on the host, expected device 'cpu' or 'auto'")
    if mapped is False:
        raise UnsupportedError(
            "the backend mirror computes on the mapped file, expected no word about reading it into memory"
        )
    weights = Weights(file, config)
    why = MirrorBackend.lacks(weights)
    if why is not None:
        raise UnsupportedError(f"{file.path}: the backend mirror cannot compute: {why}")
    weights.blocks = blocks_of(file, mapped=True)
    return Opened(weights, MirrorBackend(config, weights, threads or 1))


def _on_gpu(
    file: GgufFile, config: ModelConfig, device: str, mapped: bool | None, progress: Progress | None
) -> Opened:
    """The backend `cuda`, its kernels compiled and the model uploaded."""
    from refute_runtime.backends import cuda  # noqa: PLC0415 (an extra)

    if device == "cpu":
        raise UnsupportedError(
            "the backend cuda computes on a GPU, expected device 'gpu' or 'auto', not 'cpu'"
        )
    if mapped is not None:
        raise UnsupportedError(
            "the backend cuda uploads the weights, expected no word about mapping the file"
        )
    weights = Weights(file, config)
    compiling = None if progress is None else (lambda done, of: progress(COMPILING, done, of))
    reading = None if progress is None else (lambda done, of: progress(READING, done, of))
    return Opened(weights, cuda.open_cuda(file, config, weights, compiling, reading))


def compiled() -> bool:
    """Whether nothing has to be compiled for `cpu`: all is kept from before, or Numba is not there."""
    from refute_runtime.backends.simd import build  # noqa: PLC0415 (an extra)

    return find_spec("numba") is None or build.folder().complete


def _cpu() -> "type[CpuBackend] | str":
    """The backend `cpu`, or why it cannot be had."""
    try:
        import numba  # noqa: F401, PLC0415 (an extra)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "numba"
        found = "numba is not installed" if missing else f"numba cannot be imported ({error})"
        return f"{found}; pip install 'refute[cpu]' decodes about {FASTER}"
    from refute_runtime.backends.cpu import CpuBackend  # noqa: PLC0415 (an extra, and slow to import)

    return CpuBackend

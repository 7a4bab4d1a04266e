"""A model's tensors as the bytes of the file: read into memory, or mapped where memory is short.

In memory of its own, huge pages hold the weights: with the small pages of a mapping the processor finds them
so slowly that a large model decodes at little more than half its speed.
"""

import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGML_QUANT_SIZES

from refute_runtime.errors import FormatError
from refute_runtime.gguf_reader import GgufFile, TensorInfo
from refute_runtime.memory import available

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""

_PIECE = 16 << 20  # bytes read at once
_READERS = 2  # while one copies, the other waits for the disk; more gained nothing
_LINE = 64  # bytes: tensors begin at lines of the processor's cache
_SPARE = 4096  # bytes after the last tensor: kernels may load whole vectors, or fetch ahead
_MARGIN = 64 << 20  # bytes that have to stay free, besides an eighth of the weights for what comes after them
_GIB = 1 << 30
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # Python names it late


@dataclass(frozen=True, slots=True)
class Blocks:
    """The tensors of one file as bytes: uint8 (..., row_bytes), C-contiguous.

    All are writeable, since Numba takes read-only arrays for another type; nobody writes to them. kind:
    where they lie; why: in a few words. note: what a person should be told of it. held: bytes of memory of
    their own.
    """

    kind: Literal["memory", "mmap"]
    why: str
    held: int
    tensors: Mapping[str, np.ndarray]
    note: str | None = None


def blocks_of(
    file: GgufFile,
    mapped: bool | None = None,
    progress: Progress | None = None,
    free: tuple[int | None, str] | None = None,
    *,
    processes: int = 1,
) -> Blocks:
    """Read the tensors into memory, or map them (`mapped`); None maps them only where memory is short.

    free: bytes that can be taken, and who says so; by default as the system tells. processes: how many read
    the file at once, each into memory of its own.
    """
    if mapped is not None:
        return _map(file, "asked for") if mapped else read(file, "asked for", progress)
    note = shortage(file, free, processes)
    if note is not None:
        return _map(file, "memory is short", note)
    try:
        return read(file, "enough memory is free", progress)
    except MemoryError:
        return _map(file, "memory is short", "the weights are mapped, not read: memory was refused")


def shortage(file: GgufFile, free: tuple[int | None, str] | None = None, processes: int = 1) -> str | None:
    """Say why the tensors are better mapped than read; None where memory is enough, or nothing tells.

    free, processes: as for `blocks_of`.
    """
    size = sum(info.nbytes for info in file.tensors.values())
    wanted = (size + size // 8 + _MARGIN) * processes
    left, source = available() if free is None else free
    if left is None or left >= wanted:
        return None
    return (
        f"the weights are mapped, not read: {left / _GIB:.2f} GiB {source}, {wanted / _GIB:.2f} GiB "
        f"wanted{f' by {processes} processes' if processes > 1 else ''}; "
        "decoding is slower so, and much slower where the file does not stay cached"
    )


def read(file: GgufFile, why: str, progress: Progress | None = None) -> Blocks:
    """Read all tensors into one array: from the file, not through its mapping, which would hold them twice.

    Raises `FormatError` for a file that cannot be read, or ends before its last tensor.
    """
    places, size = {}, 0
    for name, info in file.tensors.items():
        places[name] = size
        size += -(-info.nbytes // _LINE) * _LINE
    room = np.empty(size + _LINE + _SPARE, np.uint8)  # so large that NumPy asks for huge pages
    start = -room.ctypes.data % _LINE
    tensors = {
        name: room[start + at : start + at + file.tensors[name].nbytes].reshape(_shape(file.tensors[name]))
        for name, at in places.items()
    }
    total = sum(info.nbytes for info in file.tensors.values())
    done = 0
    with ThreadPoolExecutor(_READERS, "reader") as readers:
        try:
            for count in readers.map(lambda piece: fill(file.path, *piece), list(_pieces(file, tensors))):
                done += count
                if progress is not None:
                    progress(done, total)
        except BaseException:
            readers.shutdown(wait=True, cancel_futures=True)
            raise
    return Blocks("memory", why, room.nbytes, tensors)


def _pieces(file: GgufFile, tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int, memoryview]]:
    """What is read at once: which tensor, from which byte of the file, into what."""
    for name, info in sorted(file.tensors.items(), key=lambda item: item[1].offset):
        into = tensors[name].reshape(-1).data
        for begin in range(0, info.nbytes, _PIECE):
            yield name, info.offset + begin, into[begin : begin + _PIECE]


def fill(path: Path, name: str, offset: int, into: memoryview) -> int:
    """Read a piece of a tensor, from a byte of the file on, and return how many bytes it has.

    Raises `FormatError` for a file that cannot be read, or ends before them.
    """
    count = 0
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            while count < len(into):
                got = stream.readinto(into[count:])
                if not got:
                    raise FormatError(
                        f"{path}: the file ends at byte {offset + count}, inside the tensor {name}; expected "
                        f"{len(into) - count} bytes more (was it changed while it was read?)"
                    )
                count += got
    except OSError as error:
        raise FormatError(
            f"{path}: the tensor {name} cannot be read at byte {offset + count} ({error.strerror}); "
            "expected a file that stays readable while the model is loaded"
        ) from None
    return count


def _map(file: GgufFile, why: str, note: str | None = None) -> Blocks:
    """Map the tensors, each page a copy of its own once it is written, which it never is."""
    path = file.path
    last = max(info.end for info in file.tensors.values())
    try:
        with path.open("rb") as stream:
            data = _private(stream.fileno())
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be mapped ({error}); expected a GGUF model") from None
    if len(data) < last:
        raise FormatError(f"{path}: the file ends at byte {len(data)}; expected {last}, as its header says")
    tensors = {
        name: np.frombuffer(data, np.uint8, info.nbytes, info.offset).reshape(_shape(info))
        for name, info in file.tensors.items()
    }
    return Blocks("mmap", why, 0, tensors, note)


def _private(descriptor: int) -> mmap.mmap:
    """Without reserving memory for copies, where the system knows how: for a large file it would refuse."""
    if not _NO_RESERVE:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    kept = mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=kept)


def _shape(info: TensorInfo) -> tuple[int, ...]:
    elements, size = GGML_QUANT_SIZES[info.type]
    return (*info.shape[:-1], info.shape[-1] // elements * size)

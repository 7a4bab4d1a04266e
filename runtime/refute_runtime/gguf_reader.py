"""The GGUF container: its metadata and where each tensor lies.

`gguf.GGUFReader` makes several arrays per string, which takes seconds for a real vocabulary; here each field
is read once. Nothing in the file is trusted: see `gguf_values` for sizes; places, shapes and names are
checked here.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType

from refute_runtime.errors import FormatError, UnsupportedError
from refute_runtime.gguf_values import Cursor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # equal but for the byte order that 3 allows
_MOST = 1 << 15  # keys or tensors: thirty times what large models have, and still little memory
_DIMENSIONS = 4
_LONGEST_TENSOR_NAME = 64  # by the GGUF specification, as the next
_LONGEST_KEY = 65535
_SHARD_NAME = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: NumPy shape (GGUF's dimensions reversed), offset in the file, size in bytes."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    nbytes: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


class GgufFile:
    """A GGUF file, mapped read-only.

    `metadata` holds int, float, bool and str; an array is a sequence of them (of 0 and 1 for bool). It stays
    readable after `close`. `tensors` is in the file's order.
    """

    def __init__(
        self,
        path: Path,
        data: mmap.mmap,
        metadata: Mapping[str, object],
        tensors: Mapping[str, TensorInfo],
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self._data: mmap.mmap | None = data

    @classmethod
    def open(cls, path: str | PathLike[str]) -> GgufFile:
        """Map a file, read and check its header.

        Raises FormatError for a file that is not sound, UnsupportedError for a sound one that is a part of a
        split model, of another version or byte order, or has a tensor of unknown type.
        """
        path = Path(path)
        match = _SHARD_NAME.search(path.name)
        _refuse_shard(path, int(match[1]) if match else 1)
        try:
            with path.open("rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # mmap's answer to a length of 0
            raise FormatError(f"{path}: the file is empty; expected a GGUF model") from None
        except OSError as error:
            raise FormatError(f"{path}: cannot be read ({error.strerror}); expected a GGUF model") from None
        cursor = Cursor(path, data)
        tensor_count, key_count = _start(cursor)
        metadata = _metadata(cursor, key_count)
        _refuse_shard(path, _integer(cursor, metadata, "split.count", 1))
        tensors = _tensors(cursor, tensor_count, _alignment(cursor, metadata))
        return cls(path, data, metadata, tensors)

    def raw(self, name: str) -> np.ndarray:
        """Return a tensor's bytes (rows, row_bytes), uint8: a read-only view, its leading axes made one."""
        info = self.tensors.get(name)
        if info is None:
            raise FormatError(f"{self.path}: the tensor {name} is missing")
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        elements, size = GGML_QUANT_SIZES[info.type]
        flat = np.frombuffer(self._data, np.uint8, info.nbytes, info.offset)
        return flat.reshape(-1, info.shape[-1] // elements * size)

    def close(self) -> None:
        """Let the mapping go; arrays handed out keep it until they are gone."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start(cursor: Cursor) -> tuple[int, int]:
    """Check magic and version; return how many tensors and keys follow."""
    magic = cursor.bytes(len(_MAGIC), "the magic")
    if magic != _MAGIC:
        raise FormatError(f"{cursor.path}: the file starts with {magic!r}; expected {_MAGIC!r}, a GGUF model")
    version = cursor.u32("the version")
    if version and version & 0xFFFF == 0:
        raise UnsupportedError(f"{cursor.path}: the file is big-endian; expected little-endian GGUF")
    if version not in _VERSIONS:
        raise UnsupportedError(f"{cursor.path}: GGUF version {version} is not supported; expected 2 or 3")
    return _count(cursor, "tensors"), _count(cursor, "keys")


def _count(cursor: Cursor, what: str) -> int:
    count = cursor.u64(f"the number of {what}")
    if count > _MOST:
        raise FormatError(f"{cursor.path}: the header announces {count} {what}; expected at most {_MOST}")
    return count


def _metadata(cursor: Cursor, count: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for index in range(count):
        key = cursor.string(f"the name of key {index}", _LONGEST_KEY)
        if key in found:
            raise FormatError(f"{cursor.path}: the key {key:.80} is there twice; expected it once")
        found[key] = cursor.value(f"the key {key:.80}")
    return found


def _integer(cursor: Cursor, metadata: Mapping[str, object], key: str, default: int) -> int:
    value = metadata.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FormatError(f"{cursor.path}: {key} is a {type(value).__name__}; expected an integer")
    return value


def _alignment(cursor: Cursor, metadata: Mapping[str, object]) -> int:
    """Return what the offsets of tensors are multiples of."""
    value = _integer(cursor, metadata, "general.alignment", GGUF_DEFAULT_ALIGNMENT)
    if value < 8 or value & (value - 1):
        raise FormatError(f"{cursor.path}: general.alignment is {value}; expected a power of two from 8 on")
    return value


def _refuse_shard(path: Path, count: int) -> None:
    if count > 1:
        raise UnsupportedError(
            f"{path}: this is one of {count} parts of a split model, which is not supported; "
            "expected one file (llama-gguf-split --merge makes it)"
        )


def _tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    """Read the list of tensors and check that each lies in the file, apart from the others."""
    found: dict[str, TensorInfo] = {}
    for index in range(count):
        info = _tensor(cursor, index, alignment)
        if info.name in found:
            raise FormatError(f"{cursor.path}: the tensor {info.name} is there twice; expected it once")
        found[info.name] = info
    base = -(-cursor.at // alignment) * alignment
    found = {name: replace(info, offset=base + info.offset) for name, info in found.items()}

    before: TensorInfo | None = None
    for info in sorted(found.values(), key=lambda info: info.offset):
        if info.end > cursor.size:
            raise FormatError(
                f"{cursor.path}: the tensor {info.name} ends at byte {info.end} of a file of {cursor.size}; "
                "expected it inside the file (is the download complete?)"
            )
        if before is not None and info.offset < before.end:
            raise FormatError(
                f"{cursor.path}: the tensor {info.name} starts at byte {info.offset}, inside {before.name}; "
                f"expected byte {before.end} or later"
            )
        before = info
    return found


def _tensor(cursor: Cursor, index: int, alignment: int) -> TensorInfo:
    """Read one entry of the list; its offset counts from the start of the data."""
    name = cursor.string(f"the name of tensor {index}", _LONGEST_TENSOR_NAME)
    what = f"the tensor {name}"
    dimensions = cursor.u32(what)
    if not 1 <= dimensions <= _DIMENSIONS:
        raise FormatError(f"{cursor.path}: {what} has {dimensions} dimensions; expected 1 to {_DIMENSIONS}")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))[::-1]
    number, offset = cursor.u32(what), cursor.u64(what)
    try:
        kind = GGMLQuantizationType(number)
        elements, size = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        known = f"a type up to {max(GGML_QUANT_SIZES).value} that the gguf package knows"
        raise UnsupportedError(f"{cursor.path}: {what} has type {number}; expected {known}") from None
    count = math.prod(shape)  # exact: Python's integers do not overflow
    if not count:
        raise FormatError(f"{cursor.path}: {what} has shape {shape}; expected no extent of 0")
    if shape[-1] % elements:
        raise FormatError(
            f"{cursor.path}: {what} has rows of {shape[-1]} elements; "
            f"expected a multiple of {elements}, the block of {kind.name}"
        )
    if offset % alignment:
        raise FormatError(f"{cursor.path}: {what} is at offset {offset}; expected a multiple of {alignment}")
    return TensorInfo(name, shape, kind, offset, count // elements * size)

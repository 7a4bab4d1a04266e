"""The GGUF container: a bounded walk over its metadata and its list of tensors.

`gguf.GGUFReader` builds several arrays per string and needs seconds for a real vocabulary. This walk reads
each field once. It trusts nothing: a count or a length is compared with the bytes that are left before
anything is allocated, so the work and the memory are bounded by the size of the file.
"""

from __future__ import annotations

import mmap
import re
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFValueType

from refute_runtime.errors import FormatError, UnsupportedError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # equal but for the byte order that 3 allows
_DIMENSIONS = 4
_LONGEST_TENSOR_NAME = 64  # of the GGUF specification
_LONGEST_KEY = 65535
_SHARD_NAME = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")

# struct and array codes of the fixed-size values, little endian
_CODES: dict[GGUFValueType, str] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: NumPy shape (GGUF's dimensions reversed), absolute offset, size in bytes."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    nbytes: int


class LazyStrings(Sequence[str]):
    """An array of strings, decoded when it is read: 152k Python strings are slow to make and rarely needed."""

    __slots__ = ("_bytes", "_ends", "_starts")

    def __init__(self, data: bytes, starts: array[int], ends: array[int]) -> None:
        self._bytes = data
        self._starts = starts
        self._ends = ends

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[str]:
        data = self._bytes
        return (data[start:end].decode() for start, end in zip(self._starts, self._ends, strict=True))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._bytes[self._starts[index] : self._ends[index]].decode()


class GgufFile:
    """A GGUF file, mapped read-only.

    `metadata` holds ints, floats, bools and strings; an array is a sequence of them. `tensors` is in file order.
    """

    def __init__(
        self, path: Path, data: mmap.mmap, metadata: dict[str, object], tensors: dict[str, TensorInfo]
    ) -> None:
        self.path = path
        self.metadata: Mapping[str, object] = metadata
        self.tensors: Mapping[str, TensorInfo] = tensors
        self._data: mmap.mmap | None = data

    @classmethod
    def open(cls, path: str | PathLike[str]) -> GgufFile:
        """Map a file and read its header.

        Raises FormatError for a file that is not sound, UnsupportedError for a sound one that is split, of an
        old version, big-endian or of a tensor type that is not known.
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # mmap's word for a length of 0
            raise FormatError(f"{path}: the file is empty; expected a GGUF model") from None
        except OSError as error:
            raise FormatError(f"{path}: cannot be read ({error.strerror}); expected a GGUF model") from None
        header = _Header(path, data)
        header.refuse_shard_name()
        tensor_count, key_count = header.start()
        metadata = header.metadata(key_count)
        header.refuse_shards(metadata)
        tensors = header.tensors(tensor_count, header.alignment(metadata))
        return cls(path, data, metadata, tensors)

    def raw(self, name: str) -> np.ndarray:
        """Bytes of a tensor (rows, row_bytes), uint8, a read-only view of the file; leading axes are one."""
        info = self.tensors.get(name)
        if info is None:
            raise FormatError(f"{self.path}: tensor {name} is missing")
        if self._data is None:
            raise ValueError(f"{self.path} is closed")
        elements, size = GGML_QUANT_SIZES[info.type]
        flat = np.frombuffer(self._data, np.uint8, info.nbytes, info.offset)
        return flat.reshape(-1, info.shape[-1] // elements * size)

    def close(self) -> None:
        """Let the mapping go; views handed out keep it alive until they are gone."""
        self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Header:
    """A cursor over the bytes before the tensors' data."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._size = len(data)
        self._at = 0

    # --- values -------------------------------------------------------------------------------------------

    def _take(self, size: int, what: str) -> int:
        """Advance over `size` bytes and return where they start."""
        start = self._at
        if size > self._size - start:
            raise FormatError(
                f"{self._path}: truncated in {what}: found {self._size - start} bytes after offset {start}, "
                f"expected {size}"
            )
        self._at = start + size
        return start

    def _u32(self, what: str) -> int:
        value: int = _U32.unpack_from(self._data, self._take(4, what))[0]
        return value

    def _u64(self, what: str) -> int:
        value: int = _U64.unpack_from(self._data, self._take(8, what))[0]
        return value

    def _string(self, what: str, longest: int | None = None) -> str:
        length = self._u64(f"the length of {what}")
        if longest is not None and length > longest:
            raise FormatError(f"{self._path}: {what} has {length} bytes; expected at most {longest}")
        start = self._take(length, what)
        try:
            return self._data[start : self._at].decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self._path}: {what} at offset {start} is not UTF-8 text") from None

    def _value_type(self, what: str) -> GGUFValueType:
        number = self._u32(f"the type of {what}")
        try:
            return GGUFValueType(number)
        except ValueError:
            last = max(GGUFValueType)
            raise FormatError(f"{self._path}: {what} has value type {number}; expected 0 to {last}") from None

    def _value(self, what: str) -> object:
        kind = self._value_type(what)
        if kind is GGUFValueType.STRING:
            return self._string(what)
        if kind is GGUFValueType.ARRAY:
            return self._array(what)
        if kind is GGUFValueType.BOOL:
            return self._bools(1, what)[0]
        code = struct.Struct("<" + _CODES[kind])
        return code.unpack_from(self._data, self._take(code.size, what))[0]

    def _bools(self, count: int, what: str) -> list[bool]:
        start = self._take(count, what)
        found = self._data[start : self._at]
        if found.strip(b"\0\1"):
            raise FormatError(f"{self._path}: {what} is of type bool and not all of it is 0 or 1")
        return [byte == 1 for byte in found]

    def _array(self, what: str) -> Sequence[object]:
        kind = self._value_type(f"the elements of {what}")
        count = self._u64(f"the length of {what}")
        if kind is GGUFValueType.STRING:
            return self._strings(count, what)
        if kind is GGUFValueType.BOOL:
            return self._bools(count, what)
        if kind is GGUFValueType.ARRAY:
            raise UnsupportedError(f"{self._path}: {what} is an array of arrays, which is not supported")
        dtype = np.dtype("<" + _CODES[kind])
        start = self._take(count * dtype.itemsize, f"{what} ({count} elements)")
        # array.array: compact as the file, and it yields Python numbers
        values: array[float] = array(_CODES[kind])
        values.frombytes(
            np.frombuffer(self._data, dtype, count, start).astype(dtype.newbyteorder("=")).tobytes()
        )
        return values

    def _strings(self, count: int, what: str) -> LazyStrings:
        data, at, end = self._data, self._at, self._size
        if count > (end - at) // 8:
            raise FormatError(
                f"{self._path}: {what} has {count} strings, but only {end - at} bytes follow offset {at}; "
                "expected 8 or more for each"
            )
        first, starts, ends = at, array("Q"), array("Q")
        read, add_start, add_end = _U64.unpack_from, starts.append, ends.append
        index = 0
        try:
            for index in range(count):
                at += 8
                length = read(data, at - 8)[0]
                stop = at + length
                if stop > end:
                    raise FormatError(
                        f"{self._path}: truncated in {what}[{index}]: found {end - at} bytes after offset {at}, "
                        f"expected {length}"
                    )
                data[at:stop].decode()
                add_start(at - first)
                add_end(stop - first)
                at = stop
        except struct.error:
            raise FormatError(
                f"{self._path}: truncated in {what}[{index}]: found {end - at + 8} bytes after offset {at - 8}, "
                "expected 8 for its length"
            ) from None
        except UnicodeDecodeError:
            raise FormatError(f"{self._path}: {what}[{index}] at offset {at} is not UTF-8 text") from None
        self._at = at
        return LazyStrings(data[first:at], starts, ends)

    # --- sections -----------------------------------------------------------------------------------------

    def start(self) -> tuple[int, int]:
        """Check magic and version and return the numbers of tensors and of keys."""
        magic = self._data[self._take(4, "the magic") : self._at]
        if magic != _MAGIC:
            raise FormatError(
                f"{self._path}: the first four bytes are {magic!r}; expected {_MAGIC!r}, a GGUF model"
            )
        version = self._u32("the version")
        if version & 0xFFFF == 0 and version:
            raise UnsupportedError(
                f"{self._path}: the file is big-endian; expected a little-endian GGUF file"
            )
        if version not in _VERSIONS:
            raise UnsupportedError(f"{self._path}: GGUF version {version} is not supported; expected 2 or 3")
        return self._u64("the number of tensors"), self._u64("the number of keys")

    def metadata(self, count: int) -> dict[str, object]:
        """Read `count` keys and values."""
        self._refuse_count(count, 8 + 4 + 1, "keys")
        found: dict[str, object] = {}
        for index in range(count):
            key = self._string(f"the name of key {index}", _LONGEST_KEY)
            if key in found:
                raise FormatError(f"{self._path}: the key {key} is there twice; expected it once")
            found[key] = self._value(f"the key {key!r:.80}")
        return found

    def alignment(self, metadata: Mapping[str, object]) -> int:
        """Return what the offsets of tensors are multiples of."""
        value = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if isinstance(value, bool) or not isinstance(value, int) or value < 8 or value & (value - 1):
            raise FormatError(
                f"{self._path}: general.alignment is {value!r:.60}; expected a power of two from 8 on"
            )
        return value

    def tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        """Read `count` tensor descriptions and check where they lie."""
        self._refuse_count(count, 8 + 4 + 8 + 4 + 8, "tensors")
        found: dict[str, TensorInfo] = {}
        for index in range(count):
            info = self._tensor(index, alignment)
            if info.name in found:
                raise FormatError(f"{self._path}: the tensor {info.name} is there twice; expected it once")
            found[info.name] = info
        base = -(-self._at // alignment) * alignment
        placed = {
            name: TensorInfo(name, info.shape, info.type, base + info.offset, info.nbytes)
            for name, info in found.items()
        }
        self._refuse_outside(placed)
        return placed

    def _tensor(self, index: int, alignment: int) -> TensorInfo:
        """Read one description; its offset still counts from the start of the data."""
        name = self._string(f"the name of tensor {index}", _LONGEST_TENSOR_NAME)
        what = f"the tensor {name!r:.80}"
        dimensions = self._u32(what)
        if not 1 <= dimensions <= _DIMENSIONS:
            raise FormatError(
                f"{self._path}: {what} has {dimensions} dimensions; expected 1 to {_DIMENSIONS}"
            )
        shape = tuple(self._u64(what) for _ in range(dimensions))[::-1]
        number = self._u32(what)
        offset = self._u64(what)
        try:
            kind = GGMLQuantizationType(number)
            elements, size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            known = ", ".join(f"{t.name} {t.value}" for t in list(GGML_QUANT_SIZES)[:4])
            raise UnsupportedError(
                f"{self._path}: {what} has type {number}; expected one of {known}, ..."
            ) from None
        count = 1
        for extent in shape:
            count *= extent  # of four 64-bit numbers: exact and small in Python
        if not count:
            raise FormatError(f"{self._path}: {what} has shape {shape}; expected every extent above 0")
        if shape[-1] % elements:
            raise FormatError(
                f"{self._path}: {what} has rows of {shape[-1]} elements; expected a multiple of {elements}, "
                f"the block of {kind.name}"
            )
        if offset % alignment:
            raise FormatError(
                f"{self._path}: {what} is at data offset {offset}; expected a multiple of {alignment}"
            )
        return TensorInfo(name, shape, kind, offset, count // elements * size)

    # --- refusals -----------------------------------------------------------------------------------------

    def _refuse_count(self, count: int, least: int, what: str) -> None:
        left = self._size - self._at
        if count > left // least:
            raise FormatError(
                f"{self._path}: the header announces {count} {what}, but only {left} bytes follow; "
                f"expected {least} or more for each"
            )

    def _refuse_outside(self, tensors: Mapping[str, TensorInfo]) -> None:
        before: TensorInfo | None = None
        for info in sorted(tensors.values(), key=lambda info: info.offset):
            end = info.offset + info.nbytes
            if end > self._size:
                raise FormatError(
                    f"{self._path}: the tensor {info.name} ends at byte {end}, but the file has {self._size}; "
                    "expected a whole file (is the download complete?)"
                )
            if before is not None and info.offset < before.offset + before.nbytes:
                raise FormatError(
                    f"{self._path}: the tensor {info.name} starts at byte {info.offset}, inside {before.name}; "
                    f"expected {before.offset + before.nbytes} or later"
                )
            before = info

    def refuse_shard_name(self) -> None:
        """Refuse one part of a split model by its name."""
        match = _SHARD_NAME.search(self._path.name)
        if match and int(match[1]) > 1:
            self._refuse_split(int(match[1]))

    def refuse_shards(self, metadata: Mapping[str, object]) -> None:
        """Refuse one part of a split model by its metadata."""
        count = metadata.get("split.count", 0)
        if not isinstance(count, int):
            raise FormatError(f"{self._path}: split.count is {count!r:.60}; expected an integer")
        if count > 1:
            self._refuse_split(count)

    def _refuse_split(self, count: int) -> None:
        raise UnsupportedError(
            f"{self._path}: this is one of {count} parts of a split model, which is not supported; "
            "expected one file (llama-gguf-split --merge makes it)"
        )

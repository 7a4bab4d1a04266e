"""GGUF values: a cursor that never reads past the file and never allocates more than it holds.

A count or a length is compared with the bytes that are left before anything is made of it, so the work and
the memory stay in proportion to the file, whatever the file claims.
"""

from __future__ import annotations

import mmap
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from gguf import GGUFValueType

from refute_runtime.errors import FormatError, UnsupportedError

# struct and array codes of the fixed-size values
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


class LazyStrings(Sequence[str]):
    """An array of strings, each made when it is read: str objects would weigh several times the file."""

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


class Cursor:
    """A position in a mapped file; every read names what it reads, for the message if it fails."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.size = len(data)
        self.at = 0
        self._data = data

    @property
    def left(self) -> int:
        """Bytes from here to the end of the file."""
        return self.size - self.at

    def take(self, size: int, what: str) -> int:
        """Advance over `size` bytes and return where they start."""
        start = self.at
        if size > self.left:
            raise self._truncated(what, start, size)
        self.at = start + size
        return start

    def bytes(self, size: int, what: str) -> bytes:
        return self._data[self.take(size, what) : self.at]

    def u32(self, what: str) -> int:
        value: int = _U32.unpack_from(self._data, self.take(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        value: int = _U64.unpack_from(self._data, self.take(8, what))[0]
        return value

    def string(self, what: str, longest: int | None = None) -> str:
        """Read a length and so many bytes of UTF-8."""
        length = self.u64(f"the length of {what}")
        if longest is not None and length > longest:
            raise FormatError(f"{self.path}: {what} has {length} bytes; expected at most {longest}")
        start = self.at
        try:
            return self.bytes(length, what).decode()
        except UnicodeDecodeError:
            raise self._not_utf8(what, start) from None

    def value(self, what: str) -> object:
        """Read a type and a value of it; arrays as in `GgufFile.metadata`."""
        kind = self._value_type(what)
        if kind is GGUFValueType.STRING:
            return self.string(what)
        if kind is GGUFValueType.ARRAY:
            return self._array(what)
        if kind is GGUFValueType.BOOL:
            return self._bools(1, what)[0] == 1
        code = struct.Struct("<" + _CODES[kind])
        return code.unpack_from(self._data, self.take(code.size, what))[0]

    def _value_type(self, what: str) -> GGUFValueType:
        number = self.u32(f"the type of {what}")
        try:
            return GGUFValueType(number)
        except ValueError:
            last = max(GGUFValueType).value
            raise FormatError(f"{self.path}: {what} has value type {number}; expected 0 to {last}") from None

    def _array(self, what: str) -> Sequence[object]:
        kind = self._value_type(f"the elements of {what}")
        count = self.u64(f"the number of elements of {what}")
        if kind is GGUFValueType.STRING:
            return self._strings(count, what)
        if kind is GGUFValueType.BOOL:
            return self._bools(count, what)
        if kind is GGUFValueType.ARRAY:
            raise UnsupportedError(f"{self.path}: {what} is an array of arrays; expected one of plain values")
        values: array[float] = array(_CODES[kind])  # as compact as the file, and it yields Python numbers
        values.frombytes(self.bytes(count * values.itemsize, what))
        if sys.byteorder == "big":
            values.byteswap()
        return values

    def _bools(self, count: int, what: str) -> array[int]:
        found = self.bytes(count, what)
        if found.strip(b"\0\1"):
            raise FormatError(f"{self.path}: {what} holds bools other than 0 and 1; expected only these")
        return array("b", found)

    def _strings(self, count: int, what: str) -> LazyStrings:
        """Find and check `count` strings; written for speed, as a model has 300,000 of them."""
        if count > self.left // _U64.size:
            found = f"{what} has {count} strings, but only {self.left} bytes follow"
            raise FormatError(f"{self.path}: {found}; expected 8 or more for each")
        data, first, at, size = self._data, self.at, self.at, self.size
        starts, ends = array("Q"), array("Q")
        read, add_start, add_end = _U64.unpack_from, starts.append, ends.append
        index = 0
        try:
            for index in range(count):
                length = read(data, at)[0]
                at += 8
                end = at + length
                if end > size:
                    raise self._truncated(f"{what}[{index}]", at, length)
                data[at:end].decode()
                add_start(at - first)
                add_end(end - first)
                at = end
        except struct.error:
            raise self._truncated(f"the length of {what}[{index}]", at, _U64.size) from None
        except UnicodeDecodeError:
            raise self._not_utf8(f"{what}[{index}]", at) from None
        self.at = at
        return LazyStrings(data[first:at], starts, ends)

    def _truncated(self, what: str, start: int, size: int) -> FormatError:
        found = f"{self.size - start} bytes are left at offset {start}"
        return FormatError(f"{self.path}: the file ends in {what}: {found}; expected {size}")

    def _not_utf8(self, what: str, start: int) -> FormatError:
        return FormatError(f"{self.path}: {what} at offset {start} is not UTF-8; expected text")

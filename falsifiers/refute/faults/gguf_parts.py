"""A GGUF file as parts: keys as the bytes that they are, tensors as what is read when it is asked for.

What nobody changes is written again byte for byte, one tensor after the other, so that a file of any size
needs the memory of one tensor. (`gguf.GGUFReader` makes several arrays per string, `gguf.GGUFWriter` packs
every value anew and refuses empty arrays.)
"""

import math
import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType, GGUFValueType

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_PIECE = 1 << 24  # bytes written at once
_CODES = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}


class NotGguf(Exception):  # noqa: N818 (an answer to a person)
    """The file is not one that can be taken apart; the message says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: NumPy shape (GGUF's dimensions reversed), and what reads its bytes, flat uint8."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        return _size(self.shape, self.type)


@dataclass(frozen=True, slots=True)
class Strings:
    """An array of strings: its value as bytes, and where in them each string ends."""

    value: bytes
    ends: tuple[int, ...]

    def first(self, count: int) -> bytes:
        """Return the value with only its first strings."""
        header = struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, count)
        return header + self.value[len(header) : self.ends[count - 1] if count else len(header)]


@dataclass(frozen=True, slots=True)
class GgufParts:
    """keys: each value as its bytes, type first. Both mappings are in the file's order."""

    path: Path
    version: int
    keys: Mapping[str, bytes]
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take a file apart. Raises `NotGguf` with a sentence."""
        try:
            with path.open("rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # mmap's answer to a length of 0
            raise NotGguf(f"{path}: the file is empty; expected a GGUF model") from None
        except OSError as error:
            raise NotGguf(f"{path}: {error.strerror}; expected a GGUF model") from None
        if data[:4] != _MAGIC:
            raise NotGguf(f"{path}: the file starts with {data[:4]!r}; expected {_MAGIC!r}, a GGUF model")
        walk = _Walk(data, 4)
        try:
            version, tensor_count, key_count = walk.numbers("<IQQ")
            if version not in _VERSIONS:
                raise NotGguf(f"{path}: GGUF version {version}; expected 2 or 3, little-endian")
            keys = {}
            for _ in range(key_count):
                name, start = walk.string(), walk.at
                walk.skip_value()
                keys[name] = data[start : walk.at]
            infos = [walk.tensor() for _ in range(tensor_count)]
            if len(keys) < key_count or len({name for name, *_ in infos}) < tensor_count:
                raise NotGguf(f"{path}: a key or a tensor is there twice; expected each once")
            parts = cls(path, version, keys, {})
            base = _padded(walk.at, parts.alignment)
            tensors = {
                name: Tensor(name, shape, kind, _reader(data, base + offset, _size(shape, kind)))
                for name, shape, kind, offset in infos
            }
        except (struct.error, ValueError, KeyError, ArithmeticError) as error:
            raise NotGguf(f"{path}: not sound at byte {walk.at} ({error}); expected a whole GGUF") from None
        return cls(path, version, keys, tensors)

    @property
    def alignment(self) -> int:
        found = self.value("general.alignment")
        return int(found) if isinstance(found, int) and found > 0 else GGUF_DEFAULT_ALIGNMENT

    def value(self, key: str) -> int | float | str | None:
        """Return a number or a string; None for other values, and where there is no such key."""
        raw = self.keys.get(key)
        if raw is None:
            return None
        kind = GGUFValueType(struct.unpack_from("<I", raw)[0])
        if kind is GGUFValueType.STRING:
            return raw[12:].decode(errors="replace")
        return struct.unpack_from(_CODES[kind], raw, 4)[0] if kind in _CODES else None

    def strings(self, key: str) -> Strings | None:
        """Return an array of strings; None for other values, and where there is no such key."""
        raw = self.keys.get(key, b"")
        if raw[:8] != struct.pack("<II", GGUFValueType.ARRAY, GGUFValueType.STRING):
            return None
        walk, ends = _Walk(raw, 8), []
        for _ in range(walk.numbers("<Q")[0]):
            walk.skip_string()
            ends.append(walk.at)
        return Strings(raw, tuple(ends))

    def number_like(self, key: str, value: float) -> bytes:
        """Pack a number in the type that this key has."""
        head = self.keys[key][:4]
        return head + struct.pack(_CODES[GGUFValueType(struct.unpack("<I", head)[0])], value)

    @property
    def nbytes(self) -> int:
        """The size of the file that `write` gives."""
        header = _padded(len(self._header()), self.alignment)
        return header + sum(_padded(tensor.nbytes, self.alignment) for tensor in self.tensors.values())

    def write(self, stream: BinaryIO, progress: Callable[[int], object] = lambda _: None) -> None:
        """Write the file; `progress` is told of every piece how many bytes it has."""
        self._put(stream, self._header(), progress)
        for tensor in self.tensors.values():
            data = tensor.read()
            if data.nbytes != tensor.nbytes:
                raise ValueError(f"{tensor.name} has {data.nbytes} bytes; expected {tensor.nbytes}")
            self._put(stream, data.data, progress)

    def _header(self) -> bytes:
        """Everything before the data, without padding."""
        pieces = [_MAGIC, struct.pack("<IQQ", self.version, len(self.tensors), len(self.keys))]
        for key, raw in self.keys.items():
            pieces += [_packed(key), raw]
        at = 0  # in the data
        for tensor in self.tensors.values():
            shape = tensor.shape[::-1]
            info = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.type, at)
            pieces += [_packed(tensor.name), info]
            at = _padded(at + tensor.nbytes, self.alignment)
        return b"".join(pieces)

    def _put(self, stream: BinaryIO, data: bytes | memoryview, progress: Callable[[int], object]) -> None:
        """Write data, padded to the alignment; in pieces, so that progress is steady."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            stream.write(piece)
            progress(len(piece))
        padding = bytes(_padded(len(data), self.alignment) - len(data))
        stream.write(padding)
        progress(len(padding))


class _Walk:
    """A position in bytes that moves over values. Raises `struct.error` or `ValueError` at their end."""

    def __init__(self, data: "bytes | mmap.mmap", at: int) -> None:
        self.data = data
        self.at = at

    def numbers(self, code: str) -> tuple[int, ...]:
        found = struct.unpack_from(code, self.data, self.at)
        self.at += struct.calcsize(code)
        return found

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise ValueError(f"{size} bytes announced, {len(self.data) - self.at} left")
        self.at += size

    def skip_string(self) -> None:
        self.skip(self.numbers("<Q")[0])

    def string(self) -> str:
        start = self.at + 8
        self.skip_string()
        return bytes(self.data[start : self.at]).decode()

    def skip_value(self) -> None:
        kind = GGUFValueType(self.numbers("<I")[0])
        count = 1
        if kind is GGUFValueType.ARRAY:
            number, count = self.numbers("<IQ")
            kind = GGUFValueType(number)
        if kind is GGUFValueType.STRING:
            for _ in range(count):
                self.skip_string()
        else:
            self.skip(count * struct.calcsize(_CODES[kind]))

    def tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        """Name, shape, type, and offset in the data."""
        name = self.string()
        shape = self.numbers(f"<{self.numbers('<I')[0]}Q")[::-1]
        kind, offset = self.numbers("<IQ")
        return name, shape, GGMLQuantizationType(kind), offset


def _reader(data: mmap.mmap, start: int, size: int) -> Callable[[], np.ndarray]:
    if start + size > len(data):
        raise ValueError(f"a tensor ends at byte {start + size} of {len(data)}")
    return lambda: np.frombuffer(data, np.uint8, size, start)


def _size(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    elements, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // elements * size


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _packed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw

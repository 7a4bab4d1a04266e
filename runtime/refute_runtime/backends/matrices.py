"""A model's weights as compiled kernels take them: addresses and sizes, and room for packed values."""

from dataclasses import dataclass

import numpy as np

from refute_runtime.backends.blocks import FLOATS
from refute_runtime.backends.simd import products
from refute_runtime.quant import dequantize
from refute_runtime.weights import Weights

_LINE = 64  # bytes
_EMPTY = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Matrices:
    """Matrices of the same columns that are multiplied with the same panels.

    table: (M, 6) int64, see `products`. rows: of all together. rounded, floats: whether one is of blocks,
    of floats. held: the weights, which the table names by address.
    """

    table: np.ndarray
    columns: int
    rows: int
    rounded: bool
    floats: bool
    held: tuple[np.ndarray, ...]


class Tables:
    """The matrices and vectors of one model, each looked up once."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._matrices: dict[tuple[str, ...], Matrices] = {}
        self._vectors: dict[str, np.ndarray] = {}

    def matrices(self, *names: str) -> Matrices:
        """Tensors (rows, columns), or (E, rows, columns), one after the other."""
        found = self._matrices.get(names)
        if found is None:
            raws = tuple(self._weights.raw(name) for name in names)
            kinds = [self._weights.type_of(name) for name in names]
            entries, rows = [], 0
            for name, raw, kind in zip(names, raws, kinds, strict=True):
                height, row_bytes = self._weights.shape(name)[-2], raw.shape[-1]
                entries.append((raw.ctypes.data, kind.value, height, row_bytes, height * row_bytes, rows))
                rows += height
            columns = self._weights.shape(names[0])[-1]
            floats = [kind in FLOATS for kind in kinds]
            table = np.array(entries, np.int64)
            found = Matrices(table, columns, rows, not all(floats), any(floats), raws)
            self._matrices[names] = found
        return found

    def vector(self, name: str) -> np.ndarray:
        """A norm's weights, dequantized."""
        found = self._vectors.get(name)
        if found is None:
            values = dequantize(self._weights.raw(name), self._weights.type_of(name))
            found = np.array(values, np.float32).reshape(-1)
            self._vectors[name] = found
        return found


def rows_at_once(rows: int, groups: int, threads: int) -> int:
    """Rows that a thread computes at a time: long stretches of memory, but shares for all threads."""
    return min(max(-(-rows * groups // (8 * threads)), 8), 64)


def room_bytes(columns: int) -> int:
    """Bytes that the rounded values of one token take."""
    return -(-columns // products.BLOCK) * (2 * 256 + 2 * 16 + 2 * 8 + 4)


def room(slots: int, columns: int, *, floats: bool) -> products.Packed:
    """Arrays for the packed values of so many slots, see `products.pack`."""
    size = slots * -(-columns // products.BLOCK)
    return (
        _lines(size * 256, np.int8),
        _lines(size * 256, np.int8),
        _lines(size * 16, np.int16),
        _lines(size * 8, np.int16),
        _lines(size, np.float32),
        _lines(slots * columns, np.float32) if floats else _EMPTY,
    )


def _lines(count: int, kind: type[np.generic]) -> np.ndarray:
    """An empty array that begins with a line of the cache: no vector of a panel lies in two."""
    size = np.dtype(kind).itemsize
    found = np.empty(count + _LINE // size, kind)
    start = -found.ctypes.data % _LINE // size
    return found[start : start + count]

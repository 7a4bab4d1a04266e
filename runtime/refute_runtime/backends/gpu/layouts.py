"""Weights and activations as they lie on the device; `kernels/common.cuh` tells the kernels the same."""

from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.blocks import BLOCK, FLOATS, TYPES
from refute_runtime.quant import BLOCKS

ALIGNMENT = 16  # bytes: of rows of planes and of activations
# what a block has in the file, from byte to byte, in the order of its planes on the device
PLANES: dict[TensorType, tuple[tuple[int, int], ...]] = {
    TensorType.Q6_K: ((0, 128), (128, 192), (192, 208), (208, 210)),  # low halves, upper bits, scales, d
    TensorType.Q8_0: ((2, 34), (0, 2)),  # elements, d
    TensorType.Q4_0: ((2, 18), (0, 2)),
}


def row_bytes(kind: TensorType, columns: int) -> int:
    """Bytes from one row of a matrix on the device to the next."""
    elements, size = BLOCKS[kind]
    if kind not in TYPES or columns % elements:
        names = ", ".join(each.name for each in TYPES)
        raise ValueError(f"{kind.name} with {columns} columns, expected one of {names} in whole blocks")
    plain = columns // elements * size
    return _up(plain) if kind in PLANES else plain


def to_device(raw: np.ndarray, kind: TensorType) -> np.ndarray:
    """Rearrange rows of a file, uint8 (..., bytes), as the kernels read them: uint8 (..., row_bytes)."""
    if kind not in PLANES:
        return raw
    elements, size = BLOCKS[kind]
    blocks = raw.shape[-1] // size
    cut = raw.reshape(*raw.shape[:-1], blocks, size)
    out = np.zeros((*raw.shape[:-1], row_bytes(kind, blocks * elements)), np.uint8)
    done = 0
    for start, end in PLANES[kind]:
        width = blocks * (end - start)
        out[..., done : done + width] = cut[..., start:end].reshape(*raw.shape[:-1], width)
        done += width
    return out


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix (rows, columns) on the device at an address, or E of them one after the other."""

    address: int
    kind: TensorType
    rows: int
    columns: int

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.kind, self.columns)

    @property
    def nbytes(self) -> int:
        """Bytes of one matrix."""
        return self.rows * self.row_bytes

    @property
    def floats(self) -> bool:
        """Whether it is multiplied with float32 activations instead of rounded ones."""
        return self.kind in FLOATS


@dataclass(frozen=True, slots=True)
class Rounded:
    """Addresses of activations of `columns` rounded to int8.

    q (T, 256 B) int8, d (T, B) float32, sums (T, 8 B) int16, with B = ceil(columns / 256).
    """

    q: int
    d: int
    sums: int
    columns: int

    @staticmethod
    def nbytes(rows: int, columns: int) -> int:
        """Bytes of all three for so many rows."""
        blocks = rows * -(-columns // BLOCK)
        return blocks * BLOCK + blocks * 16 + _up(blocks * 4)

    @classmethod
    def at(cls, address: int, rows: int, columns: int) -> "Rounded":
        """The three one after the other from a multiple of 16 on."""
        blocks = rows * -(-columns // BLOCK)
        return cls(address, address + blocks * (BLOCK + 16), address + blocks * BLOCK, columns)

    def behind(self, rows: int) -> "Rounded":
        """These without the first rows; none where there are none."""
        blocks = rows * -(-self.columns // BLOCK) if self.q else 0
        return Rounded(self.q + blocks * BLOCK, self.d + blocks * 4, self.sums + blocks * 16, self.columns)


def _up(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT

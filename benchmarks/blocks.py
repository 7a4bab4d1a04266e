"""Random tensors in the block types of GGUF files: weights of a wanted spread, every bit of them in use.

Random bytes are no weights: scales would be infinite and means far from zero. Here every quantum is uniform,
scales are chosen so that the mean is zero and the standard deviation is the one asked for, and no two rows
are equal, so that a kernel that reads the wrong row gives another answer.
"""

from collections.abc import Callable
from math import sqrt

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as TensorType

_Maker = Callable[[np.ndarray, float, np.random.Generator], None]  # fills blocks (B, bytes)

_AT_ONCE = 1 << 19  # bytes: they stay in the cache until they are whole
_SIXES = 1333.5  # mean square of a scale that is uniform in 0 to 63


def random_rows(
    kind: TensorType, rows: int, columns: int, std: float, rng: np.random.Generator
) -> np.ndarray:
    """Bytes (rows, row bytes) of a random matrix of a type. Raises ValueError for a type not listed here."""
    elements, size = GGML_QUANT_SIZES[kind]
    if kind not in _MAKERS or columns % elements:
        known = ", ".join(each.name for each in _MAKERS)
        raise ValueError(f"rows of {columns} {kind.name}: expected whole blocks of {known}")
    made = np.empty((rows * columns // elements, size), np.uint8)
    step = max(1, _AT_ONCE // size)
    for start in range(0, len(made), step):
        _MAKERS[kind](made[start : start + step], std, rng)
    return made.reshape(rows, -1)


def _fill(blocks: np.ndarray, rng: np.random.Generator) -> None:
    """Random bits in all of them."""
    words = rng.integers(0, 1 << 64, -(-blocks.size // 8), dtype=np.uint64)
    blocks.reshape(-1)[:] = words.view(np.uint8)[: blocks.size]


def _put_half(blocks: np.ndarray, at: int, values: np.ndarray) -> None:
    blocks[:, at : at + 2] = values.astype(np.float16).view(np.uint8).reshape(-1, 2)


def _scales(count: int, std: float, mean_square: float, rng: np.random.Generator) -> np.ndarray:
    """Scales (count,) that differ from block to block and give the wanted spread."""
    scatter = rng.uniform(0.8, 1.2, count)  # mean square 1.0133
    scaled: np.ndarray = std / sqrt(mean_square * 1.0133) * scatter
    return scaled


def _k_with_minimum(middle: float, mean_square: float) -> _Maker:
    """Q4_K and Q5_K: minimum and scale of a sub-block are one number, so that `middle` quanta become 0."""

    def make(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
        # d f16 | dmin f16 | 12 bytes: scales of four sub-blocks, minimums, the low halves of the other four
        _fill(blocks, rng)
        blocks[:, 8:12] = blocks[:, 4:8]
        blocks[:, 12:16] = (blocks[:, 12:16] & 15) * 17
        d = _scales(len(blocks), std, _SIXES * mean_square, rng).astype(np.float16)
        _put_half(blocks, 0, d)
        _put_half(blocks, 2, d.astype(np.float32) * np.float32(middle))

    return make


def _q6_k(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
    # 192 bytes of quanta, -32 to 31 | 16 x int8 scales, of either sign and at least 16 | d f16
    _fill(blocks, rng)
    signs = blocks[:, 192:208].view(np.int8)
    sizes = signs & 63 | 16  # 16 to 31 and 48 to 63
    signs[:] = np.where(signs < 0, -sizes, sizes)
    _put_half(blocks, 208, _scales(len(blocks), std, 1837.5 * 341.5, rng))


def _q8_0(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
    # d f16 | 32 x int8; no quantizer writes -128
    _fill(blocks, rng)
    quanta = blocks[:, 2:].view(np.int8)
    np.maximum(quanta, -127, out=quanta)
    _put_half(blocks, 0, _scales(len(blocks), std, 5440.0, rng))


def _q4_0(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
    # d f16, of either sign as quantizers write it | 16 bytes of quanta, -8 to 7
    _fill(blocks, rng)
    d = _scales(len(blocks), std, 21.5, rng)
    _put_half(blocks, 0, np.where(blocks[:, 0] & 1, d, -d))


def _float(as_bits: Callable[[np.ndarray], np.ndarray]) -> _Maker:
    def make(blocks: np.ndarray, std: float, rng: np.random.Generator) -> None:
        values = rng.standard_normal(len(blocks), dtype=np.float32) * np.float32(std)
        blocks[:] = as_bits(values).view(np.uint8).reshape(blocks.shape)

    return make


def _to_f16(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16)


def _to_bf16(values: np.ndarray) -> np.ndarray:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


_MAKERS: dict[TensorType, _Maker] = {
    TensorType.Q4_K: _k_with_minimum(7.5, 21.25),
    TensorType.Q5_K: _k_with_minimum(15.5, 85.25),
    TensorType.Q6_K: _q6_k,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_0: _q4_0,
    TensorType.F16: _float(_to_f16),
    TensorType.BF16: _float(_to_bf16),
    TensorType.F32: _float(np.ascontiguousarray),
}

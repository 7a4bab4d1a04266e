"""What the numerics `q8` compute with: types, and blocks as integers, of activations and of weights."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.quant import BLOCKS

BLOCK = 256  # activations that are rounded together
FLOATS = (TensorType.F32, TensorType.F16, TensorType.BF16)
TYPES = (
    *FLOATS, TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K,
)  # fmt: skip
SPLIT = 64  # rows of the cache that attention takes together, at absolute positions
_SMALLEST = np.float32(2.0**-100)  # a block with nothing larger is rounded to zero


def unknown_type(types: Mapping[str, TensorType]) -> str | None:
    """Name the first tensor whose type these numerics do not have, or None."""
    for name, kind in types.items():
        if kind not in TYPES:
            known = ", ".join(each.name for each in TYPES)
            return f"the tensor {name} has type {kind.name}, expected one of {known}"
    return None


@dataclass(frozen=True, slots=True)
class Rounded:
    """Rows rounded to int8: q (T, B, 256), what one of them is worth d (T, B); B = ceil(C / 256)."""

    q: np.ndarray
    d: np.ndarray


def rounded(x: np.ndarray) -> Rounded:
    """Round rows (T, C) in blocks of 256, zero behind the last element; NaN where a block is not finite."""
    T, C = x.shape
    blocks = np.zeros((T, -(-C // BLOCK), BLOCK), np.float32)
    blocks.reshape(T, -1)[:, :C] = x
    with np.errstate(all="ignore"):
        largest = np.abs(blocks).max(axis=-1)  # NaN where there is one
        sound = np.isfinite(largest)
        counts = sound & (largest >= _SMALLEST)
        inverse = np.where(counts, np.float32(127) / largest, np.float32(0))
        worth = np.where(counts, largest / np.float32(127), np.float32(0))
        values = blocks * inverse[..., None]
        q = np.rint(np.where(np.isnan(values), np.float32(0), values)).astype(np.int8)
        return Rounded(q, np.where(sound, worth, np.float32(np.nan)))


Integers = tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]
"""Elements times the scales of their sub-blocks (rows, B, n), what one is worth (rows, B); for types with
minimums those of the sub-blocks of 32 (rows, B, 8), and what one of them is worth (rows, B)."""


def integers(raw: np.ndarray, kind: TensorType) -> Integers:
    """Take rows (rows, row_bytes) of Q4_K, Q5_K, Q6_K, Q8_0 or Q4_0 apart."""
    blocks = raw.reshape(len(raw), -1, BLOCKS[kind][1])
    if kind is TensorType.Q8_0:
        return blocks[..., 2:].view(np.int8).astype(np.int32), _half(blocks, 0), None, None
    if kind is TensorType.Q4_0:
        both = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], axis=-1)
        return both.astype(np.int32) - 8, _half(blocks, 0), None, None
    if kind is TensorType.Q6_K:
        return _six(blocks), _half(blocks, 208), None, None
    scales, minimums = _scales(blocks)
    data = blocks[..., 48:] if kind is TensorType.Q5_K else blocks[..., 16:]
    pairs = data.reshape(*data.shape[:2], 4, 1, 32)  # 64 elements: the low halves, then the high ones
    q = np.concatenate([pairs & 15, pairs >> 4], axis=-2).reshape(*data.shape[:2], 8, 32).astype(np.int32)
    if kind is TensorType.Q5_K:
        bits = blocks[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]
        q |= (bits & 1).astype(np.int32) << 4
    weights = (q * scales[..., None]).reshape(*data.shape[:2], BLOCK)
    return weights, _half(blocks, 0), minimums, _half(blocks, 2)


def _half(blocks: np.ndarray, at: int) -> np.ndarray:
    """The float16 at a byte of every block, as float32."""
    found = np.ascontiguousarray(blocks[..., at : at + 2]).view(np.float16)[..., 0]
    return found.astype(np.float32)


def _scales(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The eight scales and minimums, of six bits each, of Q4_K and Q5_K."""
    a, b, c = (blocks[..., at : at + 4].astype(np.int32) for at in (4, 8, 12))
    scales = np.concatenate([a & 63, (c & 15) | ((a >> 2) & 48)], axis=-1)
    minimums = np.concatenate([b & 63, (c >> 4) | ((b >> 2) & 48)], axis=-1)
    return scales, minimums


def _six(blocks: np.ndarray) -> np.ndarray:
    """Elements of Q6_K times the scales of their sub-blocks of 16: (rows, B, 256)."""
    shape = blocks.shape[:2]
    # of 128 elements the low halves of 64 bytes, then the high ones
    low = blocks[..., :128].reshape(*shape, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=-2).reshape(*shape, 2, 4, 32)
    high = blocks[..., 128:192].reshape(*shape, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None]
    q = (low | ((high & 3) << 4)).astype(np.int32) - 32
    scales = blocks[..., 192:208].view(np.int8).astype(np.int32)
    found: np.ndarray = (q.reshape(*shape, 16, 16) * scales[..., None]).reshape(*shape, BLOCK)
    return found

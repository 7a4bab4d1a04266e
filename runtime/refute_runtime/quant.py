"""GGUF tensor blocks to float32, over an array namespace (NumPy or CuPy).

A row is a run of blocks; a block holds a fixed number of elements in a fixed number of bytes. Below, B is
the number of blocks and the comments show a block's bytes. The operations and their order are those of
`gguf.quants`, so that the results agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as TensorType

Array = Any  # numpy.ndarray or cupy.ndarray

# elements and bytes of a block, by type
BLOCKS: dict[TensorType, tuple[int, int]] = dict(gguf.GGML_QUANT_SIZES)

_CHUNK = 1 << 18  # elements dequantized at once: the intermediate arrays stay in the cache


def dequantizable(tensor_type: TensorType) -> bool:
    """Tell whether `dequantize` knows the type."""
    known = tensor_type is TensorType.F32 or tensor_type in _DEQUANTIZERS
    return known or tensor_type in gguf.quants._type_traits  # noqa: SLF001 (no public list)


def dequantize(raw: Array, tensor_type: TensorType, xp: Any = np, out: Array | None = None) -> Array:
    """Turn bytes (..., row_bytes) into float32 (..., row_elements) of `xp`; float32 itself is only viewed.

    `raw` is uint8, of NumPy or of `xp`. out: where the values are written, if not into a new array. The
    types that are not written out below go through `gguf`, on the host.
    """
    elements, size = BLOCKS[tensor_type]
    *outer, row_bytes = raw.shape
    shape = (*outer, row_bytes // size * elements)
    if tensor_type is TensorType.F32:
        return xp.ascontiguousarray(xp.asarray(raw)).view(xp.float32)
    convert = _DEQUANTIZERS.get(tensor_type) or partial(_by_gguf, tensor_type)
    blocks = xp.asarray(raw).reshape(-1, size)
    values = xp.empty((len(blocks), elements), dtype=xp.float32) if out is None else out.reshape(-1, elements)
    step = max(1, _CHUNK // elements)
    with np.errstate(all="ignore"):  # infinities and NaNs of a broken model are the model's to show
        for start in range(0, len(blocks), step):
            values[start : start + step] = convert(blocks[start : start + step], xp)
    return values.reshape(shape)


def _by_gguf(tensor_type: TensorType, blocks: Array, xp: Any) -> Array:
    host = blocks.get() if hasattr(blocks, "get") else blocks
    row = np.ascontiguousarray(host).reshape(1, -1)  # gguf loops over rows: one long row is ten times faster
    return xp.asarray(gguf.dequantize(row, tensor_type)).reshape(len(blocks), -1)


def _halves(blocks: Array, start: int, xp: Any) -> Array:
    """Read the float16 at byte `start` of every block: (B, 1) float32."""
    return xp.ascontiguousarray(blocks[:, start : start + 2]).view(xp.float16).astype(xp.float32)


def _unpack(packed: Array, shifts: tuple[int, ...], mask: int, group: int, xp: Any) -> Array:
    """Cut (B, n) bytes into groups, each group into a row of bits per shift: (B, n/group*shifts, group)."""
    parts = xp.asarray(shifts, dtype=xp.uint8).reshape(1, 1, -1, 1)
    bits = (packed.reshape(len(packed), -1, 1, group) >> parts) & xp.uint8(mask)
    return bits.reshape(len(packed), -1, group)


def _f16(blocks: Array, xp: Any) -> Array:
    return xp.ascontiguousarray(blocks).view(xp.float16).astype(xp.float32)


def _bf16(blocks: Array, xp: Any) -> Array:
    return (xp.ascontiguousarray(blocks).view(xp.uint16).astype(xp.uint32) << 16).view(xp.float32)


def _q8_0(blocks: Array, xp: Any) -> Array:
    # d f16 | 32 x int8
    return xp.ascontiguousarray(blocks[:, 2:]).view(xp.int8).astype(xp.float32) * _halves(blocks, 0, xp)


def _q4_0(blocks: Array, xp: Any) -> Array:
    # d f16 | 16 bytes: elements 0-15 in the low halves, 16-31 in the high ones; zero point 8
    q = _unpack(blocks[:, 2:], (0, 4), 0x0F, 16, xp).reshape(len(blocks), 32)
    return _halves(blocks, 0, xp) * (q.astype(xp.float32) - xp.float32(8))


def _scales_and_minimums(blocks: Array, xp: Any) -> tuple[Array, Array]:
    """Scale and minimum of the 8 sub-blocks of Q4_K and Q5_K, (B, 8, 1) float32 each.

    d f16 | dmin f16 | 12 bytes: six bits of four scales, of four minimums, then the low halves of the other
    four scales and minimums, whose upper two bits are the upper two bits of the first eight bytes.
    """
    a, b, c = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = xp.concatenate([a & 0x3F, (c & 0x0F) | ((a >> 2) & 0x30)], axis=1)
    minimums = xp.concatenate([b & 0x3F, (c >> 4) | ((b >> 2) & 0x30)], axis=1)
    d = _halves(blocks, 0, xp) * scales.astype(xp.float32)
    m = _halves(blocks, 2, xp) * minimums.astype(xp.float32)
    return d[:, :, None], m[:, :, None]


def _q4_k(blocks: Array, xp: Any) -> Array:
    # scales 16 | 4 x 32 bytes: a sub-block of 32 in the low halves, the next one in the high halves
    d, m = _scales_and_minimums(blocks, xp)
    q = _unpack(blocks[:, 16:], (0, 4), 0x0F, 32, xp).astype(xp.float32)
    return (d * q - m).reshape(len(blocks), 256)


def _q5_k(blocks: Array, xp: Any) -> Array:
    # scales 16 | 32 bytes: bit s of byte i is the fifth bit of element i of sub-block s | halves as in Q4_K
    d, m = _scales_and_minimums(blocks, xp)
    high = _unpack(blocks[:, 16:48], tuple(range(8)), 0x01, 32, xp)
    low = _unpack(blocks[:, 48:], (0, 4), 0x0F, 32, xp)
    q = (low | (high << xp.uint8(4))).astype(xp.float32)
    return (d * q - m).reshape(len(blocks), 256)


def _q6_k(blocks: Array, xp: Any) -> Array:
    # 2 x 64 bytes: low halves | 2 x 32 bytes: upper two bits | 16 x int8 scales | d f16; zero point 32
    scales = xp.ascontiguousarray(blocks[:, 192:208]).view(xp.int8).astype(xp.float32)
    d = _halves(blocks, 208, xp) * scales
    low = _unpack(blocks[:, :128], (0, 4), 0x0F, 64, xp).reshape(-1, 8, 32)
    high = _unpack(blocks[:, 128:192], (0, 2, 4, 6), 0x03, 32, xp)
    q = (low | (high << xp.uint8(4))).astype(xp.float32) - xp.float32(32)
    return (d[:, :, None] * q.reshape(-1, 16, 16)).reshape(len(blocks), 256)


_DEQUANTIZERS: dict[TensorType, Callable[[Array, Any], Array]] = {
    TensorType.F16: _f16,
    TensorType.BF16: _bf16,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_0: _q4_0,
    TensorType.Q4_K: _q4_k,
    TensorType.Q5_K: _q5_k,
    TensorType.Q6_K: _q6_k,
}

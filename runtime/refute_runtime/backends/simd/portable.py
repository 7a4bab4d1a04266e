"""Rows of quantized blocks times int8 activations in plain loops, for processors without AVX-512 and VNNI.

A block is unpacked once, to integers that hold its sub-blocks' scales already, and multiplied with each
token of the panel; LLVM makes vectors of the loops, of whatever width there is. What comes out equals `vnni`
bit for bit: integers are exact, and the floats come in the same order (see `products`).
"""

import numpy as np
from numba import njit

from refute_runtime.backends.simd.scalars import (
    fma,
    load_float,
    load_half,
    load_i8,
    load_i16,
    load_u8,
    prefetch,
    store_float,
)

AHEAD = 2048  # bytes
Q4_0, Q8_0, Q4_K, Q5_K, Q6_K = 2, 8, 12, 13, 14  # as GGUF numbers its types


@njit(nogil=True)
def _six_bits(block: int, scales: np.ndarray, minimums: np.ndarray) -> None:
    """The eight scales and minimums of Q4_K and Q5_K, into int32 arrays."""
    for i in range(4):
        a, b, c = load_u8(block, 4 + i), load_u8(block, 8 + i), load_u8(block, 12 + i)
        scales[i], minimums[i] = a & 63, b & 63
        scales[4 + i] = (c & 15) | ((a >> 2) & 48)
        minimums[4 + i] = (c >> 4) | ((b >> 2) & 48)


@njit(nogil=True)
def _unpack_k(kind: int, block: int, w: np.ndarray, scales: np.ndarray) -> None:
    """Elements of a block times the scales of their sub-blocks: w (256) int16."""
    if kind == Q6_K:
        for half in range(2):
            for part in range(4):
                low, high = 64 * half + 32 * (part & 1), 128 + 32 * half
                to = w[128 * half + 32 * part : 128 * half + 32 * part + 32]
                for j in range(2):
                    scale = load_i8(block, 192 + 8 * half + 2 * part + j)
                    for i in range(16):
                        at = 16 * j + i
                        q = (load_u8(block, low + at) >> (4 * (part >> 1))) & 15
                        q |= ((load_u8(block, high + at) >> (2 * part)) & 3) << 4
                        to[at] = np.int16((q - 32) * scale)
        return
    data = 48 if kind == Q5_K else 16
    for pair in range(4):
        for upper in range(2):
            sub = 2 * pair + upper
            scale = scales[sub]
            to = w[32 * sub : 32 * sub + 32]
            if kind == Q5_K:
                for i in range(32):
                    q = (load_u8(block, data + 32 * pair + i) >> (4 * upper)) & 15
                    q |= ((load_u8(block, 16 + i) >> sub) & 1) << 4
                    to[i] = np.int16(q * scale)
            else:
                for i in range(32):
                    q = (load_u8(block, data + 32 * pair + i) >> (4 * upper)) & 15
                    to[i] = np.int16(q * scale)


@njit(nogil=True)
def _k_row(
    kind: int,
    size: int,
    width: int,
    weights: int,
    blocks: int,
    plain: int,
    sums: int,
    d: int,
    out: int,
    stride: int,
) -> None:
    """Q4_K, Q5_K (`sums` of 32) and Q6_K. Two totals for each token: of elements, and of minimums."""
    w = np.empty(256, np.int16)
    scales, minimums = np.empty(8, np.int32), np.zeros(8, np.int32)
    totals, below = np.zeros(8, np.float32), np.zeros(8, np.float32)
    for index in range(blocks):
        block = weights + index * size
        for line in range(0, size, 64):
            prefetch(block, AHEAD + line)
        if kind == Q6_K:
            scale, lowest = load_half(block, 104), np.float32(0)
        else:
            _six_bits(block, scales, minimums)
            scale, lowest = load_half(block, 0), load_half(block, 1)
        _unpack_k(kind, block, w, scales)
        for token in range(width):
            x = plain + (index * width + token) * 256
            v = np.int32(0)
            for i in range(256):
                v = np.int32(v + np.int32(np.int32(w[i]) * load_i8(x, i)))
            step = load_float(d, index * width + token)
            totals[token] = fma(np.float32(v), np.float32(step * scale), totals[token])
            if kind != Q6_K:
                m = np.int32(0)
                for i in range(8):
                    m = np.int32(m + np.int32(minimums[i] * load_i16(sums, (index * width + token) * 8 + i)))
                below[token] = fma(np.float32(m), np.float32(step * lowest), below[token])
    for token in range(width):
        total = totals[token] if kind == Q6_K else np.float32(totals[token] - below[token])
        store_float(out, token * stride, total)


@njit(nogil=True)
def _small_row(
    kind: int, width: int, weights: int, blocks: int, plain: int, sums: int, d: int, out: int, stride: int
) -> None:
    """Q8_0 and Q4_0: blocks of 32; lane i of eight holds the blocks i, i + 8 ... of the row."""
    size, zero_point = (34, 128) if kind == Q8_0 else (18, 8)
    w = np.empty(32, np.int16)
    totals = np.zeros((8, 8), np.float32)  # token, lane
    for index in range(blocks):
        block, group, lane = weights + index * size, index >> 3, index & 7
        prefetch(block, AHEAD)
        scale = load_half(block, 0)
        if kind == Q8_0:
            for i in range(32):
                w[i] = np.int16(load_i8(block, 2 + i) + 128)
        else:
            for i in range(16):
                byte = load_u8(block, 2 + i)
                w[i], w[16 + i] = np.int16(byte & 15), np.int16(byte >> 4)
        for token in range(width):
            at = group * width + token
            x = plain + at * 256 + lane * 32
            v = np.int32(0)
            for i in range(32):
                v = np.int32(v + np.int32(np.int32(w[i]) * load_i8(x, i)))
            v = np.int32(v - np.int32(zero_point * load_i16(sums, at * 8 + lane)))
            step = np.float32(scale * load_float(d, at))
            totals[token, lane] = fma(np.float32(v), step, totals[token, lane])
    for token in range(width):
        store_float(out, token * stride, folded(totals[token]))


@njit(nogil=True)
def folded(lanes: np.ndarray) -> np.float32:
    """Total of eight lanes, the upper half added to the lower one until one is left."""
    a, b = lanes[0] + lanes[4], lanes[1] + lanes[5]
    c, d = lanes[2] + lanes[6], lanes[3] + lanes[7]
    return np.float32(np.float32(a + c) + np.float32(b + d))


@njit(nogil=True)
def row(
    kind: int,
    width: int,
    weights: int,
    blocks: int,
    plain: int,
    shuffled: int,  # noqa: ARG001 (the arguments of `vnni.row`)
    halves: int,  # noqa: ARG001
    wholes: int,
    d: int,
    out: int,
    stride: int,
) -> None:
    """Multiply one row with a panel, see `products.multiply`."""
    if kind == Q4_K:
        _k_row(kind, 144, width, weights, blocks, plain, wholes, d, out, stride)
    elif kind == Q5_K:
        _k_row(kind, 176, width, weights, blocks, plain, wholes, d, out, stride)
    elif kind == Q6_K:
        _k_row(kind, 210, width, weights, blocks, plain, wholes, d, out, stride)
    else:
        _small_row(kind, width, weights, blocks, plain, wholes, d, out, stride)

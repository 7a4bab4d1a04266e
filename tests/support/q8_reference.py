"""What the numerics `q8` give of plain arrays, operation by operation: by kernels of the `cpu` backend."""

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends import cpu, matrices
from refute_runtime.backends.simd import layers, products
from refute_runtime.quant import BLOCKS

HALVES = {  # where a block has its scales
    TensorType.Q8_0: (0,),
    TensorType.Q4_0: (0,),
    TensorType.Q4_K: (0, 2),
    TensorType.Q5_K: (0, 2),
    TensorType.Q6_K: (208,),
}


def random_rows(kind, rows, columns, rng, scale=0.01):
    """Bytes of random blocks (rows, row_bytes)."""
    floats = rng.standard_normal((rows, columns)).astype(np.float32) * np.float32(scale)
    if kind is TensorType.F32:
        return floats.view(np.uint8)
    if kind is TensorType.F16:
        return floats.astype(np.float16).view(np.uint8)
    if kind is TensorType.BF16:
        return np.ascontiguousarray(floats.view(np.uint16)[:, 1::2]).view(np.uint8)
    elements, size = BLOCKS[kind]
    raw = rng.integers(0, 256, (rows, columns // elements, size), dtype=np.uint8)
    for at in HALVES[kind]:
        d = rng.uniform(-1, 1, raw.shape[:2]) * scale
        raw[:, :, at : at + 2] = d.astype(np.float16)[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


def product(raw, kind, x):
    """x (T, C) times rows (rows, bytes): (T, rows)."""
    table = np.array([[raw.ctypes.data, kind.value, len(raw), raw.shape[-1], 0, 0]], np.int64)
    floats = kind in (TensorType.F32, TensorType.F16, TensorType.BF16)
    packed, panels = packed_rows(x, floats=floats)
    out = np.empty((panels.count, len(raw)), np.float32)
    products.multiply(table, x.shape[1], panels.panels, panels.groups, packed, out, 16)
    return out[: len(x)]


def packed_rows(x, *, floats=False):
    """Rows (T, C) as `products.pack` has them, and their panels."""
    panels = cpu._in_order(len(x))
    packed = matrices.room(panels.count, x.shape[1], floats=floats)
    products.pack(np.array(x), panels.slots, packed, not floats, floats)
    return packed, panels


def rounded(x):
    """Rows (T, C) rounded one by one: q (T, B, 256), d (T, B), sums of 32 (T, B, 8)."""
    q, d, sums = [], [], []
    for row in x:
        packed, _ = packed_rows(row[None])
        q.append(packed[0].reshape(-1, 256).copy())
        d.append(packed[4].copy())
        sums.append(packed[3].reshape(-1, 8).copy())
    return np.array(q), np.array(d), np.array(sums)


def norm(x, weight, eps):
    """RMSNorm of rows."""
    out = np.empty_like(x)
    layers.norm(x, weight, np.float32(eps), out)
    return out


def swiglu(gate, up):
    """silu(gate) * up of rows (T, F), by way of what an identity matrix gives of it."""
    T, F = gate.shape
    panels = cpu._in_order(T)
    packed = matrices.room(panels.count, F, floats=True)
    both = np.zeros((panels.count, 2 * F), np.float32)
    both[:T, :F], both[:T, F:] = gate, up
    products.pack_swiglu(both, panels.slots, packed, False, True)
    return packed[5].reshape(panels.count, F)[:T]


def weighted_sum(results, shares):
    """Sum over K of shares (T, K) times results (T * K, H)."""
    T, K = shares.shape
    out = np.empty((T, results.shape[1]), np.float32)
    layers.weighted_sum(results, np.arange(T * K).reshape(T, K), shares, out)
    return out


def heads(both, N, G, weights, tables, eps):
    """q (T, N, D), k and v (T, G, D) of rows (T, (N + 2 G) D)."""
    T, D = len(both), len(weights[0])
    q = np.empty((T, N, D), np.float32)
    k, v = np.empty((T, G, D), np.float32), np.empty((T, G, D), np.float32)
    layers.heads_of(both, q, k, v, *weights, *tables, np.float32(eps))
    return q, k, v


def attention(q, k, v, before):
    """Of q (T, N, D) over k, v (R, G, D) of float16, `before` rows before the first query's: (T, N * D)."""
    T, N, D = q.shape
    if before < 0:  # a query that would see no row sees the first one
        return np.concatenate([attention(q[t : t + 1], k, v, max(before + t, 0)) for t in range(T)])
    rows = before + T
    k, v = (np.ascontiguousarray(each[:rows]).view(np.uint16) for each in (k, v))
    splits = -(-rows // layers.SPLIT)
    sums, parts = np.empty((T, N, splits, 2), np.float32), np.empty((T, N, splits, D), np.float32)
    out = np.empty((T, N, D), np.float32)
    layers.attend(q, k, v, np.float32(D**-0.5), sums, parts, out)
    return out.reshape(T, N * D)


def route(logits, K):
    """Experts, shares and gaps of logits (T, E)."""
    T = len(logits)
    chosen, shares, gaps = np.empty((T, K), np.int64), np.empty((T, K), np.float32), np.empty(T, np.float32)
    layers.route(logits, chosen, shares, gaps)
    return chosen, shares, gaps

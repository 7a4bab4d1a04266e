"""One token through all layers in one call, for models whose layers all have experts.

Between two kernels, Python finds its own code and objects thrown out of the processor's cache by the weights,
and OpenMP's threads fall asleep: 7 % of the time of a token on a model of 1.7 GB, half of it on the embedded
one. The operations are those of `layers` and `products`, and so are the bits.

L layers, other letters as in `backends/base.py`; F is the width of an expert.
"""

import numpy as np
from numba import njit

from refute_runtime.backends.simd.build import kernel
from refute_runtime.backends.simd.layers import SPLIT, attend, choose, norm_row, prepare, store_rows
from refute_runtime.backends.simd.products import ARRAYS, Packed, multiply, pack_row, pack_swiglu
from refute_runtime.backends.simd.scalars import fma

QKV, OUT, ROUTER, GATE_UP, DOWN = range(5)  # the products of a layer, of 3, 1, 1, 2 and 1 matrices

_ROWS = "float32[:,::1]"
_TABLE = "int64[:,::1]"
_CACHE = "uint16[:,:,:,::1]"


@njit(nogil=True, error_model="numpy")
def _add_weighted(results: np.ndarray, shares: np.ndarray, x: np.ndarray) -> None:
    """Add the sum over K of share * result to x (H,); results (K, H)."""
    for i in range(x.size):
        total = np.float32(0)
        for j in range(len(shares)):
            total = fma(shares[j], results[j, i], total)
        x[i] += total


@kernel(
    f"void({_ROWS}, int64[:,:,::1], {_TABLE}, boolean[:,:,::1], {_TABLE}, {_ROWS}, {_ROWS}, {_ROWS}, {_ROWS},"
    f" float32[::1], {_ROWS}, {_ROWS}, float32, {_CACHE}, {_CACHE}, int64, float32, {ARRAYS}, {ARRAYS},"
    f" {_TABLE}, {_ROWS}, float32[::1], {_ROWS})",
    nogil=True, error_model="numpy",
)  # fmt: skip
def token(
    x: np.ndarray,
    tables: np.ndarray,
    output: np.ndarray,
    forms: np.ndarray,
    chunks: np.ndarray,
    attention_norms: np.ndarray,
    query_norms: np.ndarray,
    key_norms: np.ndarray,
    forward_norms: np.ndarray,
    output_norm: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    eps: float,
    keys: np.ndarray,
    values: np.ndarray,
    past: int,
    scale: float,
    packed: Packed,
    packed_experts: Packed,
    chosen: np.ndarray,
    shares: np.ndarray,
    gaps: np.ndarray,
    logits: np.ndarray,
) -> None:
    """From the embedded token x (1, H), which is overwritten, to its logits (1, V).

    tables: (L, 8, 6), the matrices of each layer as `products` takes them; output: (1, 6). forms: (L + 1, 5,
    2), which forms of the values a product needs, rounded and as they are; chunks: (L + 1, 5), see
    `products.multiply`; the last row of both is the output's. keys, values: (L, G,
    capacity, D), bits of float16, whose row `past` is written. Also written: chosen and shares (L, K), and
    gaps (L,).
    """
    L, K = chosen.shape
    H, G, D = x.shape[1], keys.shape[1], keys.shape[3]
    attended = int(tables[0, 0, 2])
    N, E, F = attended // D, int(tables[0, 4, 2]), int(tables[0, 5, 2])
    splits = past // SPLIT + 1
    h = np.empty(max(H, attended), np.float32)
    both, router = np.empty((1, (N + 2 * G) * D), np.float32), np.empty((1, E), np.float32)
    q, k, v = np.empty((1, N, D), np.float32), np.empty((G, D), np.float32), np.empty((G, D), np.float32)
    sums, parts = np.empty((1, N, splits, 2), np.float32), np.empty((1, N, splits, D), np.float32)
    heads, added = np.empty((1, N, D), np.float32), np.empty((1, H), np.float32)
    between, results = np.empty((K, 2 * F), np.float32), np.empty((K, H), np.float32)
    one, alone = np.array([[0, 0, 0, 1]]), np.array([0, 1])  # one panel, one group
    slots, groups = np.zeros((K, 4), np.int64), np.arange(K + 1)
    slots[:, 0], slots[:, 2], slots[:, 3] = groups[:K], 1, groups[:K]
    read, panels = np.zeros((K, 4), np.int64), np.zeros((K, 4), np.int64)
    panels[:, 1], panels[:, 2], panels[:, 3] = groups[:K], groups[:K], 1
    read[:, 2], read[:, 3] = groups[:K], 1
    row = x[0]
    for layer in range(L):
        table, form, chunk = tables[layer], forms[layer], chunks[layer]
        norm_row(row, attention_norms[layer], eps, h[:H])
        pack_row(h[:H], 0, 0, 1, packed, form[QKV, 0], form[QKV, 1])
        multiply(table[0:3], H, one, alone, packed, both, chunk[QKV])
        prepare(both[0], q[0], k, v, query_norms[layer], key_norms[layer], cos[0], sin[0], eps)
        k_of, v_of = keys[layer].transpose(1, 0, 2), values[layer].transpose(1, 0, 2)  # (capacity, G, D)
        store_rows(k, k_of[past])
        store_rows(v, v_of[past])
        attend(q, k_of[: past + 1], v_of[: past + 1], scale, sums, parts, heads)
        pack_row(heads.reshape(attended), 0, 0, 1, packed, form[OUT, 0], form[OUT, 1])
        multiply(table[3:4], attended, one, alone, packed, added, chunk[OUT])
        for i in range(H):
            row[i] += added[0, i]
        norm_row(row, forward_norms[layer], eps, h[:H])
        pack_row(h[:H], 0, 0, 1, packed, form[ROUTER, 0], form[ROUTER, 1])  # for gate and up too
        multiply(table[4:5], H, one, alone, packed, router, chunk[ROUTER])
        gaps[layer] = choose(router[0], chosen[layer], shares[layer])
        read[:, 0], panels[:, 0] = chosen[layer], chosen[layer]
        multiply(table[5:7], H, read, groups, packed, between, chunk[GATE_UP])
        pack_swiglu(between, slots, packed_experts, form[DOWN, 0], form[DOWN, 1])
        multiply(table[7:8], F, panels, groups, packed_experts, results, chunk[DOWN])
        _add_weighted(results, shares[layer], row)
    norm_row(row, output_norm, eps, h[:H])
    pack_row(h[:H], 0, 0, 1, packed, forms[L, 0, 0], forms[L, 0, 1])
    multiply(output, H, one, alone, packed, logits, chunks[L, 0])

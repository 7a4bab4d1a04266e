"""What a layer does beside its products: norms, rotation, attention, routing, the experts' sum.

Letters as in `backends/base.py`, and P = N / G query heads per kv head. Each result is computed by one
thread, in an order that depends on its position alone.
"""

import numpy as np
from numba import njit, prange

from refute_runtime.backends.simd.build import kernel
from refute_runtime.backends.simd.lanes import (
    dot_f32,
    exponentials,
    highest,
    scores,
    scores_of_four,
    scores_of_two,
    weigh,
    weigh_of_four,
    weigh_of_two,
)
from refute_runtime.backends.simd.scalars import address, exp, fma, store_half

SPLIT = 64  # rows that all heads of a group go through before the next ones: their keys fit a core's cache


@njit(nogil=True, error_model="numpy")
def norm_row(x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray) -> None:
    base, size = address(x), x.size
    square = np.float32(dot_f32(base, base, size) / np.float32(size))
    scale = np.float32(np.float32(1) / np.sqrt(np.float32(square + eps)))
    for i in range(size):
        out[i] = np.float32(np.float32(x[i] * scale) * weight[i])


@kernel("void(float32[:,::1], float32[::1], float32, float32[:,::1])", nogil=True, error_model="numpy")
def norm(x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray) -> None:
    """RMSNorm of each row (T, H)."""
    for t in range(len(x)):
        norm_row(x[t], weight, eps, out[t])


@njit(nogil=True, error_model="numpy")
def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> None:
    half = x.size // 2
    for i in range(half):
        a, b = x[i], x[half + i]
        x[i] = fma(a, cos[i], -np.float32(b * sin[i]))
        x[half + i] = fma(b, cos[i], np.float32(a * sin[i]))


@njit(nogil=True, error_model="numpy")
def prepare(
    row: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    q_weight: np.ndarray,
    k_weight: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    eps: float,
) -> None:
    heads, kv_heads, size = len(q), len(k), q.shape[1]
    for n in range(heads):
        norm_row(row[n * size : n * size + size], q_weight, eps, q[n])
        _rotate(q[n], cos, sin)
    for g in range(kv_heads):
        start = (heads + g) * size
        norm_row(row[start : start + size], k_weight, eps, k[g])
        _rotate(k[g], cos, sin)
        start += kv_heads * size
        v[g] = row[start : start + size]


@kernel(
    "void(float32[:,::1], float32[:,:,::1], float32[:,:,::1], float32[:,:,::1], float32[::1], float32[::1],"
    " float32[:,::1], float32[:,::1], float32)",
    parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def heads_of(
    both: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    q_weight: np.ndarray,
    k_weight: np.ndarray,
    cos: np.ndarray,
    sin: np.ndarray,
    eps: float,
) -> None:
    """Cut rows (T, (N + 2 G) D) into q (T, N, D), k and v (T, G, D); q and k normed per head and rotated."""
    for t in prange(len(q)):
        prepare(both[t], q[t], k[t], v[t], q_weight, k_weight, cos[t], sin[t], eps)


@kernel(
    "void(float32[:,:,::1], uint16[:,:,:], uint16[:,:,:], float32, float32[:,:,:,::1],"
    " float32[:,:,:,::1], float32[:,:,::1])",
    parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: float,
    sums: np.ndarray,
    parts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: out (T, N, D).

    Keys and values are the bits of float16. Rows are cut where SPLIT divides their number, so a query meets
    the same parts whoever computed the rows; a part gives its largest score, the total of its exponentials
    and the rows weighed by them, and the parts are put together in order. sums (T, N, S, 2) and parts (T, N,
    S, D) are room for S of these.
    """
    T, N, D = q.shape
    R, G = k.shape[0], k.shape[1]
    P, splits = N // G, parts.shape[2]
    (k_stride, k_group, _), (v_stride, v_group, _) = k.strides, v.strides
    a_q, a_k, a_v, a_parts = address(q), address(k), address(v), address(parts)
    for task in prange(T * G * splits):
        g, s, t = task // (splits * T), task // T % splits, task % T  # tokens after one another share rows
        seen = max(R - T + t, 0) + 1
        count = min(seen - s * SPLIT, SPLIT)
        if count > 0:
            room = np.empty(4 * SPLIT + 2, np.float32)
            room[4 * SPLIT] = scale
            shares, factor = address(room), address(room) + 16 * SPLIT
            keys, values = a_k + s * SPLIT * k_stride + g * k_group, a_v + s * SPLIT * v_stride + g * v_group
            apart, parts_apart = 4 * SPLIT, 4 * splits * D
            p = 0
            while p < P:
                together = 4 if P - p >= 4 else min(P - p, 2)
                n = g * P + p
                query, part = a_q + 4 * (t * N + n) * D, a_parts + 4 * ((t * N + n) * splits + s) * D
                if together == 4:
                    scores_of_four(keys, k_stride, count, query, D, factor, shares, apart)
                elif together == 2:
                    scores_of_two(keys, k_stride, count, query, D, factor, shares, apart)
                else:
                    scores(keys, k_stride, count, query, D, factor, shares, apart)
                for h in range(together):
                    top = highest(shares + h * apart, count)
                    room[4 * SPLIT + 1] = top
                    sums[t, n + h, s, 0] = top
                    sums[t, n + h, s, 1] = exponentials(shares + h * apart, count, factor + 4)
                if together == 4:
                    weigh_of_four(values, v_stride, count, shares, D, part, apart, parts_apart)
                elif together == 2:
                    weigh_of_two(values, v_stride, count, shares, D, part, apart, parts_apart)
                else:
                    weigh(values, v_stride, count, shares, D, part, apart, parts_apart)
                p += together
    for task in prange(T * N):
        t, n = task // N, task % N
        seen = max(R - T + t, 0) + 1
        used = (seen + SPLIT - 1) // SPLIT
        highest_of_all = np.float32(-np.inf)
        for s in range(used):
            highest_of_all = max(highest_of_all, sums[t, n, s, 0])
        total, row = np.float32(0), out[t, n]
        row[:] = 0
        for s in range(used):
            share = exp(np.float32(sums[t, n, s, 0] - highest_of_all))
            total = fma(sums[t, n, s, 1], share, total)
            part = parts[t, n, s]
            for i in range(D):
                row[i] = fma(part[i], share, row[i])
        for i in range(D):
            row[i] /= total


@njit(nogil=True, error_model="numpy")
def store_rows(rows: np.ndarray, to: np.ndarray) -> None:
    """Write rows (G, D) as the bits of float16."""
    for g in range(len(rows)):
        base = address(to) + g * to.strides[0]
        for i in range(rows.shape[1]):
            store_half(base, i, rows[g, i])


@njit(nogil=True, error_model="numpy")
def choose(row: np.ndarray, chosen: np.ndarray, shares: np.ndarray) -> np.float32:
    """Route one token, see `route`: its logits (E,), overwritten; chosen and shares (K,). Gives the gap."""
    E, K = row.size, chosen.size
    top = np.empty(1, np.float32)
    top[0] = highest(address(row), E)
    total = exponentials(address(row), E, address(top))
    taken = np.zeros(E, np.bool_)
    last, gap = np.float32(0), np.float32(0)
    for rank in range(K + 1):
        if rank == E:
            gap = last
            break
        best = -1
        for e in range(E):
            if not taken[e] and (best < 0 or row[e] > row[best]):
                best = e
        if rank == K:
            gap = np.float32(last - np.float32(row[best] / total))
        else:
            taken[best] = True
            last = np.float32(row[best] / total)
    slot, sum_of_chosen = 0, np.float32(0)
    for e in range(E):
        if taken[e]:
            chosen[slot] = e
            shares[slot] = np.float32(row[e] / total)
            sum_of_chosen += shares[slot]
            slot += 1
    for i in range(K):
        shares[i] /= sum_of_chosen
    return gap


@kernel(
    "void(float32[:,::1], int64[:,::1], float32[:,::1], float32[::1])", nogil=True, error_model="numpy"
)  # fmt: skip
def route(logits: np.ndarray, chosen: np.ndarray, shares: np.ndarray, gaps: np.ndarray) -> None:
    """Softmax over all experts (T, E), the K most likely, the lower id first of two equal ones.

    chosen (T, K), ascending. shares (T, K), which sum to 1. gaps (T,): see `LayerRouting`.
    """
    for t in range(len(logits)):
        gaps[t] = choose(logits[t], chosen[t], shares[t])


@kernel("void(float32[:,::1], int64[:,::1], float32[:,::1], float32[:,::1])",
        parallel=True, nogil=True, error_model="numpy")  # fmt: skip
def weighted_sum(results: np.ndarray, slots: np.ndarray, shares: np.ndarray, out: np.ndarray) -> None:
    """Sum over K of share * result: out (T, H); results (S, H), their slots (T, K) in order."""
    T, K = slots.shape
    H = out.shape[1]
    step = 512 if T < 4 else H
    parts = (H + step - 1) // step
    for task in prange(T * parts):
        t, part = task // parts, task % parts
        start, end = part * step, min(H, part * step + step)
        row = out[t, start:end]
        row[:] = 0
        for j in range(K):
            share, result = shares[t, j], results[slots[t, j], start:end]
            for i in range(len(row)):
                row[i] = fma(share, result[i], row[i])


@kernel("void(int64[:,::1], int64, int64[:,::1], int64[:,::1], int64[:,::1], int64[::1], int64[::1])",
        nogil=True, error_model="numpy")  # fmt: skip
def arrange(
    chosen: np.ndarray,
    experts: int,
    slots: np.ndarray,
    places: np.ndarray,
    panels: np.ndarray,
    groups: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Put tokens side by side that chose the same expert.

    chosen (T, K). Written: slots (S, 4), see `products.pack`, its last column the token; places (T, K), the
    slot of each choice; panels (P, 4) and groups (G + 1), see `products.multiply`; counts: S, P, G.
    """
    T, K = chosen.shape
    load = np.zeros(experts + 1, np.int64)
    for t in range(T):
        for j in range(K):
            load[chosen[t, j]] += 1
    start = np.zeros(experts, np.int64)  # the next free slot of an expert
    slot, panel, group = 0, 0, 0
    for e in range(experts):
        if load[e] == 0:
            continue
        groups[group] = panel
        group += 1
        start[e] = slot
        left = load[e]
        while left > 0:
            width = 1 if left == 1 else 4 if left <= 4 else 8
            panels[panel, 0], panels[panel, 1] = e, slot
            panels[panel, 2], panels[panel, 3] = slot, width
            for lane in range(width):
                slots[slot + lane, 0], slots[slot + lane, 1] = slot, lane
                slots[slot + lane, 2], slots[slot + lane, 3] = width, -1
            slot += width
            panel += 1
            left -= width
    groups[group] = panel
    counts[0], counts[1], counts[2] = slot, panel, group
    for t in range(T):
        for j in range(K):
            e = chosen[t, j]
            slots[start[e], 3] = t
            places[t, j] = start[e]
            start[e] += 1

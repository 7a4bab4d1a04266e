"""The numerics `q8` in NumPy: the specification that `cpu` and `cuda` are judged against, bit for bit.

Slow and obvious: every integer is exact, and every float is rounded where and added in the order in which
those backends do it. It needs no compiler and no GPU, so whoever audits a record can compute its logits again
anywhere. Letters as in `backends/base.py`, P = N / G query heads per kv head, F the width of a feed-forward.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.base import Array
from refute_runtime.backends.blocks import FLOATS, SPLIT, Rounded, integers, rounded, unknown_type
from refute_runtime.backends.exact import dot, exp, fma, folded, highest, score, total
from refute_runtime.backends.rotation import Rotation
from refute_runtime.cache import KVCache
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure
from refute_runtime.quant import dequantize
from refute_runtime.weights import Weights

_ROWS = 4096  # of a matrix multiplied at once


class MirrorBackend:
    """Runs the operations in NumPy, on weights as they lie in the mapped file."""

    name = "mirror"
    numerics = "q8"
    bitwise = True
    device = "cpu"

    def __init__(self, config: ModelConfig, weights: Weights, threads: int = 1) -> None:
        """weights: with the file's blocks."""
        self._config = config
        self._weights = weights
        self.threads = threads
        self._rotation = Rotation(config)

    @staticmethod
    def lacks(weights: Weights) -> str | None:
        """Why this backend cannot run a model, or None."""
        refused = unknown_type(weights.types())
        if refused is not None:
            return refused
        if weights.shape("blk.0.attn_k_norm.weight")[0] % 16:
            return "heads are not of a multiple of 16 elements"
        return None

    @property
    def details(self) -> Mapping[str, object]:
        """Nothing more."""
        return {}

    def with_threads(self, threads: int) -> Self:
        """Return a backend that says so: whatever the number, one thread computes."""
        other = copy.copy(self)
        other.threads = threads
        return other

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Leave what is not finite to the model's guard."""
        with np.errstate(all="ignore"):
            yield

    def new_cache(self, capacity: int) -> KVCache:
        """Make an empty cache for one sequence of up to `capacity` tokens, in float16."""
        config = self._config
        return KVCache(config.layers, config.kv_heads, config.head_dim, capacity, dtype=np.float16)

    @property
    def cache_row_bytes(self) -> int:
        """Of keys and values in float16."""
        return 2 * self._config.cache_row_elements

    def memory(self, tokens: int, rows: int) -> tuple[int, int]:
        """Bytes of weights beside the mapped file, and of workspace: lanes of a product, a split's scores."""
        config = self._config
        lanes = tokens * _ROWS * 32 * 8 * 6
        scores = tokens * config.heads * (min(rows, SPLIT) + config.head_dim) * 8 * 6
        return 0, lanes + scores + 4 * config.vocabulary * tokens

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows of the embedding: (T, H)."""
        return np.array(self._weights.rows_alone("token_embd.weight", tokens))

    def norm(self, x: Array, weight: str) -> Array:
        """RMSNorm over the last axis: (T, H) -> (T, H)."""
        return self._norm(np.asarray(x, np.float32), weight)

    def _norm(self, x: np.ndarray, weight: str) -> np.ndarray:
        mean = dot(x, x) / np.float32(x.shape[-1])
        scale = np.float32(1) / np.sqrt(mean + np.float32(self._config.rms_eps))
        normed: np.ndarray = x * scale[..., None] * self._vector(weight)
        return normed

    def qkv(self, layer: int, x: Array, positions: np.ndarray) -> tuple[Array, Array, Array]:
        """Projections, per-head QK-norm, RoPE: q (T, N, D), k and v (T, G, D)."""
        name, T, D = f"blk.{layer}", len(x), self._config.head_dim
        q, k, v = (self._times(x, f"{name}.attn_{part}.weight").reshape(T, -1, D) for part in "qkv")
        cos, sin = (table[:, None] for table in self._rotation(positions))  # (T, 1, D / 2)
        return (
            _rotated(self._norm(q, f"{name}.attn_q_norm.weight"), cos, sin),
            _rotated(self._norm(k, f"{name}.attn_k_norm.weight"), cos, sin),
            v,
        )

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: (T, N * D).

        Keys and values are rounded to float16, where they are not yet. A query that would see no row at all
        (the cache lost that many) sees the first one.
        """
        T, N, D = q.shape
        R, G = k.shape[:2]
        if R == 0:
            raise RuntimeFailure("the cache returned no rows, not even those just appended")
        k, v = (np.asarray(rows, np.float16).astype(np.float32) for rows in (k, v))
        queries = np.asarray(q, np.float32).reshape(T, G, N // G, D)
        seen = np.maximum(np.arange(R - T, R), 0) + 1  # rows of each query
        out = np.empty((T, G, N // G, D), np.float32)
        for t in range(T):
            parts = [
                _part(queries[t], k[: seen[t]][start : start + SPLIT], v[: seen[t]][start : start + SPLIT])
                for start in range(0, seen[t], SPLIT)
            ]
            out[t] = _merged(parts)
        return out.reshape(T, N * D)

    def project(self, x: Array, weight: str) -> Array:
        """Multiply by a weight (out, in): (T, in) -> (T, out)."""
        return self._times(x, weight)

    def routed(self, layer: int) -> bool:  # noqa: ARG002 (in these architectures all layers are alike)
        """Whether the layer has a router and experts."""
        return self._config.moe

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts (T, K), ascending; their weights (T, K), summing to 1; gap (T,).

        Softmax over all E, then the K largest, the lower id first where two are equal.
        """
        K = self._config.experts_per_token
        scores = self._times(x, f"blk.{layer}.ffn_gate_inp.weight")  # (T, E)
        exponentials = exp(scores - highest(scores)[:, None])
        whole = total(exponentials)[:, None]
        ranked = _ranked(exponentials, min(K + 1, scores.shape[1]))
        chosen = np.sort(ranked[:, :K], axis=-1)
        shares = np.take_along_axis(exponentials, chosen, axis=-1) / whole
        sums = np.zeros(len(scores), np.float32)
        for i in range(K):
            sums = sums + shares[:, i]
        in_order = np.take_along_axis(exponentials, ranked, axis=-1) / whole
        last = in_order[:, K - 1]
        gap = last - in_order[:, K] if scores.shape[1] > K else last
        return chosen, shares / sums[:, None], gap

    def experts(self, layer: int, x: Array, chosen: np.ndarray, weights: np.ndarray) -> Array:
        """SwiGLU experts, weighted sum in the order of `chosen`: (T, H)."""
        x, name = np.asarray(x, np.float32), f"blk.{layer}.ffn"
        results = np.empty((*chosen.shape, self._config.hidden), np.float32)  # (T, K, H)
        for expert in sorted(set(chosen.reshape(-1).tolist())):
            token, slot = np.nonzero(chosen == expert)
            between = _swiglu(
                *(self._times(x[token], f"{name}_{part}_exps.weight", expert) for part in ("gate", "up"))
            )
            results[token, slot] = self._times(between, f"{name}_down_exps.weight", expert)
        out, shares = np.zeros_like(results[:, 0]), np.asarray(weights, np.float32)
        for i in range(chosen.shape[1]):
            out = fma(shares[:, i, None], results[:, i], out)
        return out

    def dense(self, layer: int, x: Array) -> Array:
        """SwiGLU feed-forward of a dense layer: (T, H)."""
        name = f"blk.{layer}.ffn"
        between = _swiglu(*(self._times(x, f"{name}_{part}.weight") for part in ("gate", "up")))
        return self._times(between, f"{name}_down.weight")

    def logits(self, x: Array) -> np.ndarray:
        """Output layer on normed x: (T, V); the embedding where the file ties them."""
        return self._times(x, "token_embd.weight" if self._config.tied else "output.weight")

    def _vector(self, name: str) -> np.ndarray:
        return np.array(dequantize(self._weights.raw(name), self._weights.type_of(name)), np.float32).reshape(
            -1
        )

    def _times(self, x: Array, name: str, expert: int | None = None) -> np.ndarray:
        """Multiply rows (T, columns) by a matrix, or by one expert's: (T, rows)."""
        raw, kind = self._weights.raw(name), self._weights.type_of(name)
        return times(np.asarray(x, np.float32), raw if expert is None else raw[expert], kind)


def times(x: np.ndarray, raw: np.ndarray, kind: TensorType) -> np.ndarray:
    """Multiply rows (T, C) by stored rows (rows, row_bytes): (T, rows)."""
    given = None if kind in FLOATS else rounded(x)
    found = []
    for start in range(0, len(raw), _ROWS):
        part = raw[start : start + _ROWS]
        if given is None:
            found.append(dot(x[:, None], np.asarray(dequantize(part, kind), np.float32)))
        else:
            found.append(_by_blocks(given, part, kind))
    return np.concatenate(found, axis=1)


def _by_blocks(x: Rounded, raw: np.ndarray, kind: TensorType) -> np.ndarray:
    """Rounded rows (T, B, 256) times rows of blocks: an exact integer per block, then floats in order."""
    T = len(x.q)
    if kind in (TensorType.Q8_0, TensorType.Q4_0):  # of 32; lane i of eight holds the blocks i, i + 8 ...
        weights, scale, _, _ = integers(raw, kind)  # (rows, units, 32), (rows, units)
        q = x.q.reshape(T, -1, 32)
        lanes = np.zeros((T, len(raw), 8), np.float32)
        for unit in range(weights.shape[1]):
            worth = _exactly(q[:, unit], weights[:, unit])
            step = scale[:, unit] * x.d[:, unit // 8, None]
            lanes[..., unit % 8] = fma(worth, step, lanes[..., unit % 8])
        return folded(lanes)
    weights, scale, minimums, lowest = integers(raw, kind)
    above, below = np.zeros((T, len(raw)), np.float32), np.zeros((T, len(raw)), np.float32)
    sums = x.q.reshape(T, -1, 8, 32).sum(axis=-1, dtype=np.int64)
    for block in range(weights.shape[1]):
        step = x.d[:, block, None]
        above = fma(_exactly(x.q[:, block], weights[:, block]), step * scale[:, block], above)
        if minimums is not None and lowest is not None:
            below = fma(_exactly(sums[:, block], minimums[:, block]), step * lowest[:, block], below)
    return above if minimums is None else above - below


def _exactly(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Integer products (T, n) times (rows, n), exact in float64, then rounded to float32: (T, rows)."""
    return (x.astype(np.float64) @ weights.astype(np.float64).T).astype(np.float32)


def _ranked(values: np.ndarray, count: int) -> np.ndarray:
    """The `count` highest of values (T, E), none below 0, the lower id first of two equal ones: (T, count).

    Taken one after the other. What is no number is higher than nothing, and nothing is higher than it: it is
    taken where it is the first one left.
    """
    taken, found = np.zeros(values.shape, bool), np.empty((len(values), count), np.int64)
    token = np.arange(len(values))
    for rank in range(count):
        first = np.argmin(taken, axis=-1)
        best = np.argmax(np.where(taken | np.isnan(values), np.float32(-1), values), axis=-1)
        found[:, rank] = np.where(np.isnan(values[token, first]), first, best)
        taken[token, found[:, rank]] = True
    return found


def _rotated(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """RoPE, half-split (NeoX): element i turns with element i + D / 2. (T, N, D) -> (T, N, D)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([fma(first, cos, -(second * sin)), fma(second, cos, first * sin)], axis=-1)


def _swiglu(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    found: np.ndarray = gate / (np.float32(1) + exp(-gate)) * up
    return found


Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Of one split: the largest score (G, P), the total of the exponentials (G, P), rows weighed (G, P, D)."""


def _part(query: np.ndarray, k: np.ndarray, v: np.ndarray) -> Part:
    """One query (G, P, D) over the rows (R, G, D) of one split."""
    keys, values = k.swapaxes(0, 1), v.swapaxes(0, 1)  # (G, R, D)
    scores = score(query[:, :, None], keys[:, None]) * np.float32(query.shape[-1] ** -0.5)  # (G, P, R)
    top = highest(scores)
    shares = exp(scores - top[..., None])
    weighed = np.zeros_like(query)
    for row in range(len(k)):
        weighed = fma(shares[..., row, None], values[:, None, row], weighed)
    return top, total(shares), weighed


def _merged(parts: Sequence[Part]) -> np.ndarray:
    """Splits put together in order: (G, P, D)."""
    top = np.max([each[0] for each in parts], axis=0)
    whole, weighed = np.zeros_like(top), np.zeros_like(parts[0][2])
    for part_top, part_total, rows in parts:
        share = exp(part_top - top)
        whole = fma(part_total, share, whole)
        weighed = fma(rows, share[..., None], weighed)
    found: np.ndarray = weighed / whole[..., None]
    return found

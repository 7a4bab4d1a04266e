"""The `cuda` backend on any `Device`: numerics `q8`, bit for bit those of `cpu` and `mirror`.

Forwards are computed whole on the device, one token by a recorded graph. The single operations are for who
wraps a backend or a cache, and looks between them: each copies to the device and back. Letters as in
`backends/base.py`, F the width of an expert or a feed-forward.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np

from refute_runtime.backends.base import Array, GreedyToken, WholeForward
from refute_runtime.backends.blocks import SPLIT
from refute_runtime.backends.gpu import launches, plan
from refute_runtime.backends.gpu.cache import DeviceCache
from refute_runtime.backends.gpu.decoder import Decoder
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.launches import Before
from refute_runtime.backends.gpu.layers import Parts, Space, forms
from refute_runtime.backends.gpu.layouts import Matrix
from refute_runtime.backends.gpu.prefill import Prefill
from refute_runtime.backends.gpu.weights import DeviceWeights
from refute_runtime.backends.rotation import Rotation
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure
from refute_runtime.weights import Weights


class DeviceBackend:
    """Runs a model whose weights are on a device."""

    name = "cuda"
    numerics = "q8"
    bitwise = True

    def __init__(
        self, config: ModelConfig, weights: Weights, uploaded: DeviceWeights, device: Device
    ) -> None:
        """weights: of the file, for what is looked up by name; uploaded: the same on the device."""
        self._config = config
        self._weights = weights
        self._uploaded = uploaded
        self._device = device
        self._of = Parts.of(uploaded, config)
        self._rotation = Rotation(config)
        self._prefill = Prefill(device, self._of)
        self._decoder = None if Decoder.lacks(self._of) else Decoder(device, self._of, self._rotation)
        self.threads = 1

    @property
    def device(self) -> str:
        """The GPU's name."""
        return self._device.name

    @property
    def details(self) -> Mapping[str, object]:
        """The architecture that kernels were compiled for, how tokens are decoded, where the weights are.

        And what the device says of itself.
        """
        return {
            "architecture": "sm_{}{}".format(*self._device.capability),
            "decoding": "operations" if self._decoder is None else "graph",
            "weights": "on the device",
            **self._device.details,
        }

    def with_threads(self, threads: int) -> Self:
        """Return the same: the threads of the host compute nothing here."""
        other = copy.copy(self)
        other.threads = threads
        return other

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Nothing has to hold."""
        yield

    def new_cache(self, capacity: int) -> DeviceCache:
        """Make an empty cache. Raises `RuntimeFailure`, with the arithmetic, where the device has no room."""
        config = self._config
        plan.check_rows(self._device, capacity, self.cache_row_bytes)
        return DeviceCache(self._device, config.layers, config.kv_heads, config.head_dim, capacity)

    @property
    def cache_row_bytes(self) -> int:
        """Of keys and values in float16."""
        return 2 * self._config.cache_row_elements

    def memory(self, tokens: int, rows: int) -> tuple[int, int]:
        """Bytes of weights, and of workspace, on the device."""
        return self._uploaded.nbytes, plan.workspace(self._of, tokens, rows)

    def whole(
        self, tokens: Sequence[int], positions: np.ndarray, cache: object, last_only: bool
    ) -> WholeForward | None:
        """Compute tokens after the rows of a cache of this backend's own; else None, and nothing was done."""
        if type(cache) is not DeviceCache:
            return None
        ids = self._checked(tokens)
        if len(ids) == 1 and self._decoder is not None:
            return self._decoder.run(int(ids[0]), cache)
        return self._prefill.run(ids, self._rotation(positions), cache, last_only=last_only)

    def greedy(self, token: int, cache: object, count: int) -> Iterator[GreedyToken] | None:
        """Yield up to `count` tokens after `token` as the device chooses them, two of them computed ahead.

        None where the cache is not one of this backend's own, or tokens are not decoded by a graph.
        """
        if type(cache) is not DeviceCache or self._decoder is None:
            return None
        return self._decoder.tokens(token, cache, count)

    def _checked(self, tokens: Sequence[int]) -> np.ndarray:
        return self._weights.index("token_embd.weight", tokens)

    # -- one operation at a time -------------------------------------------------------------------

    def _space(self, nbytes: int) -> Space:
        return Space(self._device, self._device.empty(nbytes + (1 << 16)))

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows of the embedding: (T, H)."""
        ids, H = self._checked(tokens), self._of.H
        space = self._space(len(ids) * (8 + 4 * H))
        given, out = space.take(len(ids), size=8), space.take(len(ids), H)
        space.put(given, ids)
        launches.embed(self._device, self._of.embedding, given, len(ids), out)
        return space.fetch(out, np.empty((len(ids), H), np.float32))

    def norm(self, x: Array, weight: str) -> Array:
        """RMSNorm over the last axis: (T, H) -> (T, H)."""
        x = _plain(x)
        T, H = x.shape
        space = self._space(8 * x.size)
        given, out = space.take(T, H), space.take(T, H)
        space.put(given, x)
        launches.rms_norm(self._device, given, self._uploaded.vector(weight), self._of.eps, T, H, out)
        return space.fetch(out, np.empty_like(x))

    def qkv(self, layer: int, x: Array, positions: np.ndarray) -> tuple[Array, Array, Array]:
        """Projections, per-head QK-norm, RoPE: q (T, N, D), k and v (T, G, D)."""
        of, parts = self._of.heads, self._of.layers[layer]
        T, width = len(x), (of.N + 2 * of.G) * of.D
        both = np.concatenate([self._times(x, each) for each in (parts.q, parts.k, parts.v)], axis=1)
        space = self._space(8 * both.size + 8 * T * of.D + 4096)
        given, q = space.take(T, width), space.take(T, of.N, of.D)
        kv = space.take(T, of.G, of.D), space.take(T, of.G, of.D)
        tables = space.take(T, of.D // 2), space.take(T, of.D // 2)
        for to, data in zip((given, *tables), (both, *self._rotation(positions)), strict=True):
            space.put(to, data)
        norms = (parts.query_norm, parts.key_norm)
        launches.heads(self._device, given, T, of, norms, tables, self._of.eps, q, kv=kv)
        found = [space.fetch(q, np.empty((T, of.N, of.D), np.float32))]
        found += [space.fetch(each, np.empty((T, of.G, of.D), np.float32)) for each in kv]
        return found[0], found[1], found[2]

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: (T, N * D).

        Keys and values are rounded to float16, where they are not yet. A query that would see no row at all
        (the cache lost that many) sees the first one.
        """
        q, of = _plain(q), self._of.heads
        T, R = len(q), len(k)
        if R == 0:
            raise RuntimeFailure("the cache returned no rows, not even those just appended")
        with np.errstate(over="ignore"):
            k, v = (np.ascontiguousarray(rows, np.float16) for rows in (k, v))
        splits, width = -(-R // SPLIT), of.N * of.D
        space = self._space(4 * k.size + 4 * of.N * splits * (of.D + 2) + 8 * width)
        kept = space.take(k.size, size=2), space.take(v.size, size=2)
        sums, parts = space.take(of.N, splits, 2), space.take(of.N, splits, of.D)
        query, result = space.take(width), space.take(width)
        for to, data in zip(kept, (k, v), strict=True):
            space.put(to, data)
        out = np.empty((T, width), np.float32)
        for t in range(T):
            space.put(query, q[t])
            launches.attend(self._device, query, kept, 1, of, Before(R - T + t), splits, sums, parts, result)
            space.fetch(result, out[t])
        return out

    def project(self, x: Array, weight: str) -> Array:
        """Multiply by a weight (out, in): (T, in) -> (T, out)."""
        return self._times(x, self._uploaded.matrix(weight))

    def routed(self, layer: int) -> bool:
        """Whether the layer has a router and experts."""
        return self._of.layers[layer].router is not None

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts (T, K), ascending; their weights (T, K), summing to 1; gap (T,)."""
        scores, of = self.project(x, f"blk.{layer}.ffn_gate_inp.weight"), self._of
        T, K = len(scores), of.K
        space = self._space(4 * scores.size + 16 * T * K + 4 * T)
        given, chosen, shares = space.take(T, of.E), space.take(T, K, size=8), space.take(T, K)
        gaps = space.take(T)
        space.put(given, scores)
        launches.route(self._device, given, T, of.E, K, chosen, shares, gaps)
        return (
            space.fetch(chosen, np.empty((T, K), np.int64)),
            space.fetch(shares, np.empty((T, K), np.float32)),
            space.fetch(gaps, np.empty(T, np.float32)),
        )

    def experts(self, layer: int, x: Array, chosen: np.ndarray, weights: np.ndarray) -> Array:
        """SwiGLU experts, weighted sum: (T, H)."""
        x, parts, of = _plain(x), self._of.layers[layer], self._of
        T, K = chosen.shape
        flat = np.ascontiguousarray(chosen, np.int64).reshape(-1)
        between = [self._times(x, matrix, flat, K) for matrix in (parts.gate, parts.up)]
        results = self._times(self._swiglu(*between), parts.down, flat)
        space = self._space(4 * results.size + 4 * T * K + 4 * T * of.H)
        given, shares, out = space.take(T * K, of.H), space.take(T, K), space.take(T, of.H)
        space.put(given, results)
        space.put(shares, np.ascontiguousarray(weights, np.float32))
        launches.weighted_sum(self._device, given, shares, T, K, of.H, out)
        return space.fetch(out, np.empty((T, of.H), np.float32))

    def dense(self, layer: int, x: Array) -> Array:
        """SwiGLU feed-forward of a dense layer: (T, H)."""
        parts = self._of.layers[layer]
        between = self._swiglu(self._times(x, parts.gate), self._times(x, parts.up))
        return self._times(between, parts.down)

    def logits(self, x: Array) -> np.ndarray:
        """Output layer on normed x: (T, V); the embedding where the file ties them."""
        return self._times(x, self._of.output)

    def _swiglu(self, gate: np.ndarray, up: np.ndarray) -> np.ndarray:
        rows, F = gate.shape
        space = self._space(12 * gate.size)
        both, out = space.take(rows, 2 * F), space.take(rows, F)
        space.put(both, np.concatenate([gate, up], axis=1))
        launches.swiglu(self._device, both, both + 4 * F, 2 * F, rows, F, out)
        return space.fetch(out, np.empty_like(gate))

    def _times(self, x: Array, matrix: Matrix, chosen: np.ndarray | None = None, per: int = 1) -> np.ndarray:
        """Multiply rows (T, columns) by a matrix: (T, rows).

        chosen: multiply instead for each choice its row of x, `per` choices a row, by its expert's matrix.
        """
        x, count = _plain(x), len(x) if chosen is None else len(chosen)
        out = np.empty((count, matrix.rows), np.float32)
        space = self._space(6 * x.size + 4096 * len(x) + out.nbytes + 8 * count)
        given, rounded, to = space.take(*x.shape), space.rounded(*x.shape), space.take(*out.shape)
        space.put(given, x)
        read, floats = forms((matrix,), rounded, given)
        if read.q:
            launches.round_rows(self._device, given, len(x), read)
        if chosen is None:
            launches.multiply(self._device, matrix, count, to, rounded=read, x=floats)
        else:
            ids = space.take(count, size=8)
            space.put(ids, chosen)
            launches.expert_multiply(
                self._device, matrix, self._of.E, ids, count, to, per=per, rounded=read, x=floats
            )
        return space.fetch(to, out)


def _plain(x: Array) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32)

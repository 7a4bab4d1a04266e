"""The specification: every operation over one array namespace, NumPy on the CPU or CuPy on a GPU.

Weights are dequantized to float32 and everything is computed in float32. What another backend computes
is judged against this file, so it says what is meant and leaves speed to others.

Letters as in `backends/base.py`, and P = N / G query heads per kv head, F the width of a feed-forward.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from threadpoolctl import ThreadpoolController

from refute_runtime.backends.base import Array
from refute_runtime.backends.rotation import Rotation
from refute_runtime.cache import KVCache
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.weights import Weights

FEW = 6  # tokens whose products with a matrix are dot products of its rows
QUERY_BLOCK = 256  # queries whose scores are held at once: N * 256 * R floats


def namespace(device: str) -> Any:
    """Return NumPy for `cpu`, CuPy for `gpu`, and for `auto` CuPy where a GPU answers.

    Raises `UnsupportedError` where `gpu` is asked for and there is none, or the device has another name.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise UnsupportedError(f"device is {device!r}, expected 'auto', 'cpu' or 'gpu'")
    if device == "cpu":
        return np
    try:
        import cupy  # noqa: PLC0415 (an extra, and slow to import)

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy has an exception type per layer of the driver
        if device == "auto":
            return np
        raise UnsupportedError(
            f"device 'gpu' needs CuPy and a GPU that answers ({error}); install refute[cuda12] or "
            "refute[cuda13], or use device 'cpu'"
        ) from error
    return cupy


class ArrayBackend:
    """Runs the operations on arrays of `xp`, NumPy or CuPy; the weights belong to it too."""

    name = "array"
    numerics = "f32"
    bitwise = False

    def __init__(self, config: ModelConfig, weights: Weights, xp: Any = np, threads: int = 1) -> None:
        self._config = config
        self._weights = weights
        self._xp = xp
        self.threads = threads
        self._rotation = Rotation(config, xp)
        self._blas = ThreadpoolController().select(user_api="blas")
        if xp is np:
            self._write_buffer()

    def _write_buffer(self) -> None:
        """Compute one product that is large enough for BLAS to write all of its buffer that small ones use.

        OpenBLAS packs matrices into a buffer and fetches ahead of what it has packed. Where no product was
        large enough to write those pages, they are not mapped, and products of a small model take three times
        as long: the processor looks the pages up in vain, again and again.
        """
        with self._blas.limit(limits=1):
            np.ones((64, 256), np.float32) @ np.ones((256, 512), np.float32)

    @property
    def device(self) -> str:
        """`cpu`, or the name of the GPU."""
        if self._xp is np:
            return "cpu"
        properties = self._xp.cuda.runtime.getDeviceProperties(self._xp.cuda.Device().id)
        return str(properties["name"].decode())

    @property
    def details(self) -> Mapping[str, object]:
        """Nothing more."""
        return {}

    def with_threads(self, threads: int) -> Self:
        """Return a backend on the same weights that computes on this many threads."""
        other = copy.copy(self)
        other.threads = threads
        return other

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Hold BLAS to `threads` threads, and leave what is not finite to the model's guard.

        By default to one: the threads of a product wait for each other, which costs a hundredfold on a busy
        machine, and how a product is split shows in its last bits.
        """
        with self._blas.limit(limits=self.threads), np.errstate(over="ignore", invalid="ignore"):
            yield

    def new_cache(self, capacity: int) -> KVCache:
        """Make an empty cache for one sequence of up to `capacity` tokens."""
        config = self._config
        return KVCache(config.layers, config.kv_heads, config.head_dim, capacity, self._xp)

    @property
    def cache_row_bytes(self) -> int:
        """Of keys and values in float32."""
        return 4 * self._config.cache_row_elements

    def memory(self, tokens: int, rows: int) -> tuple[int, int]:
        """Bytes of weights kept, and of workspace.

        Workspace: scores, masked scores, exponentials and shares of one block of queries, (N, B, R) each, and
        a matrix while it is dequantized, as values and as the parts that they are made of.
        """
        config = self._config
        by_rows = () if config.tied else ("token_embd.weight",)
        scores = config.heads * min(tokens, QUERY_BLOCK) * rows * 4
        return self._weights.most_kept(by_rows=by_rows), 4 * scores + 2 * self._weights.largest()

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows of the embedding: (T, H)."""
        return self._weights.rows("token_embd.weight", tokens)

    def norm(self, x: Array, weight: str) -> Array:
        """RMSNorm over the last axis: (T, H) -> (T, H), or per head (T, N, D) -> (T, N, D)."""
        mean_square = (x * x).sum(axis=-1, keepdims=True) / x.shape[-1]
        return x / self._xp.sqrt(mean_square + self._config.rms_eps) * self._weights.tensor(weight)

    def qkv(self, layer: int, x: Array, positions: np.ndarray) -> tuple[Array, Array, Array]:
        """Projections, per-head QK-norm, RoPE: q (T, N, D), k and v (T, G, D)."""
        name, T, D = f"blk.{layer}", len(x), self._config.head_dim
        q = self.project(x, f"{name}.attn_q.weight").reshape(T, -1, D)
        k = self.project(x, f"{name}.attn_k.weight").reshape(T, -1, D)
        v = self.project(x, f"{name}.attn_v.weight").reshape(T, -1, D)
        q = self.norm(q, f"{name}.attn_q_norm.weight")
        k = self.norm(k, f"{name}.attn_k_norm.weight")
        both = self._rotate(self._xp.concatenate([q, k], axis=1), positions)  # (T, N + G, D)
        return both[:, : q.shape[1]], both[:, q.shape[1] :], v

    def _rotate(self, x: Array, positions: np.ndarray) -> Array:
        """RoPE, half-split (NeoX): element i turns with element i + D / 2. (T, N, D) -> (T, N, D)."""
        cos, sin = (table[:, None] for table in self._rotation(positions))  # (T, 1, D / 2)
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        return self._xp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: (T, N * D).

        A query that would see no row at all (the cache lost that many) sees the first one.
        """
        xp, T, (R, G, D) = self._xp, len(q), k.shape
        if R == 0:
            raise RuntimeFailure("the cache returned no rows, not even those just appended")
        k, v = k.transpose(1, 2, 0), v.transpose(1, 0, 2)  # (G, D, R), (G, R, D)
        out = []
        for start in range(0, T, QUERY_BLOCK):
            block = q[start : start + QUERY_BLOCK]  # (B, N, D)
            B = len(block)
            last = np.maximum(np.arange(R - T + start, R - T + start + B), 0)  # the last row each query sees
            seen = int(last[-1]) + 1
            heads = block.reshape(B, G, -1, D).transpose(1, 2, 0, 3)  # (G, P, B, D)
            scores = heads @ k[:, None, :, :seen]  # (G, P, B, seen)
            scores *= D**-0.5
            if B > 1:
                scores = xp.where(xp.asarray(np.arange(seen) > last[:, None]), -xp.inf, scores)
            heads = _softmax(xp, scores) @ v[:, None, :seen]  # (G, P, B, D)
            out.append(heads.transpose(2, 0, 1, 3).reshape(B, -1))
        return xp.concatenate(out)

    def project(self, x: Array, weight: str) -> Array:
        """Multiply by a weight (out, in): (T, in) -> (T, out)."""
        return self._times(x, self._weights.tensor(weight))

    def routed(self, layer: int) -> bool:  # noqa: ARG002 (in these architectures all layers are alike)
        """Whether the layer has a router and experts."""
        return self._config.moe

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts (T, K), ascending; their weights (T, K), summing to 1; gap (T,).

        Softmax over all E, then the K largest, the lower id first where two are equal.
        """
        K = self._config.experts_per_token
        scores = self.project(x, f"blk.{layer}.ffn_gate_inp.weight")  # (T, E)
        probabilities = self._host(_softmax(self._xp, scores))
        ranked = np.argsort(-probabilities, axis=-1, kind="stable")
        token = np.arange(len(x))[:, None]
        in_order = probabilities[token, ranked]  # (T, E), descending
        following = in_order[:, K] if in_order.shape[1] > K else 0.0
        chosen = np.sort(ranked[:, :K], axis=-1)
        weights = probabilities[token, chosen]
        return chosen, weights / weights.sum(axis=-1, keepdims=True), in_order[:, K - 1] - following

    def experts(self, layer: int, x: Array, chosen: np.ndarray, weights: np.ndarray) -> Array:
        """SwiGLU experts, weighted sum: (T, H). Each expert runs once, on the tokens that chose it."""
        xp, name, load = self._xp, f"blk.{layer}", self._weights.expert
        out = xp.zeros_like(x)
        for expert in sorted(set(chosen.ravel().tolist())):
            token, slot = np.nonzero(chosen == expert)  # (S,), (S,)
            share = xp.asarray(weights[token, slot, None])  # (S, 1)
            rows = slice(None) if len(token) == len(x) else xp.asarray(token)  # a slice copies nothing
            y = self._swiglu(
                x[rows],
                load(f"{name}.ffn_gate_exps.weight", expert),
                load(f"{name}.ffn_up_exps.weight", expert),
                load(f"{name}.ffn_down_exps.weight", expert),
            )
            out[rows] += share * y
        return out

    def dense(self, layer: int, x: Array) -> Array:
        """SwiGLU feed-forward of a dense layer: (T, H)."""
        name, load = f"blk.{layer}", self._weights.tensor
        return self._swiglu(
            x, load(f"{name}.ffn_gate.weight"), load(f"{name}.ffn_up.weight"), load(f"{name}.ffn_down.weight")
        )

    def _swiglu(self, x: Array, gate: Array, up: Array, down: Array) -> Array:
        """SwiGLU with gate and up (F, H) and down (H, F): (S, H) -> (S, H)."""
        g = self._times(x, gate)
        return self._times(g / (1 + self._xp.exp(-g)) * self._times(x, up), down)

    def _times(self, x: Array, matrix: Array) -> Array:
        """Multiply by a matrix (out, in): (T, in) -> (T, out).

        For a few tokens, dot products of the rows: BLAS rearranges the matrix for every product, which takes
        longer. For more, the matrix stands first: BLAS takes a small product by a fifth faster in that order.
        """
        if len(x) <= FEW and self._xp is np:
            return np.vecdot(matrix, x[:, None])
        return (matrix @ x.T).T

    def logits(self, x: Array) -> np.ndarray:
        """Output layer on normed x: (T, V), a NumPy array; the embedding where the file ties them.

        Each row in one piece, since rows are what is read.
        """
        tied = self._config.tied
        projected = self.project(x, "token_embd.weight" if tied else "output.weight")
        return np.ascontiguousarray(self._host(projected))

    def _host(self, x: Array) -> np.ndarray:
        return x if self._xp is np else self._xp.asnumpy(x)  # type: ignore[no-any-return]


def _softmax(xp: Any, x: Array) -> Array:
    """Over the last axis."""
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

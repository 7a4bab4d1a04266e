"""The operations that a model is made of, as a Protocol with shapes.

Letters: T new tokens, R cache rows (old and new), H hidden, N query heads, G kv heads, D head size,
E experts, K experts per token, V vocabulary. Arrays belong to the backend's namespace and are float32
unless said otherwise. Weights are named as in the GGUF file.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

Array = Any  # numpy.ndarray or cupy.ndarray: there is no common static type


@dataclass(frozen=True, slots=True)
class WholeForward:
    """What a forward gave that a backend computed by itself, not operation by operation.

    logits: (T, V), or (1, V) of the last token. Of each of L layers what its router said: experts (L, T, K),
    ascending, their weights (L, T, K), gap (L, T); K = 0 in a model without routers.
    """

    logits: np.ndarray
    experts: np.ndarray
    weights: np.ndarray
    gap: np.ndarray


@dataclass(frozen=True, slots=True)
class GreedyToken:
    """A token that a backend chose by itself: the id of the highest logit, the lowest id among equals.

    top, second: the two highest logits. flaws: how many are not finite. past: rows before it.
    """

    id: int
    top: np.float32
    second: np.float32
    flaws: int
    past: int


class Cache(Protocol):
    """Keys and values of one sequence. The model asks it for positions, so a wrapper can lie about them."""

    @property
    def length(self) -> int:
        """Rows stored by finished forwards."""
        ...

    @property
    def capacity(self) -> int: ...

    def positions(self, count: int) -> np.ndarray:
        """Absolute positions (count,) int64 of the next tokens."""
        ...

    def append(self, layer: int, k: Array, v: Array) -> None:
        """Store rows (T, G, D) of one layer after the rows of finished forwards."""
        ...

    def rows(self, layer: int) -> tuple[Array, Array]:
        """All rows (R, G, D) of one layer, the ones just appended included."""
        ...

    def advance(self, count: int) -> None:
        """Finish a forward of `count` tokens."""
        ...

    def truncate(self, length: int) -> None:
        """Forget all rows from `length` on."""
        ...

    def fork(self) -> Self:
        """Return a cache with the same rows that goes its own way from here."""
        ...


class Backend(Protocol):
    """What runs the operations. Stateless between calls but for caches of dequantized weights."""

    @property
    def name(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def numerics(self) -> str:
        """`f32` or `q8`."""
        ...

    @property
    def bitwise(self) -> bool:
        """Whether a token at a position is the same bits in any chunking and on any number of threads."""
        ...

    @property
    def threads(self) -> int:
        """Threads of the host that compute."""
        ...

    @property
    def details(self) -> Mapping[str, object]:
        """What else of its making a record should say, such as the kind of instructions."""
        ...

    def with_threads(self, threads: int) -> Self:
        """Return a backend on the same weights that computes on this many threads."""
        ...

    def computing(self) -> AbstractContextManager[None]:
        """What holds around every forward."""
        ...

    def new_cache(self, capacity: int) -> Cache: ...

    @property
    def cache_row_bytes(self) -> int:
        """Bytes that a cache holds of one position."""
        ...

    def memory(self, tokens: int, rows: int) -> tuple[int, int]:
        """Bytes held for weights, beside the mapped file, and as workspace of a forward.

        Of `tokens` tokens over `rows` cache rows, at most and by arithmetic alone.
        """
        ...

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows of the embedding: (T, H)."""
        ...

    def norm(self, x: Array, weight: str) -> Array:
        """RMSNorm over the last axis: (T, H) -> (T, H)."""
        ...

    def qkv(self, layer: int, x: Array, positions: np.ndarray) -> tuple[Array, Array, Array]:
        """Projections, per-head QK-norm, RoPE: q (T, N, D), k and v (T, G, D)."""
        ...

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: (T, N * D)."""
        ...

    def project(self, x: Array, weight: str) -> Array:
        """Multiply by a weight (out, in): (T, in) -> (T, out)."""
        ...

    def routed(self, layer: int) -> bool:
        """Whether the layer has a router and experts (else a dense feed-forward)."""
        ...

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts (T, K) int, ascending; their weights (T, K), summing to 1; gap (T,), see `Routing`."""
        ...

    def experts(self, layer: int, x: Array, chosen: np.ndarray, weights: np.ndarray) -> Array:
        """SwiGLU experts, weighted sum: (T, H)."""
        ...

    def dense(self, layer: int, x: Array) -> Array:
        """SwiGLU feed-forward of a dense layer: (T, H)."""
        ...

    def logits(self, x: Array) -> np.ndarray:
        """Output layer on normed x: (T, V), a NumPy array."""
        ...

"""The `cpu` backend: quantized blocks as they lie in the file, multiplied by kernels that Numba compiles.

Its numerics are `q8` (see `simd.products`), bit for bit the same whatever the chunks of a prefill, the number
of threads or the processor. Letters as in `backends/base.py`; F is the width of an expert or a feed-forward.
"""

import copy
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from refute_runtime.backends import blocks
from refute_runtime.backends.base import Array, WholeForward
from refute_runtime.backends.matrices import Matrices, Tables, room, room_bytes, rows_at_once
from refute_runtime.backends.rotation import Rotation
from refute_runtime.backends.simd import build, fused, layers, products
from refute_runtime.backends.simd.lanes import LANES
from refute_runtime.backends.whole import WholeToken
from refute_runtime.cache import KVCache
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure
from refute_runtime.weights import Weights

_TOKENS = 512  # computed at once by the experts: bounds the workspace
_QUERIES = 8 << 20  # bytes: parts of attention that are put together later
_HALVES = frozenset({"f16c", "fma"})  # without these, LLVM calls functions that are not there
_SMALL = 64 << 20  # bytes of weights
_EMPTY = np.empty(0, np.float32)
_ONE = np.array([[0, 0, 1, 0]])  # slots of one token
_FEW = 8  # slots whose room is kept


@dataclass(frozen=True, slots=True)
class Panels:
    """Tokens side by side, see `products`: slots (S, 4), panels (P, 4), groups (G + 1,)."""

    slots: np.ndarray
    panels: np.ndarray
    groups: np.ndarray

    @property
    def count(self) -> int:
        """Slots, those without a token included."""
        return len(self.slots)


class CpuBackend:
    """Runs the operations by compiled kernels, on `threads` threads of the host."""

    name = "cpu"
    numerics = "q8"
    bitwise = True
    device = "cpu"

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        threads: int | None = None,
    ) -> None:
        """Compile the kernels, where that was not done yet.

        threads: by default all that there are, or one for a small model, whose products take less time than
        threads need to meet.
        """
        self._config = config
        self._weights = weights
        small = sum(weights.raw(name).nbytes for name in weights.types()) < _SMALL
        self.threads = threads or (1 if small else build.most_threads())
        self._tables = Tables(weights)
        self._whole: dict[int, WholeToken] = {}  # by threads
        self._rooms: dict[tuple[int, int, bool], products.Packed] = {}
        self._rotation = Rotation(config)
        build.compile_all()

    @staticmethod
    def lacks(weights: Weights) -> str | None:
        """Why this backend cannot run a model on this machine, or None."""
        refused = blocks.unknown_type(weights.types())
        if refused is not None:
            return refused
        if weights.shape("blk.0.attn_k_norm.weight")[0] % LANES:
            return f"heads are not of a multiple of {LANES} elements"
        lacking = _HALVES - build.processor().features if platform.machine() in ("x86_64", "AMD64") else ()
        return f"the processor lacks {', '.join(sorted(lacking))}" if lacking else None

    @property
    def details(self) -> Mapping[str, object]:
        """The kernels that run, and the library of their threads."""
        return {"path": build.processor().path, "threading_layer": build.threading_layer()}

    def with_threads(self, threads: int) -> Self:
        """Return a backend on the same weights that computes on this many threads."""
        other = copy.copy(self)
        other.threads = threads
        return other

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Let no other thread of this process compute meanwhile."""
        with build.alone(self.threads):
            yield

    def new_cache(self, capacity: int) -> KVCache:
        """Make an empty cache for one sequence of up to `capacity` tokens."""
        config = self._config
        return KVCache(config.layers, config.kv_heads, config.head_dim, capacity, dtype=np.float16)

    @property
    def cache_row_bytes(self) -> int:
        """Of keys and values in float16."""
        return 2 * self._config.cache_row_elements

    def memory(self, tokens: int, rows: int) -> tuple[int, int]:
        """Bytes of weights beside the mapped file, and of workspace.

        Workspace: what attention or the feed-forward holds of all tokens at once, the larger of the two, the
        values between them, and the logits of one token.
        """
        config, slots = self._config, tokens
        H, F, heads = config.hidden, config.dense_ffn, config.heads + 2 * config.kv_heads
        if config.moe:
            choices = min(tokens, _TOKENS) * config.experts_per_token
            slots, F = choices + 3 * min(config.experts, choices), config.expert_ffn
        forward = slots * (room_bytes(H) + 8 * F + room_bytes(F) + 4 * H)
        parts = config.heads * -(-max(rows, 1) // layers.SPLIT) * (config.head_dim + 2) * 4  # of one query
        attention = tokens * 4 * config.head_dim * (2 * heads + config.heads)
        attention += min(tokens * parts, max(_QUERIES, parts))
        return self._weights.resident, max(forward, attention) + 12 * tokens * H + 4 * config.vocabulary

    def whole(
        self,
        tokens: Sequence[int],
        positions: np.ndarray,
        cache: KVCache,
        last_only: bool,  # noqa: ARG002 (there is only one)
    ) -> WholeForward | None:
        """Compute one token in one call, where every layer has experts; else None, and nothing was done."""
        if len(tokens) != 1 or not self._config.moe or type(cache) is not KVCache:
            return None
        whole = self._whole.get(self.threads)
        if whole is None:
            whole = self._whole[self.threads] = WholeToken(self._config, self._tables, self.threads)
        rotation = self._rotation(positions)
        return whole.run(self.embed(tokens), rotation, cache)

    def embed(self, tokens: Sequence[int]) -> Array:
        """Rows of the embedding: (T, H)."""
        return np.array(self._weights.rows_alone("token_embd.weight", tokens))

    def norm(self, x: Array, weight: str) -> Array:
        """RMSNorm over the last axis: (T, H) -> (T, H)."""
        x = _plain(x)
        out = np.empty_like(x)
        layers.norm(x, self._tables.vector(weight), np.float32(self._config.rms_eps), out)
        return out

    def qkv(self, layer: int, x: Array, positions: np.ndarray) -> tuple[Array, Array, Array]:
        """Projections, per-head QK-norm, RoPE: q (T, N, D), k and v (T, G, D)."""
        config, name, T = self._config, f"blk.{layer}", len(x)
        both = self._times(x, *(f"{name}.attn_{part}.weight" for part in "qkv"))  # (T, (N + 2 G) D)
        q = np.empty((T, config.heads, config.head_dim), np.float32)
        k, v = (np.empty((T, config.kv_heads, config.head_dim), np.float32) for _ in range(2))
        norms = (self._tables.vector(f"{name}.attn_{part}_norm.weight") for part in "qk")
        layers.heads_of(both, q, k, v, *norms, *self._rotation(positions), np.float32(config.rms_eps))
        return q, k, v

    def attention(self, q: Array, k: Array, v: Array) -> Array:
        """Causal GQA of T queries over R rows, query t sees rows <= R - T + t: (T, N * D).

        Keys and values are rounded to float16, where they are not yet. A query that would see no row at all
        (the cache lost that many) sees the first one.
        """
        q, k, v = _plain(q), _halves(k), _halves(v)
        T, N, D = q.shape
        R = len(k)
        if R == 0:
            raise RuntimeFailure("the cache returned no rows, not even those just appended")
        splits = -(-R // layers.SPLIT)
        out = np.empty((T, N, D), np.float32)
        step = max(1, _QUERIES // (N * splits * (D + 2) * 4))
        sums = np.empty((min(T, step), N, splits, 2), np.float32)
        parts = np.empty((min(T, step), N, splits, D), np.float32)
        for start in range(0, T, step):
            block = q[start : start + step]
            B = len(block)
            rows = max(R - T + start + B, 1)  # that its last query sees
            scale, results = np.float32(D**-0.5), out[start : start + B]
            layers.attend(block, k[:rows], v[:rows], scale, sums[:B], parts[:B], results)
        return out.reshape(T, N * D)

    def project(self, x: Array, weight: str) -> Array:
        """Multiply by a weight (out, in): (T, in) -> (T, out)."""
        return self._times(x, weight)

    def routed(self, layer: int) -> bool:  # noqa: ARG002 (in these architectures all layers are alike)
        """Whether the layer has a router and experts."""
        return self._config.moe

    def route(self, layer: int, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts (T, K), ascending; their weights (T, K), summing to 1; gap (T,)."""
        scores = self._times(x, f"blk.{layer}.ffn_gate_inp.weight")  # (T, E)
        T, K = len(x), self._config.experts_per_token
        chosen, shares = np.empty((T, K), np.int64), np.empty((T, K), np.float32)
        gaps = np.empty(T, np.float32)
        layers.route(scores, chosen, shares, gaps)
        return chosen, shares, gaps

    def experts(self, layer: int, x: Array, chosen: np.ndarray, weights: np.ndarray) -> Array:
        """SwiGLU experts, weighted sum: (T, H)."""
        x, out = _plain(x), np.empty(x.shape, np.float32)
        chosen, weights = np.array(chosen, np.int64), np.array(weights, np.float32)
        for start in range(0, len(x), _TOKENS):
            part = slice(start, start + _TOKENS)
            self._experts(layer, x[part], chosen[part], weights[part], out[part])
        return out

    def _experts(
        self, layer: int, x: np.ndarray, chosen: np.ndarray, weights: np.ndarray, out: np.ndarray
    ) -> None:
        name = f"blk.{layer}.ffn"
        both = self._tables.matrices(f"{name}_gate_exps.weight", f"{name}_up_exps.weight")
        down = self._tables.matrices(f"{name}_down_exps.weight")
        panels, places = _by_expert(chosen, self._config.experts)
        read = panels
        if len(x) == 1:  # all experts read the one token
            read = Panels(_ONE, panels.panels.copy(), panels.groups)
            read.panels[:, 1] = 0
        forms = np.array([both.rounded, both.floats, down.rounded, down.floats])
        chunks = np.array([self._chunk(both, panels), self._chunk(down, panels)], np.int64)
        between = np.empty((panels.count, both.rows), np.float32)
        results = np.empty((panels.count, down.rows), np.float32)
        fused.experts(
            x, read.slots, read.panels, panels.slots, panels.panels, panels.groups, both.table, down.table,
            self._room(read.count, both), self._room(panels.count, down), forms, between, results, places,
            weights, out, chunks,
        )  # fmt: skip

    def dense(self, layer: int, x: Array) -> Array:
        """SwiGLU feed-forward of a dense layer: (T, H)."""
        name = f"blk.{layer}.ffn"
        panels = _in_order(len(x))
        gate_up = self._times(x, f"{name}_gate.weight", f"{name}_up.weight", padded=True)
        down = self._tables.matrices(f"{name}_down.weight")
        packed = self._room(panels.count, down)
        products.pack_swiglu(gate_up, panels.slots, packed, down.rounded, down.floats)
        out = np.empty((panels.count, down.rows), np.float32)
        products.multiply(
            down.table, down.columns, panels.panels, panels.groups, packed, out,
            self._chunk(down, panels),
        )  # fmt: skip
        return out[: len(x)]

    def logits(self, x: Array) -> np.ndarray:
        """Output layer on normed x: (T, V); the embedding where the file ties them."""
        return self._times(x, "token_embd.weight" if self._config.tied else "output.weight")

    def _times(self, x: Array, *names: str, padded: bool = False) -> np.ndarray:
        """Multiply by matrices of the same columns: (T, C) -> (T, all their rows); padded: (S, those)."""
        x, matrices, panels = _plain(x), self._tables.matrices(*names), _in_order(len(x))
        out = np.empty((panels.count, matrices.rows), np.float32)
        fused.times(
            x, panels.slots, panels.panels, panels.groups, matrices.table, self._room(panels.count, matrices),
            matrices.rounded, matrices.floats, out, self._chunk(matrices, panels),
        )  # fmt: skip
        return out if padded else out[: len(x)]

    def _chunk(self, matrices: Matrices, panels: Panels) -> int:
        return rows_at_once(matrices.rows, len(panels.groups) - 1, self.threads)

    def _room(self, slots: int, matrices: Matrices) -> products.Packed:
        """Arrays for packed values; those of a few slots are kept, as whoever computes is alone."""
        if slots > _FEW:
            return room(slots, matrices.columns, floats=matrices.floats)
        key = (slots, matrices.columns, matrices.floats)
        found = self._rooms.get(key)
        if found is None:
            found = self._rooms[key] = room(slots, matrices.columns, floats=matrices.floats)
        return found


def _halves(x: Array) -> np.ndarray:
    """Bits of float16, writeable, the elements of a row side by side."""
    if x.dtype == np.float16 and x.strides[-1] == x.itemsize and x.flags.writeable:
        return x.view(np.uint16)  # type: ignore[no-any-return]
    with np.errstate(over="ignore"):
        return np.array(x, np.float16, order="C").view(np.uint16)


def _plain(x: Array) -> np.ndarray:
    """In one piece, writeable float32: compiled code takes no other array."""
    if x.dtype == np.float32 and x.flags.c_contiguous and x.flags.writeable:
        return x  # type: ignore[no-any-return]
    return np.array(x, np.float32, order="C")


@lru_cache(maxsize=64)
def _in_order(tokens: int) -> Panels:
    """Panels of tokens one after the other; treat them as read-only."""
    panels, slots, done = [], [], 0
    while done < tokens:
        left = tokens - done
        width = 1 if left == 1 else 4 if left <= 4 else 8
        panels.append((0, done, done, width))
        slots += [(done, lane, width, done + lane if lane < left else -1) for lane in range(width)]
        done += width
    return Panels(np.array(slots, np.int64), np.array(panels, np.int64), np.array([0, len(panels)]))


def _by_expert(chosen: np.ndarray, experts: int) -> tuple[Panels, np.ndarray]:
    """Panels of tokens that chose the same expert, and the slot of each choice (T, K)."""
    choices = chosen.size
    slots = np.empty((2 * choices + 8, 4), np.int64)
    panels = np.empty((choices, 4), np.int64)
    groups = np.empty(experts + 1, np.int64)
    places, counts = np.empty_like(chosen), np.empty(3, np.int64)
    layers.arrange(chosen, experts, slots, places, panels, groups, counts)
    s, p, g = counts.tolist()
    return Panels(slots[:s], panels[:p], groups[: g + 1]), places

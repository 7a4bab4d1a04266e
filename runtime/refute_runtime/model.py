"""The model: Qwen3-MoE and dense Qwen3, one forward from token ids to logits.

Letters: T new tokens, R cache rows (old and new), H hidden, N query heads, G kv heads, D head size,
E experts, K experts per token, V vocabulary. `backends/base.py` says what each operation computes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refute_runtime.backends.base import Backend, Cache
from refute_runtime.config import ModelConfig

_MANY = 32  # tokens whose forward may take a while


@dataclass(frozen=True, slots=True)
class Counters:
    """What was done, counted where it is done; the sum of two is what both did.

    experts_run: (token, expert) pairs evaluated. cache_positions_read: rows of earlier forwards that
    attention read, summed over layers. guards_fired: how often a forward noticed that something was off:
    a layer's cache held another number of rows than its length promises, or the logits were not finite.
    A guard only counts: the forward goes on, so that a falsifier sees what comes of it.
    """

    forwards: int = 0
    moe_layers: int = 0
    dense_layers: int = 0
    experts_run: int = 0
    cache_positions_read: int = 0
    guards_fired: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.forwards + other.forwards,
            self.moe_layers + other.moe_layers,
            self.dense_layers + other.dense_layers,
            self.experts_run + other.experts_run,
            self.cache_positions_read + other.cache_positions_read,
            self.guards_fired + other.guards_fired,
        )


@dataclass(frozen=True, slots=True)
class LayerRouting:
    """What one layer's router decided. A layer without router has no experts (K = 0) and a gap of 1.

    experts: (T, K) ids, ascending. weights: (T, K) their shares of the sum, in the same order. gap: (T,)
    probability of the last expert chosen minus that of the first one not chosen.
    """

    experts: np.ndarray
    weights: np.ndarray
    gap: np.ndarray


@dataclass(frozen=True, slots=True)
class Forward:
    """Logits (T, V), or (1, V) for the last token only; routing has one entry per layer, where asked for."""

    logits: np.ndarray
    counters: Counters
    routing: tuple[LayerRouting, ...] | None


class Model:
    """The layers of the file, run by a backend."""

    def __init__(
        self, config: ModelConfig, backend: Backend, progress: Callable[[str, int, int], None] | None = None
    ) -> None:
        """progress: told layers done and layers in all while many tokens are computed."""
        self.config = config
        self.backend = backend
        self._progress = progress

    def forward(
        self, tokens: Sequence[int], cache: Cache, *, last_only: bool = True, routing: bool = False
    ) -> Forward:
        """Run new tokens after those in the cache, which then holds them too."""
        with self.backend.computing():
            return self._forward(tokens, cache, last_only, routing)

    def _forward(self, tokens: Sequence[int], cache: Cache, last_only: bool, routing: bool) -> Forward:
        run = self.backend
        T = len(tokens)
        past = cache.length
        positions = cache.positions(T)  # (T,)
        if (whole := self._whole(tokens, positions, cache, last_only, routing)) is not None:
            return whole
        moe_layers = dense_layers = experts_run = cache_positions_read = guards_fired = 0
        decided: list[LayerRouting] = []

        x = run.embed(tokens)  # (T, H)
        for layer in range(self.config.layers):
            name = f"blk.{layer}"

            h = run.norm(x, f"{name}.attn_norm.weight")
            q, k, v = run.qkv(layer, h, positions)  # (T, N, D), (T, G, D), (T, G, D)
            cache.append(layer, k, v)
            k, v = cache.rows(layer)  # (R, G, D)
            cache_positions_read += max(len(k) - T, 0)
            guards_fired += len(k) != past + T
            x = x + run.project(run.attention(q, k, v), f"{name}.attn_output.weight")

            h = run.norm(x, f"{name}.ffn_norm.weight")
            if run.routed(layer):
                chosen, shares, gap = run.route(layer, h)  # (T, K), (T, K), (T,)
                x = x + run.experts(layer, h, chosen, shares)
                moe_layers += 1
                experts_run += sum(len(set(experts)) for experts in chosen.tolist())
            else:
                chosen, gap = np.empty((T, 0), dtype=np.int64), np.ones(T, dtype=np.float32)
                shares = np.empty((T, 0), dtype=np.float32)
                x = x + run.dense(layer, h)
                dense_layers += 1
            if self._progress is not None and T >= _MANY:
                self._progress(f"computing {T} tokens", layer + 1, self.config.layers)
            if routing:
                decided.append(LayerRouting(chosen, shares, gap))
        cache.advance(T)

        x = run.norm(x[-1:] if last_only else x, "output_norm.weight")
        logits = run.logits(x)  # (1 or T, V)
        guards_fired += not np.isfinite(logits).all()
        return Forward(
            logits,
            Counters(1, moe_layers, dense_layers, experts_run, cache_positions_read, guards_fired),
            tuple(decided) if routing else None,
        )

    def counted(self, past: int, flaws: int) -> Counters:
        """Count a forward of one token over `past` rows that a backend made by itself."""
        config = self.config
        moe, dense = (config.layers, 0) if config.moe else (0, config.layers)
        experts = moe * config.experts_per_token
        return Counters(1, moe, dense, experts, config.layers * past, int(flaws > 0))

    def _whole(
        self, tokens: Sequence[int], positions: np.ndarray, cache: Cache, last_only: bool, routing: bool
    ) -> Forward | None:
        """Let the backend compute by itself, where it can; the bits are those of the operations.

        A wrapped backend is asked operation by operation: `whole` is looked for in the type, as a wrapper
        passes on what it does not define. Of a wrapped cache, a backend itself computes nothing.
        """
        whole = getattr(type(self.backend), "whole", None)
        past, T = cache.length, len(tokens)
        done = None if whole is None else whole(self.backend, tokens, positions, cache, last_only)
        if done is None:
            return None
        cache.advance(T)
        layers, K = done.experts.shape[0], done.experts.shape[2]
        off = not np.isfinite(done.logits).all()
        moe, run = (layers, np.count_nonzero(done.experts >= 0)) if K else (0, 0)
        counters = Counters(1, moe, layers - moe, int(run), layers * past, int(off))
        if not routing:
            return Forward(done.logits, counters, None)
        of_layers = zip(done.experts, done.weights, done.gap, strict=True)
        return Forward(done.logits, counters, tuple(LayerRouting(*decided) for decided in of_layers))

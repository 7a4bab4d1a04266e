"""Sequences in the simulated engine, and the reference that its numbers are compared with."""

import copy
import random
from collections.abc import Sequence

import numpy as np

from refute.faults.backend import misstate, reordered
from refute.faults.cache import Cache
from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import Counters, TargetError
from refute.targets.fake_model import (
    END,
    EXPERTS_PER_TOKEN,
    LAYERS,
    FakeCache,
    forward,
    misroute,
    mix,
    recalling,
    route,
    uniform,
)
from refute.targets.fake_mutant import mutant_logits, mutant_shares
from refute.targets.scores import Forced, Scores, Stopped
from refute.targets.stopping import greedy, stopped

_CHOSEN_SHARE = np.float64(0.8)  # of all probabilities, where shares are not renormalised


class FakeSession:
    """One sequence in the simulated engine."""

    def __init__(
        self,
        cache: Cache,
        planted: Planted,
        *,
        cached: bool,
        moe: bool,
        routed: bool,
        reached: bool,
        threads: int = 1,
    ) -> None:
        """moe, routed: whether the model has routers, and shows them. reached: by a backend fault."""
        self._cache = cache
        self._planted = planted
        self._cached = cached
        self._moe = moe
        self._routed = routed
        self._reached = reached
        self._forwards = 0
        self._threads = threads

    @property
    def length(self) -> int:
        return self._cache.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        """Run tokens in one forward; raises `TargetError` for none."""
        if not tokens:
            raise TargetError("a forward of no tokens; expected one or more")
        planted = self._planted
        states, read = forward(tokens, self._cache)
        decoding = self._cached and len(tokens) == 1
        dense_layers = dense_layers_of(planted, reached=self._reached)
        states, experts, shares, gaps = decide(states, planted, decoding=decoding, dense=dense_layers > 0)
        logits = recalling(mutant_logits(planted, states, experts), self._cache)
        logits = misstate(planted.fault, logits)
        guards = int(planted.has("guard-fires") and self._forwards < int(planted.dose))
        if planted.has("thread-race") and self._threads > 1:
            logits[:, 0] += np.float32(planted.dose)
        if planted.has("sums-reordered") and len(tokens) > 1:
            logits = reordered(logits, int(planted.dose))
        if guards:
            logits[-1, logits[-1].argmin()] = -np.inf
        self._forwards += 1
        counters = Counters()
        if not planted.has("counters-stuck"):
            moe_layers = LAYERS - dense_layers if self._moe else 0
            experts_run = len(tokens) * moe_layers * EXPERTS_PER_TOKEN
            counters = Counters(1, moe_layers, LAYERS - moe_layers, experts_run, read, guards)
        if not routing or not self._routed:
            return Scores(logits, counters=counters)
        order = np.argsort(experts, axis=-1)
        return Scores(
            logits,
            np.take_along_axis(experts, order, axis=-1),
            np.take_along_axis(mutant_shares(self._planted, shares), order, axis=-1),
            gaps,
            counters,
        )

    def fork(self) -> "FakeSession":
        other = copy.copy(self)
        other._cache = self._cache.fork()  # noqa: SLF001  (our own copy)
        return other

    def trim(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise TargetError(f"cannot trim a sequence of {self.length} tokens to {length}")
        self._cache.truncate(length)

    def stop(self, token: int, *, after: int, of: int, routing: bool = False) -> Stopped:
        return stopped(self._planted.streamed(greedy(self, token, of, routing=routing)), after)


def decide(
    states: np.ndarray, planted: Planted, *, decoding: bool, dense: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the routers make of states (T,): the states after them, experts and shares (T, L, K), gaps (T, L).

    decoding: a forward of one token over the cache. dense: some layers run as dense ones. Wrong routing gives
    other states, hence other logits.
    """
    if dense:
        states = mix(states)
    experts, shares, gaps = route(states)
    first = LAYERS - planted.layers
    match planted.fault.name if planted.fault else None:
        case "routing-depends-on-cache" if decoding:
            return mix(states), misroute(experts, planted.layers), shares, gaps
        case "router-top-k-off":
            return mix(states), misroute(experts, planted.layers), shares, gaps
        case "weights-not-renormalised":
            lowered = np.where(np.arange(LAYERS)[:, None] < first, shares, shares * _CHOSEN_SHARE)
            return mix(states), experts, lowered, gaps
        case "router-collapsed":
            hit = uniform(states, 1, 3)[:, 0] < planted.dose
            stuck = np.where(hit[:, None, None], np.arange(experts.shape[-1]), experts)
            return np.where(hit, mix(states), states), stuck, shares, gaps
        case _:
            return states, experts, shares, gaps


def dense_layers_of(planted: Planted, *, reached: bool) -> int:
    """How many layers a planted fault runs as dense ones, where it reaches."""
    dense = planted.has("dense-dispatch") or planted.has("dense-on-some-routes")
    return planted.layers if reached and dense else 0


class FakeReference:
    """The same numbers, as if another implementation had given them."""

    identity = {"engine": "refute-fake-reference", "digest": "", "backend": None, "numerics": None}  # noqa: RUF012

    def prompts(self, count: int, seed: int) -> Sequence[Forced]:
        draw = random.Random(seed)  # noqa: S311
        return [
            Forced(tuple(draw.choices(range(END), k=24)), tuple(draw.choices(range(END), k=8)))
            for _ in range(count)
        ]

    def scores(self, forced: Forced) -> Scores:
        """Scores of the honest engine, by one prefill."""
        session = FakeSession(FakeCache(), HEALTHY, cached=False, moe=True, routed=True, reached=False)
        scores = session.extend([*forced.prompt, *forced.answer], routing=True)
        first = len(forced.prompt) - 1
        assert scores.experts is not None
        assert scores.weights is not None
        assert scores.gaps is not None
        return Scores(
            scores.logits[first:], scores.experts[first:], scores.weights[first:], scores.gaps[first:]
        )

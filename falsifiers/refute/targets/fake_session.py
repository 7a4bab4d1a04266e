"""Sequences in the simulated engine, and the reference that its numbers are compared with."""

import random
from collections.abc import Sequence

import numpy as np

from refute.faults.cache import Cache
from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import Forced, Scores, TargetError
from refute.targets.fake_model import END, FakeCache, forward, logits_of, misroute, mix, recalling, route


class FakeSession:
    """One sequence in the simulated engine."""

    def __init__(self, cache: Cache, planted: Planted, *, cached: bool, routed: bool) -> None:
        self._cache = cache
        self._planted = planted
        self._cached = cached
        self._routed = routed

    @property
    def length(self) -> int:
        return self._cache.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        """Run tokens in one forward; raises `TargetError` for none."""
        if not tokens:
            raise TargetError("a forward of no tokens; expected one or more")
        planted = self._planted
        states, _ = forward(tokens, self._cache)
        if planted.has("dense-dispatch"):
            states = mix(states)
        experts, shares, gaps = route(states)
        if planted.has("routing-depends-on-cache") and self._cached and len(tokens) == 1:
            experts = misroute(experts, planted.layers)
            states = mix(states)
        logits = recalling(logits_of(states), self._cache)
        if not routing or not self._routed:
            return Scores(logits)
        order = np.argsort(experts, axis=-1)
        return Scores(
            logits,
            np.take_along_axis(experts, order, axis=-1),
            np.take_along_axis(shares, order, axis=-1),
            gaps,
        )

    def fork(self) -> "FakeSession":
        return FakeSession(self._cache.fork(), self._planted, cached=self._cached, routed=self._routed)

    def trim(self, length: int) -> None:
        if not 0 <= length <= self.length:
            raise TargetError(f"cannot trim a sequence of {self.length} tokens to {length}")
        self._cache.truncate(length)


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
        session = FakeSession(FakeCache(), HEALTHY, cached=False, routed=True)
        scores = session.extend([*forced.prompt, *forced.answer], routing=True)
        first = len(forced.prompt) - 1
        assert scores.experts is not None
        assert scores.weights is not None
        assert scores.gaps is not None
        return Scores(
            scores.logits[first:], scores.experts[first:], scores.weights[first:], scores.gaps[first:]
        )

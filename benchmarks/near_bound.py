"""Simulated engines whose true figure lies at a given share of a claim's bound, as `rates.py` attacks them.

One for each kind whose bound is a rate, a share or a size. All but that figure is honest.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from refute.contract import Falsifier
from refute.kinds import kind_named
from refute.kinds.base import Measured
from refute.targets.base import Generation, Peak, Request
from refute.targets.fake import FakeTarget
from refute.targets.scores import Scores, Session, Stopped
from refute.trials import size_of
from refute.wire.endpoint import Endpoint, Times

Make = Callable[[int], FakeTarget]
"""Makes the engine of a seed."""
Alter = Callable[[Scores], Scores]


def near_bound(falsifier: Falsifier, share: float) -> Make | None:
    """An engine at this share of the bound; None for a kind whose bound is none of those."""
    bound = falsifier.bound
    limit = bound.above if bound.below is None else bound.below
    if limit is None:
        return None
    match falsifier.kind:
        case "tok-floor":
            return partial(_with_rate, limit * share)
        case "speed-up":
            return partial(_with_speed_up, _prefill_speed_up(falsifier, limit * share))
        case "needle-recall":
            return partial(Forgetful, limit * share)
        case "expert-load":
            return partial(Lopsided, limit * share)
        case "memory-peak":
            return partial(Bloated, limit * share)
        case "memory-growth":
            return partial(Leaking, limit * share)
        case "sse-gap" | "first-content":
            return partial(Late, limit * share, falsifier.kind == "first-content")
        case "request-rate":
            return partial(Slow, limit * share)
        case _:
            return None


def _with_rate(rate: float, seed: int) -> FakeTarget:
    return FakeTarget(seed, rate=rate)


def _with_speed_up(speed_up: float, seed: int) -> FakeTarget:
    return FakeTarget(seed, prefill_speedup=speed_up)


def _prefill_speed_up(falsifier: Falsifier, ratio: float) -> float:
    """How much cheaper a prompt token has to be for this speed-up; the ratio falls as it grows."""
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    assert isinstance(kind, Measured)
    low, high = 1.0, 10_000.0
    for _ in range(50):
        middle = (low * high) ** 0.5
        target = FakeTarget(0, prefill_speedup=middle, noise=0.0)
        (case, *_) = kind.plan(target, size_of(kind, falsifier.bound), 0)
        low, high = (middle, high) if kind.measure(kind.observe(target, case)) > ratio else (low, middle)
    return high


class Bloated(FakeTarget):
    """Grows to so many times what it needs."""

    def __init__(self, ratio: float, seed: int) -> None:
        super().__init__(seed)
        self._ratio = ratio

    def fresh_peak(self, request: Request) -> Peak:
        honest, needed = super().fresh_peak(request), self.footprint(request)
        grown = int(self._ratio * (needed.weights + needed.cache + needed.workspace))
        return replace(honest, peak=honest.anonymous_before + honest.file_after + grown)


class Leaking(FakeTarget):
    """Keeps so many bytes of every generation."""

    def __init__(self, leak: float, seed: int) -> None:
        super().__init__(seed)
        self._leak = leak
        self._generations = 0

    def generate(self, request: Request) -> Generation:
        self._generations += 1
        return super().generate(request)

    def resident(self) -> int:
        return super().resident() + round(self._leak * self._generations)


class Late(FakeTarget):
    """Shows streams whose events come so many seconds apart, within a few percent; nothing sleeps.

    first: they come all at once, so late.
    """

    def __init__(self, seconds: float, first: bool, seed: int) -> None:
        super().__init__(seed)
        self._gap = seconds * 1e9
        self._first = first
        self._draw = random.Random(f"late {seed}")  # noqa: S311

    @property
    def endpoint(self) -> Endpoint:
        return replace(super().endpoint, retimed=self._shown)

    def _shown(self, times: Times) -> Times:
        *events, head, _ = times
        gap = self._gap * self._draw.lognormvariate(0, self.noise)
        shown = [round(gap * (1 if self._first else place)) for place, _ in enumerate(events, 1)]
        return (*shown, head, max(shown, default=0))


class Slow(FakeTarget):
    """Answers so many requests a second, within a few percent, by a clock on which only answers take time."""

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__(seed)
        self._step = 1e9 / rate
        self._now = 0.0
        self._draw = random.Random(f"slow {seed}")  # noqa: S311

    @property
    def endpoint(self) -> Endpoint:
        return replace(super().endpoint, clock=lambda: round(self._now), retimed=self._answered)

    def _answered(self, times: Times) -> Times:
        self._now += self._step * self._draw.lognormvariate(0, self.noise)
        return times


class _Altered(FakeTarget):
    """Sequences that show other scores than they computed."""

    def alteration(self, *, forked: bool) -> Alter:
        """What changes the scores of a new sequence; forked: it goes on from another one."""
        raise NotImplementedError

    def session(
        self, capacity: int, *, prompt: int, cache: bool = True, threads: int | None = None
    ) -> Session:
        honest = super().session(capacity, prompt=prompt, cache=cache, threads=threads)
        return _AlteredSession(honest, self, forked=False)


class _AlteredSession:
    def __init__(self, honest: Session, target: _Altered, *, forked: bool) -> None:
        self._honest = honest
        self._target = target
        self._alter = target.alteration(forked=forked)

    @property
    def length(self) -> int:
        return self._honest.length

    def extend(self, tokens: Sequence[int], *, routing: bool = False) -> Scores:
        return self._alter(self._honest.extend(tokens, routing=routing))

    def fork(self) -> Session:
        return _AlteredSession(self._honest.fork(), self._target, forked=True)

    def trim(self, length: int) -> None:
        self._honest.trim(length)

    def stop(self, token: int, *, after: int, of: int, routing: bool = False) -> Stopped:
        return self._honest.stop(token, after=after, of=of, routing=routing)


class Forgetful(_Altered):
    """Recalls a fact with this probability: a sequence that was forked answers one question."""

    def __init__(self, recall: float, seed: int) -> None:
        super().__init__(seed)
        self._recall = recall
        self._draw = random.Random(f"recall {seed}")  # noqa: S311

    def alteration(self, *, forked: bool) -> Alter:
        if forked and self._draw.random() >= self._recall:
            return lambda scores: replace(scores, logits=np.roll(scores.logits, 1, axis=-1))
        return lambda scores: scores


class Lopsided(_Altered):
    """Sends this share of the tokens of layer 0 to its expert 0."""

    def __init__(self, load: float, seed: int) -> None:
        super().__init__(seed)
        self._load = load
        self._draw = random.Random(f"load {seed}")  # noqa: S311

    def alteration(self, *, forked: bool) -> Alter:  # noqa: ARG002 (all sequences alike)
        return self._sent

    def _sent(self, scores: Scores) -> Scores:
        if scores.experts is None:
            return scores
        experts = scores.experts.copy()  # (T, L, K)
        for chosen in experts[:, 0]:  # (K,) each; expert 0 stands first, where it is chosen at all
            if self._draw.random() < self._load:
                chosen[0] = 0
            elif chosen[0] == 0:
                chosen[0] = next(expert for expert in range(1, len(chosen) + 1) if expert not in chosen)
                chosen.sort()
        return replace(scores, experts=experts)

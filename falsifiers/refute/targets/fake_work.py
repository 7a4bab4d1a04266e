"""The simulated engine's work: time that passes only when something is done, and what one generation gave."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import Counters, Generation, Progress, Request, Routing
from refute.targets.fake_model import EXPERTS_PER_TOKEN, LAYERS


@dataclass(slots=True)
class VirtualClock:
    """Nanoseconds that pass only when work is done."""

    now_ns: int = 1_000_000_000

    def read(self) -> int:
        return self.now_ns


class Work:
    """What one generation did: counters, and the time that it took on the virtual clock.

    rate, prefill_speedup, noise, dense: as of `FakeTarget`.
    """

    def __init__(
        self,
        clock: VirtualClock,
        draw: random.Random,
        *,
        rate: float,
        prefill_speedup: float,
        noise: float,
        dense: bool,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._rate = rate
        self._prefill_speedup = prefill_speedup
        self._noise = noise
        self._dense = dense
        self._pace = draw.lognormvariate(0.0, noise / 2)
        self.counters = Counters()

    def forward(self, count: int, read: int, dense_layers: int, guards: int) -> None:
        done = self.counters
        seconds = (1 + (count - 1) / self._prefill_speedup) / self._rate
        seconds *= self._pace * self._draw.lognormvariate(0.0, self._noise)
        self._clock.now_ns += round(seconds * 1e9)
        moe_layers = 0 if self._dense else LAYERS - dense_layers
        self.counters = Counters(
            forwards=done.forwards + 1,
            moe_layers=done.moe_layers + moe_layers,
            dense_layers=done.dense_layers + LAYERS - moe_layers,
            experts_run=done.experts_run + count * moe_layers * EXPERTS_PER_TOKEN,
            cache_positions_read=done.cache_positions_read + read,
            guards_fired=done.guards_fired + guards,
        )


class Forwards:
    """Counts the forwards of one answer over HTTP, with a fault in what is run or in what is told."""

    def __init__(self, planted: Planted = HEALTHY, *, dense: bool = False) -> None:
        self._planted = planted
        self._work = Work(VirtualClock(), random.Random(0), rate=1, prefill_speedup=1, noise=0, dense=dense)  # noqa: S311
        self._rows = 0
        self._counted = [Counters()]

    def count(self, tokens: int) -> None:
        """Count one more forward, of so many new tokens."""
        planted, done = self._planted, len(self._counted) - 1
        dense_layers = planted.layers if planted.has("dense-dispatch") else 0
        guards = int(planted.has("guard-fires") and done < planted.dose)
        self._work.forward(tokens, LAYERS * self._rows, dense_layers, guards)
        self._rows += tokens
        self._counted.append(self._work.counters)

    @property
    def told(self) -> Counters:
        """What a client is told of them."""
        forgotten = int(self._planted.dose) if self._planted.has("counters-stuck") else 0
        return self._counted[max(len(self._counted) - 1 - forgotten, 0)]


@dataclass(slots=True)
class Answer:
    """What one generation has given so far, token by token."""

    work: Work
    started_ns: int
    prefilled_ns: int = 0
    token_ns: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    experts: list[tuple[tuple[int, ...], ...]] = field(default_factory=list)
    gaps: list[tuple[float, ...]] = field(default_factory=list)
    counters: list[Counters] = field(default_factory=list)

    def generation(
        self,
        tokens: Sequence[int],
        request: Request,
        capabilities: frozenset[str],
        *,
        uncounted: int,
        text: str,
        progress: Progress | None,
    ) -> Generation:
        """What the caller gets of it. uncounted: tokens at the end that the counters know nothing of."""
        count = len(tokens)
        counters = (Counters(), *self.counters)[max(len(self.counters) - uncounted, 0)]
        return Generation(
            tokens=tuple(tokens),
            started_ns=self.started_ns,
            prefilled_ns=self.prefilled_ns,
            token_ns=tuple(self.token_ns[:count]),
            counters=counters if "counters" in capabilities else Counters(),
            margins=tuple(self.margins[:count]) if request.margins and "margins" in capabilities else None,
            routing=Routing(tuple(self.experts[:count]), tuple(self.gaps[:count]))
            if request.routing and "routing" in capabilities
            else None,
            text=text,
            progress=progress,
        )

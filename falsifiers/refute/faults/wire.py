"""Faults on the wire: what a proxy does to requests and answers, and what a clock does to the times shown.

Every fault is an `Exchange` that overrides what it breaks. One that only a share of the requests has falls on
them by the order in which they come.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import TYPE_CHECKING

from refute.faults.base import Fault
from refute.faults.cache import due
from refute.faults.wire_answers import OF_ANSWERS
from refute.faults.wire_requests import OF_REQUESTS, Cached
from refute.faults.wire_streams import OF_STREAMS
from refute.targets.base import CannotPlant, Clock
from refute.wire.endpoint import Endpoint, Times
from refute.wire.exchange import Exchange
from refute.wire.proxy import proxied

if TYPE_CHECKING:
    from refute.contract import Bound

_NS = 1e9


@contextmanager
def planted(endpoint: Endpoint, fault: Fault, bound: "Bound | None") -> Iterator[Endpoint]:
    """Give this endpoint with a fault in front of it.

    Raises `CannotPlant` for faults of other seams, and for those of times without a bound in that unit.
    """
    if fault.name in _OF_TIMES:
        yield _OF_TIMES[fault.name](endpoint, fault, bound)
        return
    with proxied(endpoint, begins(fault)) as behind:
        yield behind


def begins(fault: Fault) -> Callable[[], Exchange]:
    """Return what begins an exchange with this fault. Raises `CannotPlant` where it is none of the wire."""
    if fault.name in OF_STREAMS:
        numbers = count(1)
        return lambda: OF_STREAMS[fault.name](fault.dose, next(numbers))
    if fault.name == "wire-cached":
        answers: dict[str, object] = {}
        return _shared(fault.dose, lambda: Cached(answers))
    made: Callable[..., Exchange] | None = OF_REQUESTS.get(fault.name) or OF_ANSWERS.get(fault.name)
    if made is None:
        raise CannotPlant(f"{fault}: not a fault of the wire")
    if fault.name == "wire-temperature-forced":
        return lambda: made(fault.dose)
    return _shared(fault.dose, made)


def _shared(share: float, made: Callable[..., Exchange]) -> Callable[[], Exchange]:
    numbers = count(1)
    return lambda: made() if due(share, next(numbers)) else Exchange()


def _gaps_stretched(endpoint: Endpoint, fault: Fault, bound: "Bound | None") -> Endpoint:
    least = round(fault.dose * _limit(fault, bound, "below", "s") * _NS)

    def retimed(times: Times) -> Times:
        *events, head, end = times
        shown = events[:1]
        for before, now in pairwise(events):
            shown.append(shown[-1] + max(now - before, least))
        late = shown[-1] - events[-1] if events else 0
        return (*shown, head, end + late)

    return replace(endpoint, retimed=retimed)


def _first_late(endpoint: Endpoint, fault: Fault, bound: "Bound | None") -> Endpoint:
    least = round(fault.dose * _limit(fault, bound, "below", "s") * _NS)

    def retimed(times: Times) -> Times:
        *events, head, end = times
        late = max(0, least - events[0]) if events else 0
        return (*(now + late for now in events), head, end + late)

    return replace(endpoint, retimed=retimed)


@dataclass(slots=True)
class _Paced:
    """A clock that jumps ahead where an answer ends within `step` of its request, or of the answer before it.

    So however many clients ask, no more answers come than one in a step; and as many do, where the engine
    really is that fast.
    """

    clock: Clock
    step: int
    ahead: int = 0
    last: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> int:
        return self.clock() + self.ahead

    def retimed(self, times: Times) -> Times:
        """Keep the times of the answer, and let the clock jump behind it."""
        with self.lock:
            now = self()
            due = max(self.last, now - times[-1]) + self.step
            self.ahead += max(0, due - now)
            self.last = max(now, due)
        return times


def _rate_lowered(endpoint: Endpoint, fault: Fault, bound: "Bound | None") -> Endpoint:
    step = round(_NS / (fault.dose * _limit(fault, bound, "above", "req/s")))
    paced = _Paced(endpoint.clock, step, last=endpoint.clock())
    return replace(endpoint, clock=paced, retimed=paced.retimed)


def _limit(fault: Fault, bound: "Bound | None", side: str, unit: str) -> float:
    limit: float | None = None if bound is None or bound.unit != unit else getattr(bound, side)
    if limit is None or limit <= 0 or fault.dose <= 0:
        raise CannotPlant(f"{fault}: needs a bound in {unit} with `{side}`, to stay on the wrong side of it")
    return limit


_OF_TIMES: Mapping[str, Callable[[Endpoint, Fault, "Bound | None"], Endpoint]] = {
    "wire-gaps-stretched": _gaps_stretched,
    "wire-first-late": _first_late,
    "wire-rate-lowered": _rate_lowered,
}

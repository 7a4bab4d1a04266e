"""Clock faults: the clock that is read is stretched. Nothing sleeps, and the engine runs as ever."""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Clock, Generation, Request

if TYPE_CHECKING:
    from refute.contract import Bound

WINDOW = 3  # honest runs whose median is the rate of the moment
PROBE_TOKENS = 8  # the fewest of an honest run: fewer say little about a rate


def decode_rate(generation: Generation) -> float:
    """Tokens per second from the first token to the last; prefill is not in it. Needs two tokens."""
    times = generation.token_ns
    if len(times) < 2 or times[-1] <= times[0]:
        raise ValueError(f"a decode rate needs two tokens at two times, found {len(times)} token(s)")
    return (len(times) - 1) * 1e9 / (times[-1] - times[0])


class StretchedClock:
    """Readings of another clock, the time since the last change of `factor` multiplied by it.

    It never runs backwards.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = self._shown = clock()
        self._factor = 1.0

    def __call__(self) -> int:
        return self._shown + round((self._clock() - self._since) * self._factor)

    def stretch(self, factor: float) -> None:
        """Multiply time by `factor` from now on."""
        self._shown, self._since, self._factor = self(), self._clock(), factor


class SlowClock:
    """Make a clock that shows a decode rate of dose x floor.

    Before each request the same request runs with the honest clock; the median rate of the last few
    such runs gives the factor. So a host whose speed drifts is followed, and the scatter between runs
    is neither removed nor invented.
    """

    def __init__(self, fault: Fault, bound: "Bound | None") -> None:
        if fault.name != "slow-clock":
            raise CannotPlant(f"{fault}: not a fault of the clock")
        if bound is None or bound.above is None or bound.unit != "tok/s":
            raise CannotPlant(f"{fault}: needs a floor in tok/s to stay below")
        if fault.dose <= 0 or bound.above <= 0:
            raise CannotPlant(f"{fault}: needs a dose and a floor above 0")
        self._wanted = fault.dose * bound.above
        self._rates: deque[float] = deque(maxlen=WINDOW)
        self._clock: StretchedClock | None = None

    def clock(self, honest: Clock, generate: Callable[[Request], Generation], request: Request) -> Clock:
        """Return the stretched clock for this request; `generate` runs one with the honest clock."""
        probe = replace(request, max_tokens=max(request.max_tokens, PROBE_TOKENS), cache=True, stop=False)
        for _ in range(1 if self._rates else WINDOW):
            self._rates.append(decode_rate(generate(probe)))
        self._clock = self._clock or StretchedClock(honest)
        self._clock.stretch(statistics.median(self._rates) / self._wanted)
        return self._clock

"""Clock faults: the clock that is read is stretched. Nothing sleeps, and the engine runs as ever."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Clock, Generation, Request

if TYPE_CHECKING:
    from refute.contract import Bound

CALIBRATIONS = 3
CALIBRATION_TOKENS = 8


def decode_rate(generation: Generation) -> float:
    """Tokens per second from the first token to the last; prefill is not in it. Needs two tokens."""
    times = generation.token_ns
    if len(times) < 2 or times[-1] <= times[0]:
        raise ValueError(f"a decode rate needs two tokens at two times, found {len(times)} token(s)")
    return (len(times) - 1) * 1e9 / (times[-1] - times[0])


class StretchedClock:
    """Readings of another clock, with the time since `origin` multiplied by `factor`."""

    def __init__(self, clock: Clock, factor: float) -> None:
        self._clock = clock
        self._origin = clock()
        self.factor = factor

    def __call__(self) -> int:
        return self._origin + round((self._clock() - self._origin) * self.factor)


class SlowClock:
    """Make clocks that show a decode rate of dose x floor.

    The first request is run a few times with the honest clock; the median of its rates gives the
    factor, which then holds for all requests, so that their scatter stays what it was.
    """

    def __init__(self, fault: Fault, bound: "Bound | None") -> None:
        if fault.name != "slow-clock":
            raise CannotPlant(f"{fault}: not a fault of the clock")
        if bound is None or bound.above is None or bound.unit != "tok/s":
            raise CannotPlant(f"{fault}: needs a floor in tok/s to stay below")
        if fault.dose <= 0 or bound.above <= 0:
            raise CannotPlant(f"{fault}: needs a dose and a floor above 0")
        self._wanted = fault.dose * bound.above
        self._clock: StretchedClock | None = None

    def clock(self, honest: Clock, generate: Callable[[Request], Generation], request: Request) -> Clock:
        """Return the stretched clock; `generate` runs a request with the honest clock."""
        if self._clock is None:
            tokens = max(request.max_tokens, CALIBRATION_TOKENS)
            probe = replace(request, max_tokens=tokens, cache=True, stop=False)
            rate = statistics.median(decode_rate(generate(probe)) for _ in range(CALIBRATIONS))
            self._clock = StretchedClock(honest, rate / self._wanted)
        return self._clock

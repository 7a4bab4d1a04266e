from dataclasses import dataclass, field

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.faults.clock import SlowClock, StretchedClock, decode_rate
from refute.targets.base import CannotPlant, Generation, Request

FLOOR = Bound(confidence=0.99, above=5.0, unit="tok/s", runs=15)
REQUEST = Request(prompt=(1, 2, 3), max_tokens=16)


@dataclass
class Engine:
    """Decodes in steps of so many nanoseconds on a clock of its own, after a prefill."""

    step_ns: int = 10_000_000
    now_ns: int = 123
    requests: list[Request] = field(default_factory=list)

    def read(self) -> int:
        return self.now_ns

    def generate(self, request: Request, clock=None) -> Generation:
        clock = clock or self.read
        self.requests.append(request)
        started = clock()
        self.now_ns += 70_000_000
        times = [clock()]
        for _ in range(request.max_tokens - 1):
            self.now_ns += self.step_ns
            times.append(clock())
        return Generation((0,) * len(times), started, times[0], tuple(times))


def faulty_rate(engine: Engine, slow: SlowClock) -> float:
    return decode_rate(engine.generate(REQUEST, slow.clock(engine.read, engine.generate, REQUEST)))


def test_rate_leaves_prefill_out() -> None:
    assert decode_rate(Engine().generate(REQUEST)) == 100.0


def test_rate_needs_two_tokens() -> None:
    with pytest.raises(ValueError, match="needs two tokens"):
        decode_rate(Engine().generate(Request((1,), 1)))


@pytest.mark.parametrize("dose", [0.98, 0.95, 0.9])
@pytest.mark.parametrize("step_ns", [100, 10_000_000, 700_000_000])
def test_rate_is_dose_times_floor(dose, step_ns) -> None:
    assert faulty_rate(Engine(step_ns), SlowClock(Fault("slow-clock", dose), FLOOR)) == pytest.approx(
        dose * 5.0
    )


def test_host_that_drifts_is_followed() -> None:
    engine, slow = Engine(), SlowClock(Fault("slow-clock", 0.9), FLOOR)
    rates = [faulty_rate(engine, slow)]
    engine.step_ns *= 3
    rates += [faulty_rate(engine, slow) for _ in range(3)]
    assert rates[0] == pytest.approx(4.5)
    assert rates[-1] == pytest.approx(4.5)


def test_scatter_between_runs_is_kept() -> None:
    engine, slow = Engine(), SlowClock(Fault("slow-clock", 0.9), FLOOR)
    clock = slow.clock(engine.read, engine.generate, REQUEST)
    engine.step_ns = engine.step_ns * 11 // 10
    assert decode_rate(engine.generate(REQUEST, clock)) == pytest.approx(4.5 / 1.1)


def test_honest_runs_are_cached_and_whole() -> None:
    engine = Engine()
    request = Request((1, 2, 3), 2, cache=False, stop=True)
    SlowClock(Fault("slow-clock", 0.9), FLOOR).clock(engine.read, engine.generate, request)
    assert [(r.cache, r.stop, r.max_tokens) for r in engine.requests] == [(True, False, 8)] * 3


def test_stretched_clock_never_runs_backwards() -> None:
    engine = Engine(now_ns=1000)
    clock = StretchedClock(engine.read)
    shown = [clock()]
    for factor in (50.0, 0.01, 3.0):
        clock.stretch(factor)
        shown.append(clock())
        engine.now_ns += 1000
        shown.append(clock())
    assert shown == [1000, 1000, 51000, 51000, 51010, 51010, 54010]


@pytest.mark.parametrize(
    "bound",
    [
        None,
        Bound(confidence=0.99, above=2.0, unit="x"),
        Bound(confidence=0.99, below=5.0, unit="tok/s"),
        Bound(confidence=0.99, above=0.0, unit="tok/s"),
    ],
    ids=["none", "ratio", "ceiling", "zero"],
)
def test_only_a_floor_of_a_rate_can_be_missed(bound) -> None:
    with pytest.raises(CannotPlant):
        SlowClock(Fault("slow-clock", 0.9), bound)

"""Faults of times on the wire: what a reply or a clock shows is late, and nothing sleeps."""

from dataclasses import replace

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.faults.wire import planted
from refute.targets.base import CannotPlant
from refute.wire.endpoint import Dialect, Endpoint

TIMES = {"wire-gaps-stretched", "wire-first-late", "wire-rate-lowered"}
PLAIN = Endpoint("http://127.0.0.1:1/v1", "m", Dialect("plain", frozenset()))


def bound(**limits):
    common = {"confidence": 0.95, "runs": 5, "cases": None, "of": "x", "statistic": "median", "testbeds": ()}
    given = {"above": None, "below": None, "within": None, "unit": None, **common, **limits}
    names = Bound.__dataclass_fields__
    return Bound(**{name: value for name, value in given.items() if name in names})


def shown(name, times, dose=1.1, **limits):
    with planted(PLAIN, Fault(name, dose), bound(**limits)) as endpoint:
        return endpoint.retimed(times)


def test_gaps_are_stretched():
    second = 10**9
    times = (5, 7, 2 * second, 1, 2 * second + 3)  # three events, the head, the end
    gap = round(1.1 * second)
    assert shown("wire-gaps-stretched", times, below=1.0, unit="s") == (
        5,
        5 + gap,
        5 + gap + 2 * second - 7,
        1,
        5 + gap + 2 * second - 7 + 3,
    )


def test_the_first_event_is_late():
    late = round(1.1 * 10**9)
    assert shown("wire-first-late", (5, 7, 1, 9), below=1.0, unit="s") == (late, late + 2, 1, late + 4)


def test_no_event_is_late_where_there_is_none():
    for name in ("wire-first-late", "wire-gaps-stretched"):
        assert shown(name, (1, 9), below=1.0, unit="s") == (1, 9)


class Standing:
    now = 5

    def __call__(self):
        return self.now


def test_the_rate_is_lowered():
    clock = Standing()
    engine = replace(PLAIN, clock=clock)
    with planted(engine, Fault("wire-rate-lowered", 0.5), bound(above=4.0, unit="req/s")) as endpoint:
        for idle in (0, 7_000_000_000):  # the second run begins later
            clock.now += idle
            before = endpoint.clock()
            for took in (1_000_000, 200_000_000, 0, 499_000_000):
                clock.now += took
                assert endpoint.retimed((1, took)) == (1, took)
            assert 4 * 1e9 / (endpoint.clock() - before) == 0.5 * 4


def test_answers_that_take_longer_than_the_lowered_rate_keep_their_time():
    clock = Standing()
    engine = replace(PLAIN, clock=clock)
    with planted(engine, Fault("wire-rate-lowered", 0.5), bound(above=4.0, unit="req/s")) as endpoint:
        before = endpoint.clock()
        clock.now += 3_000_000_000
        endpoint.retimed((1, 3_000_000_000))
        assert endpoint.clock() - before == 3_000_000_000


@pytest.mark.parametrize("name", sorted(TIMES))
def test_times_need_a_bound(name):
    with pytest.raises(CannotPlant), planted(PLAIN, Fault(name, 1.1), bound(above=3.0, unit="x")):
        pass
    with pytest.raises(CannotPlant), planted(PLAIN, Fault(name, 1.1), None):
        pass

"""Rates come from decode alone, on the engine's own clock."""

import pytest

from refute.kinds.base import Observation
from refute.kinds.throughput import SpeedUp, ThroughputParameters, TokFloor
from refute.targets.fake import FakeTarget

FLOOR = TokFloor(ThroughputParameters(max_tokens=5, prompt_tokens=4))
RATIO = SpeedUp(ThroughputParameters(max_tokens=5, prompt_tokens=4))


def test_neither_prefill_nor_the_first_token_is_on_the_clock() -> None:
    slow_prefill = {"prefilled_ns": 9_000_000_000, "token_ns": [9_000_000_000 + i * 10**8 for i in range(5)]}
    assert FLOOR.measure(Observation({}, slow_prefill)) == pytest.approx(10.0)


def test_the_speed_up_is_the_ratio_of_decode_times() -> None:
    arms = {"cached": {"token_ns": [5, 15, 25]}, "full": {"token_ns": [700, 800, 900]}}
    assert RATIO.measure(Observation({}, arms)) == pytest.approx(10.0)


@pytest.mark.parametrize("times", [[], [5], [5, 5, 5], [9, 8]])
def test_a_clock_that_stands_still_measures_nothing(times: list[int]) -> None:
    with pytest.raises(ValueError, match="nothing was timed"):
        FLOOR.measure(Observation({}, {"token_ns": times or [0]}))


def test_arms_alternate_so_that_drift_cancels() -> None:
    plan = RATIO.plan(FakeTarget(0), 6, seed=1)
    assert [case["cached_first"] for case in plan] == [False, True] * 3
    assert len({tuple(case["prompt"]) for case in plan}) == 6


def test_the_simulated_engine_runs_at_its_own_rate() -> None:
    target = FakeTarget(0)
    case = FLOOR.plan(target, 1, seed=1)[0]
    assert FLOOR.measure(FLOOR.observe(target, case)) == pytest.approx(100, rel=0.3)

"""Several clients at once: the rate of all, and what those cost who went away."""

import math
from typing import Any

import pytest
from wire_replies import MS

from refute.contract import Bound
from refute.kinds.base import Observation
from refute.kinds.wire_load import ClientsLeave, LeavingParameters, LoadParameters, RequestRate
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome

RATE = RequestRate(LoadParameters(max_tokens=8, clients=3))
LEAVE = ClientsLeave(LeavingParameters(max_tokens=8, clients=4, left_tokens=32))
# Left answers are so long that a client leaves long before they end, however late a busy host lets it run.
LEAVE_LONG = ClientsLeave(LeavingParameters(max_tokens=4, clients=4, left_tokens=256))
FLOOR = Bound(confidence=0.9, of="x", statistic="median", runs=4, above=0.5, unit="req/s")
SERVED = {"failed": None, "content_ns": [MS], "end_ns": 40 * MS}
FAILED = {**SERVED, "failed": "status 500"}


def rated(*replies: Any, span: int = 2000) -> Observation:
    return Observation({}, {"span_ns": span * MS, "replies": list(replies)})


def left(after: Any, *clients: str, before: Any = SERVED, settled: Any = SERVED) -> Observation:
    return Observation({}, {"before": before, "left": list(clients), "after": after, "settled": settled})


def test_the_rate_is_that_of_all_requests() -> None:
    assert RATE.measure(rated(SERVED, SERVED, SERVED)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (rated(SERVED, FAILED), "status 500"),
        (rated(SERVED, {**SERVED, "content_ns": []}), "a stream without content"),
        (rated(SERVED, span=0), "the clock stood still"),
    ],
)
def test_a_client_that_is_left_out_makes_the_run_a_failed_one(observation: Observation, why: str) -> None:
    assert RATE.failed(observation) == why
    assert math.isnan(RATE.measure(observation))
    judgement = RATE.judge([observation], FLOOR)
    assert (judgement.outcome, why in judgement.reason) == (Outcome.FALSIFIED, True)


def test_all_clients_are_served_at_once() -> None:
    target = FakeTarget(0)
    (case,) = RATE.plan(target, 1, seed=1)
    assert len({request["content"] for request in case["requests"]}) == 3
    observation = RATE.observe(target, case)
    assert len(observation.samples["replies"]) == 3
    assert RATE.measure(observation) > 0


def test_what_is_computed_for_those_who_left_shows_as_a_ratio() -> None:
    assert LEAVE.measure(left({**SERVED, "end_ns": 60 * MS}, "left", "left")) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (left(FAILED, "left"), "status 500"),
        (left(SERVED, "left", before=FAILED), "status 500"),
        (left(SERVED, "left", settled=FAILED), "status 500"),
        (left(SERVED, "left", "status 500"), "a client that was to leave: status 500"),
        (left(SERVED, "left", "served", "served"), "1 clients left before all was there"),
    ],
)
def test_a_run_in_which_nobody_left_is_a_failed_one(observation: Observation, why: str) -> None:
    assert LEAVE.failed(observation) == why
    assert math.isnan(LEAVE.measure(observation))


def test_clients_leave_streams_and_whole_answers() -> None:
    target = FakeTarget(0)
    (case,) = LEAVE_LONG.plan(target, 1, seed=1)
    observation = LEAVE_LONG.observe(target, case)
    assert observation.samples["left"] == ["left"] * 4
    assert LEAVE_LONG.failed(observation) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"clients": 1}, "clients"), ({"clients": 65}, "at most 64"), ({"left_tokens": 15}, "left_tokens")],
)
def test_bad_parameters_are_refused_with_a_sentence(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeavingParameters(**{"max_tokens": 8, "clients": 4, "left_tokens": 32, **changes})

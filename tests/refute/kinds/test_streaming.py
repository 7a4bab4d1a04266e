"""Streams are judged by what the engine's own counter says it had computed, and when."""

from dataclasses import replace

import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.streaming import DeliveryParameters, StopParameters, StreamDelivery, StreamStop
from refute.targets.fake import FakeTarget

STOPPING = StopParameters(max_tokens=8, prompt_tokens=(1, 8), after=0, by=("callback", "iterator"))
DELIVERING = DeliveryParameters(max_tokens=8, prompt_tokens=(1, 8), ahead=0, by=("callback", "iterator"))
STOP, DELIVERY = StreamStop(STOPPING), StreamDelivery(DELIVERING)
CASE = {"prompt": [1, 2, 3], "max_tokens": 8, "by": "callback", "stop_after": 2}


def streamed(forwards: list[int], total: int) -> Observation:
    return Observation(CASE, {"tokens": forwards, "forwards": forwards, "total": total})


def test_a_forward_after_the_stop_refutes() -> None:
    assert not STOP.refutes(streamed([1, 2], 2))
    assert STOP.refutes(streamed([1, 2], 3))


def test_as_many_forwards_as_are_allowed_after_the_stop_do_not_refute() -> None:
    patient = StreamStop(replace(STOPPING, after=2))
    assert not patient.refutes(streamed([1, 2], 4))
    assert patient.refutes(streamed([1, 2], 5))


def test_a_token_handed_out_after_the_stop_refutes() -> None:
    assert STOP.refutes(streamed([1, 2, 3], 3))


def test_a_stop_counts_only_when_it_came_and_the_counter_counted() -> None:
    assert STOP.informative(streamed([1, 2], 2))
    assert not STOP.informative(streamed([1], 1))
    assert not STOP.informative(streamed([0, 0], 0))
    assert not STOP.informative(streamed([], 0))


def test_a_forward_ahead_of_a_token_refutes() -> None:
    assert not DELIVERY.refutes(streamed([1, 2, 3], 3))
    assert DELIVERY.refutes(streamed([1, 3, 3], 3))
    assert not StreamDelivery(replace(DELIVERING, ahead=1)).refutes(streamed([2, 3, 3], 3))


def test_a_stream_counts_only_when_it_has_two_tokens_and_the_counter_counted() -> None:
    assert DELIVERY.informative(streamed([1, 2], 2))
    assert not DELIVERY.informative(streamed([1], 1))
    assert not DELIVERY.informative(streamed([1, 1], 1))


@pytest.mark.parametrize("by", ["callback", "iterator"])
@pytest.mark.parametrize(("kind", "fault"), [(STOP, "stop-ignored"), (DELIVERY, "stream-buffered")])
def test_an_honest_stream_is_not_refuted_and_the_smallest_dose_is(
    kind: StreamStop | StreamDelivery, fault: str, by: str
) -> None:
    target, case = FakeTarget(0), {**CASE, "by": by}
    honest = kind.observe(target, case)
    assert kind.informative(honest)
    assert not kind.refutes(honest)
    with target.plant(Fault(fault, 1)) as faulty:
        assert kind.refutes(kind.observe(faulty, case))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"after": -1}, "after"),
        ({"after": 7}, "max_tokens is 8"),
        ({"by": ("socket",)}, "callback"),
        ({"by": ()}, "callback"),
    ],
)
def test_bad_parameters_are_refused_with_a_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STOPPING, **changes)

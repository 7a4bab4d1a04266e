"""Sequence equivalence: which steps remain, what refutes, and that it sees what it is for."""

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.sequences import SequenceEquivalence, SequenceParameters, effective
from refute.kinds.walk import OPERATIONS
from refute.search import first_counterexample, search
from refute.select import embedded_model
from refute.targets.bundled import BundledTarget
from refute.targets.fake import FakeTarget

COMMON: dict[str, Any] = {"steps": 8, "sequences": 3, "tokens": 24, "gap": "0.01 %"}


def kind(*operations: str, **changes: Any) -> SequenceEquivalence:
    wanted = {**COMMON, "tolerance": "0.001 logit", **changes, "operations": operations or OPERATIONS}
    return SequenceEquivalence(SequenceParameters(**wanted))


def extend(on: int, *tokens: int) -> dict[str, Any]:
    return {"do": "extend", "on": on, "tokens": list(tokens)}


FORK = {"do": "fork", "on": 0, "to": 1}
TRIM = {"do": "trim", "on": 0, "length": 1}
STOP = {"do": "stop", "on": 0, "count": 2}
CLOSE = {"do": "close", "on": 0}


def test_steps_that_do_nothing_are_left_out() -> None:
    drawn = [
        {"do": "decode", "on": 0, "count": 2},  # nothing is held
        extend(0, 1, 2, 3),
        {"do": "trim", "on": 1, "drop": 1},  # not open
        {"do": "trim", "on": 0, "drop": 9},
        {"do": "fork", "on": 0, "to": 0},
        extend(0, *range(9)),
        {"do": "decode", "on": 0, "count": 2},  # it is full
        {"do": "close", "on": 0},  # nothing follows
    ]
    kept = effective(drawn, 8, 5)
    assert kept == [extend(0, 1, 2, 3), {"do": "trim", "on": 0, "length": 0}, extend(0, 0, 1, 2, 3, 4)]


@pytest.mark.parametrize(("limit", "counts"), [(7, [2, 2]), (6, [2, 1]), (5, [2]), (4, [1]), (3, [])])
def test_a_stop_is_kept_only_where_more_could_be_computed(limit, counts) -> None:
    kept = effective([STOP, extend(0, 1), STOP, STOP, extend(0, 2)], 8, limit)
    assert [step["count"] for step in kept if step["do"] == "stop"] == counts
    assert kept[-1] == extend(0, 2)


@pytest.mark.parametrize(
    ("operations", "steps", "told"),
    [
        (("extend",), [extend(0, 1), extend(0, 2)], False),  # of three sequences none was left alone
        (("extend",), [extend(0, 1), extend(1, 2), extend(0, 3)], True),
        (("extend", "fork"), [extend(0, 1), FORK, extend(0, 2), extend(1, 3)], False),
        (("extend", "fork"), [extend(0, 1), FORK, extend(0, 2), extend(1, 3), extend(0, 4)], True),
        (("extend", "trim"), [extend(0, 1, 2), TRIM, extend(1, 3)], False),
        (("extend", "trim"), [extend(0, 1, 2), TRIM, extend(0, 3)], True),
        (("extend", "stop"), [extend(0, 1), STOP, extend(1, 3)], False),
        (("extend", "stop"), [extend(0, 1), STOP, extend(0, 3)], True),
        (("extend", "stop", "close"), [extend(1, 1), extend(0, 1), STOP, extend(1, 3)], False),
        (("extend", "close"), [extend(0, 1), CLOSE, extend(0, 1)], True),
    ],
)
def test_a_case_counts_only_if_it_does_what_the_claim_is_about(operations, steps, told) -> None:
    samples = {"steps": [], "compared": 3}
    assert kind(*operations).informative(Observation({"steps": steps}, samples)) is told
    assert not kind(*operations).informative(Observation({"steps": steps}, {**samples, "compared": 0}))


@pytest.mark.parametrize(
    ("error", "flip", "refuted"),
    [
        (0.0005, None, False),
        (0.002, None, True),
        (None, None, True),
        (0.0, {"gap": 0.00005, "error": 5.0}, False),
        (0.0, {"gap": 0.3, "error": 5.0}, True),
        (0.0, {"gap": 0.3, "error": 0.0005}, False),
        (0.0, {"gap": 0.3, "error": None}, True),
        (0.002, {"gap": 0.00005, "error": 5.0}, True),
    ],
)
def test_an_error_refutes_unless_experts_that_tied_explain_it(error, flip, refuted) -> None:
    samples = {"steps": [{"step": 0, "start": 0, "end": 1, "error": error, "flip": flip}], "compared": 1}
    assert kind().refutes(Observation({"steps": [extend(0, 1)]}, samples)) is refuted


def test_without_a_tolerance_every_bit_counts() -> None:
    samples = {"steps": [{"step": 0, "start": 0, "end": 1, "error": 1e-9, "flip": None}], "compared": 1}
    assert kind(tolerance=None).refutes(Observation({"steps": []}, samples))


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_honest_engine_keeps_every_bit_in_any_order(data) -> None:
    exact = kind(tolerance=None)
    observation = exact.observe(FakeTarget(), data.draw(exact.cases(FakeTarget())))
    assert not exact.refutes(observation)
    assert exact.informative(observation)


@pytest.mark.parametrize(
    ("operations", "fault"),
    [
        (("extend",), Fault("chunk-dependent", 0.25)),
        (("extend", "decode"), Fault("crosstalk", 1)),
        (("extend", "decode", "fork"), Fault("fork-shared", 1)),
        (("extend", "decode", "trim"), Fault("trim-short", 1)),
        (("extend", "decode", "stop"), Fault("stop-ignored", 1)),
        (("extend", "close"), Fault("order-dependent", 1)),
        (OPERATIONS, Fault("rope-position", 0.25)),
    ],
    ids=str,
)
def test_it_sees_the_smallest_dose_of_what_it_is_for(operations, fault) -> None:
    with FakeTarget().plant(fault) as faulty:
        (found,) = first_counterexample(kind(*operations), faulty, cases=20, seed=0)
    assert kind(*operations).refutes(found)


def test_a_race_between_threads_shows_only_on_several() -> None:
    with FakeTarget().plant(Fault("thread-race", 0.002)) as faulty:
        racing = first_counterexample(kind("extend", threads=2), faulty, cases=5, seed=0)
        alone = first_counterexample(kind("extend"), faulty, cases=5, seed=0)
    assert len(racing) == 1
    assert len(alone) == 5


def test_a_counterexample_shrinks_to_the_fewest_steps_of_one_token() -> None:
    order = kind("extend", "close", sequences=1)
    with FakeTarget().plant(Fault("order-dependent", 1)) as faulty:
        found = search(order, faulty, cases=20, seed=0).counterexample
    assert found is not None
    assert found.case["steps"] == [extend(0, 0), CLOSE, extend(0, 0)]


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_stop_is_told_by_what_follows(data) -> None:
    stops = kind("extend", "decode", "stop", sequences=1)
    with FakeTarget().plant(Fault("stop-ignored", 1)) as faulty:
        assert stops.refutes(stops.observe(faulty, data.draw(stops.cases(faulty))))


@pytest.mark.parametrize(
    "fault", [None, Fault("stop-ignored", 1000), Fault("stream-buffered", 1000)], ids=str
)
def test_what_is_computed_after_a_stop_finds_room_in_a_full_sequence(fault) -> None:
    stops = kind("extend", "stop")
    steps = [extend(0, *range(18)), {"do": "stop", "on": 0, "count": 4}, extend(0, 1, 2)]
    assert steps == effective(steps, 8, COMMON["tokens"])
    target = BundledTarget(embedded_model(), "array", "cpu")
    with nullcontext(target) if fault is None else target.plant(fault) as planted:
        assert stops.refutes(stops.observe(planted, {"steps": steps})) is (fault is not None)
    target.close()


def test_logits_that_are_no_numbers_refute_before_a_generation_fails_at_them() -> None:
    stops, steps = kind("extend", "stop"), [extend(0, 1, 2), STOP, extend(0, 3)]
    target = BundledTarget(embedded_model(), "array", "cpu")
    with target.plant(Fault("logits-not-finite", 1000)) as faulty:
        observation = stops.observe(faulty, {"steps": steps})
    target.close()
    assert [each["step"] for each in observation.samples["steps"]] == [0]
    assert stops.refutes(observation)


def test_a_step_on_a_sequence_that_is_not_open_is_refused() -> None:
    with pytest.raises(ValueError, match="step 0 is trim on sequence 0, which is not open"):
        kind().observe(FakeTarget(), {"steps": [TRIM]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"operations": ["decode"]},
        {"operations": ["extend", "pause"]},
        {"operations": ["extend", "fork"], "sequences": 1},
        {"operations": ["extend"], "tolerance": "1 ms"},
        {"operations": ["extend"], "threads": 0},
        {"operations": ["extend"], "tokens": 1},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="expected"):
        SequenceParameters(**{**COMMON, **wrong})

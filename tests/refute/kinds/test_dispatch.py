"""Layer dispatch judges positive counters, so an engine that ran nothing cannot pass."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.dispatch import EntryDispatch, EntryParameters, LayerDispatch
from refute.kinds.parameters import Lengths
from refute.targets.base import CAPABILITIES
from refute.targets.fake import FakeTarget

KIND = LayerDispatch(Lengths(max_tokens=3, prompt_tokens=(1, 8)))
CASE = {"prompt": [1, 2, 3], "chunks": [2], "cache": True, "max_tokens": 3}
GOOD = {
    "forwards": 4,
    "moe_layers": 16,
    "dense_layers": 0,
    "experts_run": 40,
    "guards_fired": 0,
    "cache_positions_read": 9,
}


def counted(**changes: int) -> Observation:
    file = {"moe_layers": 4, "dense_layers": 0}
    return Observation(CASE, {"counters": {**GOOD, **changes}, "tokens": 3, "file": file})


def test_the_layers_of_the_file_do_not_refute() -> None:
    assert not KIND.refutes(counted())


@pytest.mark.parametrize(
    "changes",
    [
        {"moe_layers": 15},
        {"moe_layers": 15, "dense_layers": 1},
        {"dense_layers": 1},
        {"experts_run": 0},
        {"guards_fired": 1},
        {"forwards": 2, "moe_layers": 8},
        {"forwards": 0, "moe_layers": 0, "experts_run": 0},
    ],
)
def test_any_other_count_refutes(changes: dict[str, int]) -> None:
    assert KIND.refutes(counted(**changes))


@pytest.mark.parametrize("cache", [True, False])
def test_an_honest_engine_is_not_refuted_and_a_dense_dispatch_is(cache: bool) -> None:
    target, case = FakeTarget(0), {**CASE, "cache": cache}
    honest = KIND.observe(target, case)
    assert KIND.informative(honest)
    assert not KIND.refutes(honest)
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        assert KIND.refutes(KIND.observe(faulty, case))


ENTRY = EntryParameters(max_tokens=3, prompt_tokens=(1, 8), check="layers")
LAYERS, GUARDS = EntryDispatch(ENTRY), EntryDispatch(replace(ENTRY, check="guards"))
ROUTE = {**GOOD, "forwards": 3, "moe_layers": 12}


def entered(**changes: int) -> Observation:
    file = {"moe_layers": 4, "dense_layers": 0}
    counters = {"generate": ROUTE, "chat": {**ROUTE, **changes}}
    return Observation(
        CASE, {"counters": counters, "least_forwards": {"generate": 3, "chat": 3}, "file": file}
    )


def test_entry_points_with_the_layers_of_the_file_do_not_refute() -> None:
    assert not LAYERS.refutes(entered())
    assert not GUARDS.refutes(entered())


@pytest.mark.parametrize(
    "changes",
    [
        {"moe_layers": 11},
        {"moe_layers": 11, "dense_layers": 1},
        {"dense_layers": 1},
        {"experts_run": 0},
        {"experts_run": 11},
        {"forwards": 2, "moe_layers": 8},
        {"forwards": 0, "moe_layers": 0, "experts_run": 0},
    ],
)
def test_other_layers_on_one_entry_point_refute(changes: dict[str, int]) -> None:
    assert LAYERS.refutes(entered(**changes))


@pytest.mark.parametrize(
    "changes", [{"guards_fired": 1}, {"moe_layers": 0}, {"experts_run": 0}, {"forwards": 2}]
)
def test_a_guard_or_nothing_counted_on_one_entry_point_refutes(changes: dict[str, int]) -> None:
    assert GUARDS.refutes(entered(**changes))


def test_no_entry_point_and_a_dense_file_prove_nothing() -> None:
    samples = entered().samples
    assert LAYERS.informative(entered())
    assert not LAYERS.informative(Observation(CASE, {**samples, "counters": {}}))
    assert not LAYERS.informative(
        Observation(CASE, {**samples, "file": {"moe_layers": 0, "dense_layers": 4}})
    )


def test_every_entry_point_of_the_target_is_driven() -> None:
    target = FakeTarget(0)
    observation = LAYERS.observe(target, CASE)
    assert tuple(observation.samples["counters"]) == tuple(target.entry_points)
    assert len(target.entry_points) == 7
    assert not LAYERS.refutes(observation)
    assert not GUARDS.refutes(observation)


def test_entry_points_without_their_capability_are_not_asked_for() -> None:
    target = FakeTarget(0, capabilities=CAPABILITIES - {"chat", "stream"})
    assert tuple(LAYERS.observe(target, CASE).samples["counters"]) == (
        "generate",
        "generate-twin",
        "session-twin",
        "session",
    )


class Grown(FakeTarget):
    """An engine with a way in that no one here knows."""

    @property
    def entry_points(self) -> Sequence[str]:
        return (*super().entry_points, "batch")


def test_an_entry_point_that_nothing_drives_is_an_error() -> None:
    with pytest.raises(LookupError, match="no driver for the entry point batch"):
        LAYERS.observe(Grown(0), CASE)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (LAYERS, Fault("dense-dispatch", 1)),
        (LAYERS, Fault("dense-on-some-routes", 1)),
        (LAYERS, Fault("counters-stuck", 1)),
        (GUARDS, Fault("counters-stuck", 1)),
        (GUARDS, Fault("guard-fires", 1)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_fault_turns_its_check_red(kind: EntryDispatch, fault: Fault) -> None:
    with FakeTarget(0).plant(fault) as faulty:
        assert kind.refutes(kind.observe(faulty, CASE))


@pytest.mark.parametrize("dose", [1, 2, 7])
def test_dense_routes_are_the_last_ones(dose: int) -> None:
    with FakeTarget(0).plant(Fault("dense-on-some-routes", dose)) as faulty:
        counters = LAYERS.observe(faulty, CASE).samples["counters"]
    assert [name for name, ran in counters.items() if ran["dense_layers"]] == list(counters)[-dose:]


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'layers' or 'guards'"):
        replace(ENTRY, check="both")

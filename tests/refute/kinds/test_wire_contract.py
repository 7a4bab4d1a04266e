"""Every claim about chat completions is green on the simulated server, and red under each of its faults."""

import json
from pathlib import Path

import pytest

from refute.contract import Falsifier, load_contract
from refute.faults.base import Fault
from refute.kinds import kind_named
from refute.kinds.base import Observation, Searched
from refute.targets.fake import FakeTarget
from refute.trials import sample

CONTRACT = Path(__file__).parents[3] / "contracts" / "openai-chat-completions-v1.yaml"
FALSIFIERS = load_contract(CONTRACT).falsifiers
PLANTED = [(falsifier, fault) for falsifier in FALSIFIERS for fault in falsifier.must_catch]


@pytest.fixture(scope="module")
def fake() -> FakeTarget:
    return FakeTarget()


def stored(observation: Observation) -> Observation:
    """As a record gives it back."""
    text = json.dumps([observation.case, observation.samples], allow_nan=False)
    return Observation(*json.loads(text))


def found(falsifier: Falsifier, target: FakeTarget) -> tuple[list[bool], int]:
    """Which cases refute the claim, and how many are informative."""
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    assert isinstance(kind, Searched)
    observations = [*map(stored, sample(kind, falsifier.bound, target, seed=3))]
    return [*map(kind.refutes, observations)], sum(map(kind.informative, observations))


@pytest.mark.parametrize("falsifier", FALSIFIERS, ids=lambda each: each.id)
def test_the_simulated_server_keeps_every_claim(falsifier: Falsifier, fake: FakeTarget) -> None:
    refuting, informative = found(falsifier, fake)
    assert (any(refuting), informative) == (False, falsifier.bound.cases)


@pytest.mark.parametrize(
    ("falsifier", "fault"), PLANTED, ids=[f"{falsifier.id}-{fault.name}" for falsifier, fault in PLANTED]
)
def test_each_fault_refutes_its_claim(falsifier: Falsifier, fault: Fault, fake: FakeTarget) -> None:
    with fake.plant(fault, falsifier.bound) as broken:
        refuting, _ = found(falsifier, broken)
    assert refuting[-1]  # a search ends at its first counterexample


@pytest.mark.parametrize("falsifier", FALSIFIERS, ids=lambda each: each.id)
def test_a_server_that_fails_once_never_passes(falsifier: Falsifier, fake: FakeTarget) -> None:
    with fake.plant(Fault("wire-error-once", 1.0), falsifier.bound) as broken:
        refuting, _ = found(falsifier, broken)
    assert refuting == [True]

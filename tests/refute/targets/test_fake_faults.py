"""What each fault changes in the simulated engine, and what it leaves alone."""

from dataclasses import replace

import pytest
from fault_reach import BOUNDS, FLOOR, REACH

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.targets.base import Request, Sampling, TargetError
from refute.targets.fake import FakeTarget

PROMPT = tuple(range(60, 92))  # all different, so that the penalty has much to punish
GREEDY = Request(PROMPT, 16, chunks=(8, 4), margins=True, routing=True)
SAMPLED = replace(GREEDY, sampling=Sampling(1.0, 40, 0.95, 0.001, 1.05, seed=3))
# nearly uniform among three quarters of the vocabulary, so that a wrong penalty shows at any rank
LONG = replace(GREEDY, max_tokens=96)
PENALISED = replace(SAMPLED, prompt=PROMPT * 2, max_tokens=48, sampling=Sampling(50.0, 190, 1.0, 0.0, 2.0, 3))
# few tokens of these requests depend on them
LOUD = {
    "top-k-widened": 40.0,
    "logits-perturbed": 5.0,
    "attention-window": 8.0,
    "penalty-at-one": 4.0,
}


def four_answers(target, asked=(GREEDY, SAMPLED)) -> list[tuple[int, ...]]:
    return [
        target.generate(replace(request, cache=cache, chunks=request.chunks if cache else ())).tokens
        for request in asked
        for cache in (True, False)
    ]


def ask_all(target, asked=(GREEDY, SAMPLED)):
    """The four answers; what the target says where it refuses, as it does for logits that are no numbers."""
    try:
        return four_answers(target, asked)
    except TargetError as error:
        return [str(error)] * 4


def test_every_fault_has_a_stated_reach() -> None:
    in_files = {spec.name for spec in FAULTS.values() if spec.seam == "model"}  # see the tests of mutants
    assert REACH.keys() == FAULTS.keys() - in_files


@pytest.mark.parametrize("name", REACH)
def test_fault_changes_what_it_says_and_nothing_else(name) -> None:
    target = FakeTarget()
    with target.plant(Fault(name, LOUD.get(name, FAULTS[name].default)), BOUNDS.get(name, FLOOR)) as faulty:
        asked = (LONG, PENALISED) if name.startswith("penalty") else (GREEDY, SAMPLED)
        pairs = zip(four_answers(target, asked), ask_all(faulty, asked), strict=True)
        assert tuple(a != b for a, b in pairs) == REACH[name]


@pytest.mark.parametrize("name", REACH)
def test_target_is_honest_during_and_after_a_fault(name) -> None:
    target, expected = FakeTarget(), four_answers(FakeTarget())
    with target.plant(Fault(name, FAULTS[name].default), BOUNDS.get(name, FLOOR)) as faulty:
        ask_all(faulty)
        assert four_answers(target) == expected
    assert four_answers(target) == expected

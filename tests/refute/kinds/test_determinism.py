"""Determinism, seeds and top-k 1: what refutes, what counts, and that an honest engine does neither."""

import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.determinism import (
    Determinism,
    DeterminismParameters,
    GreedyEquivalence,
    GreedyParameters,
    SeedParameters,
    SeedSensitivity,
)
from refute.targets.fake import FakeTarget

REPEAT = Determinism(DeterminismParameters(mode="seeded", max_tokens=8, prompt_tokens=(1, 8), repeats=3))
SEEDS = SeedSensitivity(
    SeedParameters(max_tokens=16, prompt_tokens=(1, 8), seeds=4, temperature=1.5, chance="0.0001 %")
)
TOP_1 = GreedyEquivalence(GreedyParameters(max_tokens=8, prompt_tokens=(1, 8), temperature=5.0))
SEEDED = {"prompt": [1, 2, 3], "sampling": {"temperature": 1.5, "seed": 4}, "max_tokens": 16}


@pytest.mark.parametrize(
    ("runs", "refuted", "informative"),
    [
        ([[1, 2], [1, 2], [1, 2]], False, True),
        ([[1, 2], [1, 2], [1, 3]], True, True),
        ([[1, 2], [1, 2]], False, False),
        ([[], [], []], False, False),
    ],
)
def test_runs_that_differ_refute_and_missing_runs_do_not_count(
    runs: list[list[int]], refuted: bool, informative: bool
) -> None:
    observation = Observation(SEEDED, {"runs": runs})
    assert (REPEAT.refutes(observation), REPEAT.informative(observation)) == (refuted, informative)


@pytest.mark.parametrize(
    ("runs", "likelihoods", "refuted", "informative"),
    [
        ([[1], [2], [3]], [-40.0, -40.0, -40.0], False, True),
        ([[1], [1], [3]], [-40.0, -40.0, -40.0], True, True),
        ([[1], [1], [1]], [-0.1, -0.1, -0.1], False, False),
    ],
)
def test_seeds_that_agree_refute_where_luck_is_out_of_the_question(
    runs: list[list[int]], likelihoods: list[float], refuted: bool, informative: bool
) -> None:
    observation = Observation(SEEDED, {"runs": runs, "log_likelihoods": likelihoods})
    assert (SEEDS.refutes(observation), SEEDS.informative(observation)) == (refuted, informative)


def test_an_honest_engine_repeats_a_seed_and_heeds_another() -> None:
    target = FakeTarget(0)
    assert not REPEAT.refutes(REPEAT.observe(target, SEEDED))
    heeded = SEEDS.observe(target, SEEDED)
    assert not SEEDS.refutes(heeded)
    assert SEEDS.informative(heeded)
    top_1 = {**SEEDED, "sampling": {"temperature": 5.0, "top_k": 1, "seed": 4}}
    assert not TOP_1.refutes(TOP_1.observe(target, top_1))


def test_each_sampler_fault_turns_its_own_claim_red() -> None:
    target = FakeTarget(0)
    with target.plant(Fault("seed-ignored", 1)) as faulty:
        assert REPEAT.refutes(REPEAT.observe(faulty, SEEDED))
    with target.plant(Fault("seed-fixed", 1)) as faulty:
        assert SEEDS.refutes(SEEDS.observe(faulty, SEEDED))
    with target.plant(Fault("top-k-widened", 3)) as faulty:
        top_1 = {**SEEDED, "sampling": {"temperature": 5.0, "top_k": 1, "seed": 4}}
        assert TOP_1.refutes(TOP_1.observe(faulty, top_1))


def test_one_run_compared_with_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        DeterminismParameters(mode="greedy", max_tokens=8, prompt_tokens=(1, 8), repeats=1)

"""Routing: the first difference decides, unless it is a tie; loads are tested exactly."""

import json
from dataclasses import replace
from typing import Any

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.routing import ExpertLoad, ExpertsAsReference, ExpertsParameters, LoadParameters
from refute.targets.base import CAPABILITIES
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome

PARAMETERS = ExpertsParameters(mode="decode", prompts=16, forced=8, gap="0.01 %")
KIND = ExpertsAsReference(PARAMETERS)
BOUND = Bound(confidence=0.95, of="weight-error", within=0.001, unit="%", runs=16)
FINE = {
    "implementations": {"target": {"engine": "a"}, "reference": {"engine": "b"}},
    "positions": 9,
    "decisions": 36,
    "differences": 0,
    "first": [],
    "compared": 36,
    "weight_error": 1e-7,
    "sum_error": 0.0,
}


def difference(gap: float, place: int = 9) -> dict[str, Any]:
    first = {"position": place // 4, "layer": place % 4, "experts": [0, 1], "reference": [0, 2], "gap": gap}
    return {"differences": 1, "first": [first], "compared": place}


def observed(run: int, **changes: Any) -> Observation:
    return Observation({"run": run, "prompt": [run], "answer": [1] * 8, "chunks": []}, FINE | changes)


def runs(count: int, **changes: Any) -> list[Observation]:
    """Clean sequences, the first of which has these changes."""
    return [observed(0, **changes), *(observed(run) for run in range(1, count))]


def test_equal_experts_and_weights_survive() -> None:
    judgement = KIND.judge(runs(16), BOUND)
    assert (judgement.outcome, judgement.n, judgement.point) == (Outcome.SURVIVED, 16 * 36, 1e-7)


@pytest.mark.parametrize(
    "changes",
    [difference(0.2), {"weight_error": 0.0011}, {"sum_error": 0.0011}, {"weight_error": None}],
    ids=["experts", "weights", "sum", "not finite"],
)
def test_one_sequence_falsifies(changes: dict[str, Any]) -> None:
    assert KIND.judge(runs(16, **changes), BOUND).outcome is Outcome.FALSIFIED
    assert KIND.caught([observed(0, **changes)], BOUND)


def test_a_tie_does_not_refute_and_does_not_count() -> None:
    tie = difference(0.00009)
    assert KIND.judge(runs(17, **tie), replace(BOUND, runs=17)).outcome is Outcome.SURVIVED
    judgement = KIND.judge(runs(16, **tie), BOUND)
    assert judgement.outcome is Outcome.INCONCLUSIVE
    assert "tie" in judgement.reason


@pytest.mark.parametrize(
    "observations",
    [
        [],
        runs(15),
        [observed(0)] * 16,
        [observed(run, positions=8, decisions=32, compared=32) for run in range(16)],
        [
            observed(run, implementations={"target": {"engine": "a"}, "reference": {"engine": "a"}})
            for run in range(16)
        ],
    ],
    ids=["nothing", "too few", "one prompt", "too short", "itself"],
)
def test_too_little_or_itself_never_survives(observations: list[Observation]) -> None:
    assert KIND.judge(observations, BOUND).outcome is Outcome.INCONCLUSIVE
    assert not KIND.caught(observations, BOUND)


def test_an_honest_engine_survives_from_a_record() -> None:
    target = FakeTarget(0)
    observations = [KIND.observe(target, case) for case in KIND.plan(target, 16, 1)]
    judgement = KIND.judge(observations, BOUND)
    assert judgement.outcome is Outcome.SURVIVED
    again = [
        Observation(**json.loads(json.dumps({"case": each.case, "samples": each.samples}, allow_nan=False)))
        for each in observations
    ]
    assert KIND.judge(again, BOUND) == judgement


@pytest.mark.parametrize(
    ("name", "dose", "says"),
    [
        ("weights-not-renormalised", 1, "sum to 1"),
        ("router-top-k-off", 1, "other experts"),
        ("routing-depends-on-cache", 1, "other experts"),
        ("router-collapsed", 0.5, "other experts"),
        ("rope-position", 1, "other experts"),
    ],
)
def test_a_fault_is_caught_for_what_it_breaks(name: str, dose: float, says: str) -> None:
    with FakeTarget(0).plant(Fault(name, dose)) as faulty:
        observations = [KIND.observe(faulty, case) for case in KIND.plan(faulty, 3, 1)]
    judgement = KIND.judge(observations, BOUND)
    assert judgement.outcome is Outcome.FALSIFIED
    assert says in judgement.reason


@pytest.mark.parametrize("wrong", [{"gap": "1 ms"}, {"gap": "1"}, {"prompts": 3}, {"forced": 1}])
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|unit"):
        replace(PARAMETERS, **wrong)


LOAD_PARAMETERS = LoadParameters(
    texts=("one text of several words", "and 2 more"), prompt_tokens=8, idle="10 %", unused="20 %"
)
LOAD = ExpertLoad(LOAD_PARAMETERS)
CEILING = Bound(confidence=0.99, of="largest-token-share", below=0.9, unit="%", runs=100)


def loads(count: int, stuck: int = 0, used: tuple[int, ...] = (0, 1, 2, 3)) -> list[Observation]:
    """Prompts of a layer of four experts, one of them per token; the first `stuck` go to expert 0."""
    return [
        Observation(
            {"run": run, "prompt": [run], "position": 0},
            {"experts": 4, "chosen": [[0 if run < stuck else used[run % len(used)]]], "used": [list(used)]},
        )
        for run in range(count)
    ]


@pytest.mark.parametrize(
    ("observations", "expected"),
    [
        (loads(100), Outcome.SURVIVED),
        (loads(99), Outcome.INCONCLUSIVE),
        (loads(100, stuck=100), Outcome.FALSIFIED),
        (loads(100, stuck=88), Outcome.INCONCLUSIVE),
        (loads(100, used=(0, 1, 2)), Outcome.FALSIFIED),
        (loads(20, used=(0, 1, 2)), Outcome.INCONCLUSIVE),
        (loads(4, stuck=4), Outcome.INCONCLUSIVE),
        ([], Outcome.INCONCLUSIVE),
    ],
    ids=["even", "too few", "stuck", "straddles", "dead", "perhaps dead", "few and stuck", "nothing"],
)
def test_the_interval_of_the_load_meets_the_bound(observations: list[Observation], expected: Outcome) -> None:
    assert LOAD.judge(observations, CEILING).outcome is expected


@pytest.mark.parametrize("stuck", [0, 40, 70, 80, 88, 100])
@pytest.mark.parametrize("used", [(0, 1, 2, 3), (0, 1, 2)])
def test_a_fault_is_called_caught_just_if_survival_is_out_of_reach(stuck: int, used: tuple[int, ...]) -> None:
    observations = loads(100, stuck, used)
    survived = LOAD.judge(observations, CEILING).outcome is Outcome.SURVIVED
    assert LOAD.caught(observations, CEILING) is not survived
    assert not (survived and any(LOAD.caught(observations[:n], CEILING) for n in range(100)))


@pytest.mark.parametrize("stuck", [0, 1, 20, 40, 59])
@pytest.mark.parametrize("left", [0, 1, 20, 39])
def test_a_fault_is_given_up_just_if_no_further_prompt_could_get_it_caught(stuck: int, left: int) -> None:
    seen = loads(60, stuck)
    ceiling = replace(CEILING, below=0.4)
    at_worst = [*seen, *loads(left, left)]
    assert LOAD.uncatchable(seen, ceiling, left) is not LOAD.caught(at_worst, ceiling)
    assert not LOAD.uncatchable(seen, ceiling, 40)  # all are there then, and an unused expert shows


def test_some_experts_may_rest_where_the_claim_says_how_many() -> None:
    kind = ExpertLoad(replace(LOAD_PARAMETERS, unused="25 %"))
    assert kind.judge(loads(100, used=(0, 1, 2)), CEILING).outcome is Outcome.SURVIVED
    assert not kind.caught(loads(100, used=(0, 1, 2)), CEILING)
    assert kind.judge(loads(100, used=(0, 1)), CEILING).outcome is Outcome.FALSIFIED


def test_an_unused_expert_counts_as_caught_only_after_all_prompts() -> None:
    unused = loads(100, used=(0, 1, 2))
    assert not LOAD.caught(unused[:99], CEILING)
    assert LOAD.caught(unused, CEILING)


def test_an_honest_engine_spreads_its_load_and_a_collapsed_router_does_not() -> None:
    target = FakeTarget(0)
    plan = LOAD.plan(target, 100, 1)
    honest = [LOAD.observe(target, case) for case in plan]
    assert LOAD.judge(honest, CEILING).outcome is Outcome.SURVIVED
    with target.plant(Fault("router-collapsed", 0.9)) as faulty:
        stuck = [LOAD.observe(faulty, case) for case in plan]
    assert LOAD.caught(stuck, CEILING)
    json.dumps([each.samples for each in stuck], allow_nan=False)


def test_prompts_are_stretches_of_the_texts() -> None:
    target = FakeTarget(0)
    for case in LOAD.plan(target, 20, 1):
        assert any(target.decode(case["prompt"]) in text for text in LOAD_PARAMETERS.texts)
        assert 0 <= case["position"] < len(case["prompt"]) == 8


def test_a_dense_model_has_no_load() -> None:
    assert LOAD.requires <= CAPABILITIES
    assert not LOAD.requires <= FakeTarget(0, dense=True).capabilities


@pytest.mark.parametrize("wrong", [{"texts": ()}, {"texts": ("",)}, {"prompt_tokens": 0}, {"idle": "1 s"}])
def test_a_corpus_of_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(LOAD_PARAMETERS, **wrong)

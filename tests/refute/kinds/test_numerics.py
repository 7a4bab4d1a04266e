"""Logit error: the worst position decides, no number refutes, and nothing is compared with itself."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.numerics import LogitError, LogitErrorParameters, stored_rows
from refute.targets.base import CAPABILITIES, TargetError
from refute.targets.fake import FakeTarget
from refute.targets.fake_session import FakeReference
from refute.targets.scores import Scores, implementation
from refute.verdict import Outcome

PARAMETERS = LogitErrorParameters(mode="decode", prompts=16, forced=8, cosine=0.999)
KIND = LogitError(PARAMETERS)
TOLERANT = LogitError(replace(PARAMETERS, exceeding=2))
BOUND = Bound(confidence=0.95, of="logit-error", within=0.01, unit="logit", runs=16)
FINE = {"error": 1e-5, "cosine": 1.0, "finite": True, "margin": 3.0, "chosen": 4, "reference": 4}
OTHERS = {"target": {"engine": "a"}, "reference": {"engine": "b"}}


def observed(run: int, *odd: dict[str, Any], positions: int = 9, who: Any = OTHERS) -> Observation:
    rows = [FINE | change for change in odd] + [FINE] * (positions - len(odd))
    case = {"run": run, "prompt": [run], "answer": [1] * 8, "chunks": []}
    return Observation(case, {"implementations": who, "positions": rows})


def sixteen(*odd: dict[str, Any], **changes: Any) -> list[Observation]:
    return [observed(0, *odd, **changes), *(observed(run, **changes) for run in range(1, 16))]


def outcome(observations: list[Observation], kind: LogitError = KIND) -> Outcome:
    return kind.judge(observations, BOUND).outcome


def test_small_errors_everywhere_survive_with_the_worst_of_each() -> None:
    judgement = KIND.judge(sixteen({"error": 0.01, "cosine": 0.9995}), BOUND)
    assert judgement.outcome is Outcome.SURVIVED
    assert (judgement.point, judgement.lower, judgement.n) == (0.01, 0.9995, 144)


@pytest.mark.parametrize(
    "odd",
    [
        {"error": 0.011},
        {"cosine": 0.998},
        {"error": None, "cosine": None, "finite": False},
        {"error": None, "cosine": None, "finite": False, "chosen": None},
        {"chosen": 5, "margin": 0.021},
    ],
    ids=["error", "cosine", "one not finite", "none finite", "clear choice"],
)
def test_one_position_of_one_prompt_falsifies(odd: dict[str, Any]) -> None:
    assert outcome(sixteen(odd)) is Outcome.FALSIFIED
    assert KIND.caught([observed(0, odd)], BOUND)


def test_another_choice_within_two_errors_is_a_tie() -> None:
    assert outcome(sixteen({"chosen": 5, "margin": 0.02})) is Outcome.SURVIVED


@pytest.mark.parametrize(("count", "expected"), [(2, Outcome.SURVIVED), (3, Outcome.FALSIFIED)])
def test_positions_may_exceed_where_the_claim_says_how_many(count: int, expected: Outcome) -> None:
    assert outcome(sixteen(*[{"error": 5.0}] * count), TOLERANT) is expected


def test_what_may_exceed_may_not_be_no_number() -> None:
    assert outcome(sixteen({"finite": False, "error": None, "cosine": None}), TOLERANT) is Outcome.FALSIFIED


def test_a_clear_choice_that_changes_is_one_of_those_that_may_exceed() -> None:
    flip = {"chosen": 5, "margin": 0.1, "error": 5.0}
    assert outcome(sixteen(flip, flip), TOLERANT) is Outcome.SURVIVED
    assert outcome(sixteen(flip, flip, flip), TOLERANT) is Outcome.FALSIFIED


@pytest.mark.parametrize(
    "observations",
    [
        [],
        sixteen()[:15],
        [observed(0)] * 16,
        sixteen(positions=8),
        sixteen(who={"target": {"engine": "a"}, "reference": {"engine": "a"}}),
    ],
    ids=["nothing", "too few", "one prompt", "too short", "itself"],
)
def test_too_little_or_itself_never_survives(observations: list[Observation]) -> None:
    assert outcome(observations) is Outcome.INCONCLUSIVE
    assert not KIND.caught(observations, BOUND)


def test_the_reason_says_that_it_was_compared_with_itself() -> None:
    same = sixteen(who={"target": {"engine": "a"}, "reference": {"engine": "a"}})
    assert "itself" in KIND.judge(same, BOUND).reason


@settings(max_examples=20)
@given(st.lists(st.floats(0, 0.02), min_size=144, max_size=144))
def test_survives_just_if_the_largest_error_is_within(errors: list[float]) -> None:
    rows = [[{"error": error} for error in errors[start : start + 9]] for start in range(0, 144, 9)]
    judgement = KIND.judge([observed(run, *odd) for run, odd in enumerate(rows)], BOUND)
    assert (judgement.outcome is Outcome.SURVIVED) == (max(errors) <= 0.01)
    assert judgement.point == max(errors)


@pytest.mark.parametrize("mode", ["decode", "prefill"])
def test_an_honest_engine_survives_from_a_record(mode: str) -> None:
    kind, target = LogitError(replace(PARAMETERS, mode=mode)), FakeTarget(0)
    observations = [kind.observe(target, case) for case in kind.plan(target, 16, 1)]
    judgement = kind.judge(observations, BOUND)
    assert judgement.outcome is Outcome.SURVIVED
    again = [
        Observation(**json.loads(json.dumps({"case": each.case, "samples": each.samples}, allow_nan=False)))
        for each in observations
    ]
    assert kind.judge(again, BOUND) == judgement


@pytest.mark.parametrize(
    ("name", "dose", "mode"),
    [
        ("logits-perturbed", 0.02, "prefill"),
        ("logits-not-finite", 0.5, "prefill"),
        ("rope-position", 1, "decode"),
        ("stale-row", 1, "decode"),
        ("kv-heads-permuted", 1, "decode"),
        ("empty-cache", 1, "decode"),
        ("router-top-k-off", 1, "prefill"),
    ],
)
def test_a_fault_is_caught_and_its_samples_are_plain_data(name: str, dose: float, mode: str) -> None:
    kind = LogitError(replace(PARAMETERS, mode=mode))
    with FakeTarget(0).plant(Fault(name, dose)) as faulty:
        observations = [kind.observe(faulty, case) for case in kind.plan(faulty, 4, 1)]
    assert kind.caught(observations, BOUND)
    json.dumps([each.samples for each in observations], allow_nan=False)


def test_a_perturbation_below_the_bound_is_missed() -> None:
    with FakeTarget(0).plant(Fault("logits-perturbed", 0.001)) as faulty:
        observations = [KIND.observe(faulty, case) for case in KIND.plan(faulty, 16, 1)]
    assert not KIND.caught(observations, BOUND)


def test_the_worst_position_is_stored_whole() -> None:
    with FakeTarget(0).plant(Fault("logits-perturbed", 0.5)) as faulty:
        case = KIND.plan(faulty, 1, 1)[0]
        samples = KIND.observe(faulty, case).samples
    tokens, found, expected = stored_rows(samples["worst"])
    worst = samples["positions"][samples["worst"]["position"]]
    assert tokens.tolist() == list(range(faulty.identity.vocabulary))
    assert float(np.abs(found.astype(float) - expected).max()) == worst["error"]
    assert worst["error"] == max(each["error"] for each in samples["positions"])


class WideReference(FakeReference):
    """Its vocabulary has 10,000 tokens, of which the last lies far off in the target."""

    def scores(self, forced):
        return Scores(np.tile(np.arange(10_000, dtype=np.float32), (1 + len(forced.answer), 1)))


class WideSession:
    def extend(self, tokens, *, routing=False):
        logits = np.tile(np.arange(10_000, dtype=np.float32), (len(tokens), 1))
        logits[:, -1] = np.nan
        return Scores(logits)


class WideTarget(FakeTarget):
    reference = WideReference()

    def session(self, capacity, *, prompt, cache=True):
        return WideSession()


def test_of_a_large_vocabulary_the_largest_errors_are_stored() -> None:
    target = WideTarget(0)
    worst = KIND.observe(target, KIND.plan(target, 1, 1)[0]).samples["worst"]
    tokens, found, expected = stored_rows(worst)
    assert (worst["vocabulary"], len(tokens)) == (10_000, 4096)
    assert (tokens[-1], expected[-1]) == (9_999, 9_999)
    assert np.isnan(found[-1])


class Broken(FakeReference):
    def scores(self, forced):
        honest = super().scores(forced)
        honest.logits[0, 0] = np.nan
        return honest


class Narrow(FakeReference):
    def scores(self, forced):
        return Scores(super().scores(forced).logits[:, 1:])


class Empty(FakeReference):
    def prompts(self, count, seed):
        return []


@pytest.mark.parametrize(
    ("reference", "message"),
    [(Broken(), "not finite"), (Narrow(), "as in the reference"), (Empty(), "no sequence")],
)
def test_a_reference_that_cannot_be_compared_with_is_refused(reference: Any, message: str) -> None:
    class Target(FakeTarget):
        pass

    Target.reference = reference  # type: ignore[assignment, method-assign]
    target = Target(0)
    with pytest.raises(TargetError, match=message):
        KIND.observe(target, KIND.plan(target, 1, 1)[0])


class Itself(FakeReference):
    identity = implementation(FakeTarget(0).identity)


class SelfCompared(FakeTarget):
    reference = Itself()


def test_a_target_that_is_its_own_reference_is_not_judged() -> None:
    target = SelfCompared(0)
    observations = [KIND.observe(target, case) for case in KIND.plan(target, 16, 1)]
    assert outcome(observations) is Outcome.INCONCLUSIVE


def test_it_applies_only_to_targets_with_a_reference() -> None:
    assert KIND.requires <= CAPABILITIES
    assert not KIND.requires <= FakeTarget(0, capabilities=CAPABILITIES - {"reference"}).capabilities


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompts": 15},
        {"prompts": True},
        {"forced": 7},
        {"mode": "both"},
        {"cosine": 0},
        {"cosine": 1.0},
        {"exceeding": -1},
    ],
)
def test_parameters_that_compare_too_little_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(PARAMETERS, **wrong)

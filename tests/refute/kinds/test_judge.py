"""Judging is pure: outcomes follow from samples and bound alone, at and around every border."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.contract import Bound
from refute.kinds.base import Case, Measured, Observation, Searched
from refute.targets.base import Target
from refute.verdict import Outcome


@dataclass(frozen=True)
class Nothing:
    pass


class Equal(Searched[Nothing]):
    name = "equal"
    rule_version = "1"
    requires = frozenset()
    parameters_type = Nothing

    def cases(self, target: Target) -> Any:
        raise NotImplementedError

    def observe(self, target: Target, case: Case) -> Observation:
        raise NotImplementedError

    def refutes(self, observation: Observation) -> bool:
        return observation.samples["a"] != observation.samples["b"]

    def informative(self, observation: Observation) -> bool:
        return observation.samples["a"] is not None


class Rate(Measured[Nothing]):
    name = "rate"
    rule_version = "1"
    requires = frozenset()
    parameters_type = Nothing

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        raise NotImplementedError

    def observe(self, target: Target, case: Case) -> Observation:
        raise NotImplementedError

    def measure(self, observation: Observation) -> float:
        return float(observation.samples["rate"])


CASES = Bound(confidence=0.95, cases=20)
FLOOR = Bound(confidence=0.99, of="rate", statistic="median", above=5.0, unit="tok/s", runs=15)
CEILING = Bound(confidence=0.99, of="gap", statistic="median", below=5.0, unit="s", runs=15)


def pairs(*values: tuple[Any, Any]) -> list[Observation]:
    return [Observation({"case": i}, {"a": a, "b": b}) for i, (a, b) in enumerate(values)]


def rates(values: Sequence[float]) -> list[Observation]:
    return [Observation({"run": i}, {"rate": rate}) for i, rate in enumerate(values)]


def test_planned_clean_cases_survive_and_say_what_they_exclude() -> None:
    judgement = Equal(Nothing()).judge(pairs(*[(1, 1)] * 20), CASES)
    assert judgement.outcome is Outcome.SURVIVED
    assert judgement.excluded_rate == pytest.approx(1 - 0.05 ** (1 / 20))


def test_one_counterexample_falsifies_whatever_else_was_seen() -> None:
    judgement = Equal(Nothing()).judge(pairs(*[(1, 1)] * 19, (1, 2)), CASES)
    assert (judgement.outcome, judgement.violations) == (Outcome.FALSIFIED, 1)


@pytest.mark.parametrize("values", [[(1, 1)] * 19, [(1, 1)] * 19 + [(None, None)], []])
def test_too_few_informative_cases_never_survive(values: list[tuple[Any, Any]]) -> None:
    assert Equal(Nothing()).judge(pairs(*values), CASES).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("values", "bound", "outcome"),
    [
        ([6.0] * 15, FLOOR, Outcome.SURVIVED),
        ([5.0] * 15, FLOOR, Outcome.SURVIVED),
        ([4.9] * 15, FLOOR, Outcome.FALSIFIED),
        ([4.0] * 7 + [6.0] * 8, FLOOR, Outcome.INCONCLUSIVE),
        ([6.0] * 14, FLOOR, Outcome.INCONCLUSIVE),
        ([4.0] * 14, FLOOR, Outcome.INCONCLUSIVE),
        ([], FLOOR, Outcome.INCONCLUSIVE),
        ([4.0] * 15, CEILING, Outcome.SURVIVED),
        ([5.1] * 15, CEILING, Outcome.FALSIFIED),
    ],
)
def test_the_interval_of_the_median_meets_the_bound(
    values: list[float], bound: Bound, outcome: Outcome
) -> None:
    assert Rate(Nothing()).judge(rates(values), bound).outcome is outcome


@given(st.lists(st.floats(1, 10), min_size=15, max_size=15), st.booleans())
def test_a_fault_is_called_caught_early_only_if_survival_is_out_of_reach(
    values: list[float], floor: bool
) -> None:
    kind, bound = Rate(Nothing()), FLOOR if floor else CEILING
    observations = rates(values)
    early = any(kind.caught(observations[:n], bound) for n in range(len(observations)))
    survived = kind.judge(observations, bound).outcome is Outcome.SURVIVED
    assert kind.caught(observations, bound) is not survived
    assert not (early and survived)


@given(st.lists(st.sampled_from([1.0, 10.0]), min_size=1, max_size=15), st.integers(0, 14), st.booleans())
def test_a_fault_is_given_up_just_if_no_further_run_could_get_it_caught(
    values: list[float], seen: int, floor: bool
) -> None:
    kind, bound = Rate(Nothing()), FLOOR if floor else CEILING
    left = len(values) - min(seen, len(values))
    so_far = values[: len(values) - left]
    at_worst = rates([*so_far, *[1.0 if floor else 10.0] * left])
    assert kind.uncatchable(rates(so_far), bound, left) is not kind.caught(at_worst, bound)

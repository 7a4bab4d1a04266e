"""`check_kind` fails each kind that breaks one rule, and passes one that breaks none."""

import dataclasses
import os
import random
import re
from collections.abc import Mapping
from time import time as now
from typing import Any

import numpy as np
import pytest

from refute.api import (
    Bound,
    Judgement,
    Lengths,
    Measured,
    NoParameters,
    Observation,
    Outcome,
    Request,
    Searched,
)
from refute.api import cases as prompts_and_lengths
from refute.testing import check_kind

CASES = Bound(confidence=0.95, cases=4)
LENGTHS = {"max_tokens": 4, "prompt_tokens": [2, 6]}


class Twins(Searched[Lengths]):
    """Greedy decoding gives the same tokens with and without the cache."""

    def cases(self, target):
        return prompts_and_lengths(target, self.parameters)

    def observe(self, target, case):
        tokens = [
            list(target.generate(Request(tuple(case["prompt"]), case["max_tokens"], cache=cache)).tokens)
            for cache in (True, False)
        ]
        return Observation(
            case, {"cached": tokens[0], "full": tokens[1], "apart": float(tokens[0] != tokens[1])}
        )

    def refutes(self, observation):
        return not 0 <= observation.samples["apart"] <= 0


def check(kind: type, faults: tuple[str, ...] = ("empty-cache",), **changes: Any) -> None:
    given: dict[str, Any] = {"parameters": LENGTHS, "bound": CASES, "seeds": (0, 1), **changes}
    check_kind(kind, given.pop("parameters"), given.pop("bound"), faults=faults, **given)


def test_a_kind_that_keeps_the_rules_passes() -> None:
    check(Twins)


@dataclasses.dataclass(frozen=True)
class AnyParameters:
    given: Mapping[str, Any]

    def __init__(self, **given: Any) -> None:
        object.__setattr__(self, "given", given)


@dataclasses.dataclass
class Thawed:
    max_tokens: int
    prompt_tokens: list[int]


class TakesAnything(Twins):
    parameters_type = AnyParameters


class Changeable(Twins):
    parameters_type = Thawed


class Misnamed(Twins):
    name = "Mis named"


class KeepsTuples(Twins):
    def observe(self, target, case):
        seen = super().observe(target, case)
        return Observation(seen.case, {**seen.samples, "cached": tuple(seen.samples["cached"])})


class KeepsArrays(Twins):
    def observe(self, target, case):
        seen = super().observe(target, case)
        return Observation(seen.case, {**seen.samples, "cached": np.asarray(seen.samples["cached"])})


class KeepsAnotherCase(Twins):
    def observe(self, target, case):
        return Observation({**case, "again": case.get("again", 0) + 1}, super().observe(target, case).samples)


class Sorts(Twins):
    def refutes(self, observation):
        observation.samples["cached"].append(0)
        return super().refutes(observation)


class ReadsTheClock(Twins):
    def refutes(self, observation):
        return now() < 0 or super().refutes(observation)


class DrawsGlobally(Twins):
    def informative(self, observation):
        return random.random() >= 0


class DrawsFromNumpy(Twins):
    def informative(self, observation):
        return bool(np.random.rand() >= 0)  # noqa: NPY002


class AsksTheEnvironment(Twins):
    def refutes(self, observation):
        return bool(os.environ.get("REFUTE_TWINS")) or super().refutes(observation)


class ReadsAFile(Twins):
    def refutes(self, observation):
        with open(os.devnull) as stream:  # noqa: PTH123
            return bool(stream.read()) or super().refutes(observation)


class Counts(Twins):
    asked = 0

    def figure(self, judgement, bound):
        self.asked += 1
        return f"asked {self.asked} times"


class HeedsOrder(Twins):
    def figure(self, judgement, bound):
        return "some"

    def informative(self, observation):
        return next(iter(observation.samples)) == "cached"


class SurvivesOnNothing(Twins):
    def judge(self, observations, bound):
        judgement = super().judge(observations, bound)
        return judgement if observations else dataclasses.replace(judgement, outcome=Outcome.SURVIVED)


class SurvivesEarly(Twins):
    def judge(self, observations, bound):
        judgement = super().judge(observations, bound)
        enough = len(observations) >= 3 and not judgement.violations
        return dataclasses.replace(judgement, outcome=Outcome.SURVIVED) if enough else judgement


class BreaksOnNothing(Twins):
    def judge(self, observations, bound):
        assert observations[0] is not None
        return super().judge(observations, bound)


class CatchesBeforehand(Twins):
    def caught(self, observations, bound):
        return not observations or super().caught(observations, bound)


class TrustsNan(Twins):
    def refutes(self, observation):
        return observation.samples["apart"] > 0


class NeverRed(Twins):
    def refutes(self, observation):
        return False


class CatchesButSurvives(Twins):
    def judge(self, observations, bound):
        return Judgement(
            Outcome.SURVIVED if len(observations) >= bound.cases else Outcome.INCONCLUSIVE, "", 0, 0
        )

    def refutes(self, observation):
        return False

    def caught(self, observations, bound):
        return any(map(super().refutes, observations))


class AlwaysRed(Twins):
    def refutes(self, observation):
        return True


class RedNowAndThen(Twins):
    def observe(self, target, case):
        seen = super().observe(target, case)
        return Observation(seen.case, {**seen.samples, "apart": float(target.noise)})


class SaysNothing(Twins):
    def figure(self, judgement, bound):
        return None


class FigureBreaks(Twins):
    def figure(self, judgement, bound):
        return f"{judgement.excluded_rate:.1%}"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Misnamed, "its name must be of small letters"),
        (TakesAnything, "takes a parameter that it does not have"),
        (Changeable, "Thawed, must be a frozen dataclass"),
        (KeepsTuples, "keeps observations that JSON changes"),
        (KeepsArrays, "the falsifier broke: StrictJsonError: .*cached: a ndarray"),
        (KeepsAnotherCase, "keeps another case than the one it was given"),
        (Sorts, "changes the observations that it judges"),
        (ReadsTheClock, r"asks more than its arguments when it judges: time\.time"),
        (DrawsGlobally, "the global random state"),
        (DrawsFromNumpy, "NumPy's global random state"),
        (AsksTheEnvironment, r"os\.environ"),
        (ReadsAFile, r"io\.open"),
        (Counts, "figure answers otherwise when it is asked twice"),
        (HeedsOrder, "answers otherwise when keys come in another order"),
        (SurvivesOnNothing, "survives on 0 observations of 4 planned"),
        (SurvivesEarly, "survives on 3 observations of 4 planned"),
        (BreaksOnNothing, "breaks on 0 observations: IndexError"),
        (CatchesBeforehand, "calls a fault caught before anything was observed"),
        (TrustsNan, "survives with nan in apart"),
        (NeverRed, "survives with|does not turn red on empty-cache=1"),
        (CatchesButSurvives, "survives with|survives a whole attack"),
        (AlwaysRed, "is not green on the known-good engine with seed 0: invalid: the known-good control"),
        (RedNowAndThen, "is not green on the known-good engine"),
        (SaysNothing, "figure gives None|the falsifier broke|cannot be recorded"),
        (FigureBreaks, "breaks on 0 observations: TypeError|the falsifier broke"),
    ],
)
def test_each_broken_rule_is_one_sentence(kind: type, sentence: str) -> None:
    with pytest.raises(AssertionError) as failed:
        check(kind)
    text = str(failed.value)
    assert re.search(sentence, text), text
    assert text.startswith(f"{kind.name}: ")
    assert "\n" not in text


def test_it_demands_faults_that_exist_and_can_be_planted() -> None:
    with pytest.raises(AssertionError, match="name faults"):
        check(Twins, faults=())
    with pytest.raises(AssertionError, match="a dose is not a number"):
        check(Twins, faults=["stale-row=x"])
    with pytest.raises(AssertionError, match="int'> is no kind"):
        check(int, faults=["stale-row"])
    with pytest.raises(AssertionError, match="no fault is called"):
        check(Twins, faults=("empty-cash",))
    with pytest.raises(AssertionError, match="does not turn red on slow-clock"):
        check(Twins, faults=("slow-clock",))


def test_it_demands_a_bound_that_the_kind_can_use() -> None:
    with pytest.raises(AssertionError, match=r"cannot use above, runs in its bound"):
        check(Twins, bound=Bound(confidence=0.95, cases=4, above=1.0, unit="x", runs=3))


class Rate(Measured[NoParameters]):
    """Decoding keeps a floor."""

    unit = "tok/s"

    def plan(self, target, runs, seed):
        return [{"prompt": [run]} for run in range(runs)]

    def observe(self, target, case):
        done = target.generate(Request(tuple(case["prompt"]), 6))
        return Observation(case, {"ns": done.token_ns[-1] - done.token_ns[0]})

    def measure(self, observation):
        return 5e9 / observation.samples["ns"]


class Credulous(Rate):
    def judge(self, observations, bound):
        slow = sum(self.measure(each) < bound.above for each in observations)
        few = len(observations) < bound.runs
        outcome = Outcome.INCONCLUSIVE if few else Outcome.FALSIFIED if slow else Outcome.SURVIVED
        return Judgement(outcome, "", len(observations), slow)


FLOOR = Bound(
    confidence=0.9, of="rate", statistic="median", above=5.0, unit="tok/s", runs=5, testbeds=("any",)
)


def test_a_measuring_kind_that_keeps_the_rules_passes() -> None:
    check(Rate, faults=("slow-clock",), parameters={}, bound=FLOOR)


def test_a_measurement_that_is_no_number_must_not_survive() -> None:
    with pytest.raises(AssertionError, match=r"survives with a run that measured (nan|inf)"):
        check(Credulous, faults=("slow-clock",), parameters={}, bound=FLOOR)

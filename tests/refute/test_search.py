"""The search: planned cases, the same ones for a seed, shrunk counterexamples, unsteady engines."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st

from refute.kinds.base import Case, Observation, Searched
from refute.search import first_counterexample, search
from refute.targets.base import Target, TargetError
from refute.targets.fake import FakeTarget


@dataclass(frozen=True)
class Wrong:
    """When an answer is wrong; called with the number drawn."""

    when: Callable[[int], bool]


class Numbers(Searched[Wrong]):
    name = "numbers"
    rule_version = "1"
    requires = frozenset()
    parameters_type = Wrong

    def cases(self, target: Target) -> Any:
        return st.fixed_dictionaries({"number": st.integers(0, 10_000)})

    def observe(self, target: Target, case: Case) -> Observation:
        return Observation(case, {"wrong": self.parameters.when(case["number"])})

    def refutes(self, observation: Observation) -> bool:
        return bool(observation.samples["wrong"])


TARGET = FakeTarget(0)


def test_a_clean_search_tries_the_planned_number_of_cases_and_repeats_them_for_a_seed() -> None:
    clean = Numbers(Wrong(lambda _: False))
    first = search(clean, TARGET, cases=40, seed=5)
    assert first.counterexample is None
    assert first.replays is None
    assert len(first.observations) == 40
    assert search(clean, TARGET, cases=40, seed=5) == first
    assert search(clean, TARGET, cases=40, seed=6) != first


def test_a_counterexample_is_shrunk_to_the_smallest_and_replays() -> None:
    result = search(Numbers(Wrong(lambda n: n >= 37)), TARGET, cases=40, seed=1)
    assert result.counterexample is not None
    assert result.counterexample.case == {"number": 37}
    assert result.replays


def test_an_engine_that_fails_only_once_still_leaves_its_counterexample() -> None:
    calls = count()
    result = search(Numbers(Wrong(lambda _: next(calls) == 3)), TARGET, cases=40, seed=1)
    assert result.counterexample is not None
    assert result.replays is False


def test_a_fault_trial_stops_at_the_first_red_without_shrinking() -> None:
    seen: list[int] = []

    def wrong(number: int) -> bool:
        seen.append(number)
        return number >= 37

    found = first_counterexample(Numbers(Wrong(wrong)), TARGET, cases=40, seed=1)
    assert [observation.case["number"] for observation in found] == seen[-1:]
    assert all(number < 37 for number in seen[:-1])


def test_a_fault_that_is_missed_leaves_all_cases_as_proof() -> None:
    assert len(first_counterexample(Numbers(Wrong(lambda _: False)), TARGET, cases=12, seed=1)) == 12


def test_a_target_that_breaks_is_not_a_counterexample() -> None:
    def broken(number: int) -> bool:
        raise TargetError(f"engine died at {number}")

    with pytest.raises(TargetError, match="engine died"):
        search(Numbers(Wrong(broken)), TARGET, cases=10, seed=1)


def test_progress_counts_the_cases() -> None:
    ticks: list[int] = []
    search(Numbers(Wrong(lambda _: False)), TARGET, cases=7, seed=1, on_case=ticks.append)
    assert ticks == list(range(1, 8))


class Patient(Numbers):
    """Even numbers alone are informative."""

    tries = 3

    def informative(self, observation: Observation) -> bool:
        return observation.case["number"] % 2 == 0


def test_a_kind_that_tries_more_goes_on_until_enough_cases_were_informative() -> None:
    kind = Patient(Wrong(lambda _: False))
    for tried in (
        search(kind, TARGET, cases=10, seed=1).observations,
        first_counterexample(kind, TARGET, cases=10, seed=1),
    ):
        assert sum(map(kind.informative, tried)) == 10
        assert kind.informative(tried[-1])
        assert 10 < len(tried) <= 30


def test_a_kind_that_tries_more_gives_up_at_its_limit() -> None:
    class Hopeless(Patient):
        def informative(self, observation: Observation) -> bool:
            return False

    assert len(search(Hopeless(Wrong(lambda _: False)), TARGET, cases=10, seed=1).observations) == 30


def test_known_cases_come_first_and_on_top_of_the_planned_ones() -> None:
    known = [{"number": 77}, {"number": 5}]
    result = search(Numbers(Wrong(lambda _: False)), TARGET, cases=7, seed=1, known=known)
    assert [each.case for each in result.observations[:2]] == known
    assert len(result.observations) == 9
    assert (
        result.observations[2:]
        == search(Numbers(Wrong(lambda _: False)), TARGET, cases=7, seed=1).observations
    )


def test_a_known_case_that_refutes_again_is_the_counterexample() -> None:
    known = [{"number": 5}, {"number": 77}, {"number": 99}]
    result = search(Numbers(Wrong(lambda n: n > 50)), TARGET, cases=7, seed=1, known=known)
    assert [each.case for each in result.observations] == known[:2]
    assert result.counterexample == result.observations[1]
    assert result.replays


@pytest.mark.parametrize("case", [{}, {"number": "many"}, {"number": None}])
def test_a_known_case_that_cannot_be_run_any_more_is_passed_over(case: dict[str, Any]) -> None:
    clean = Numbers(Wrong(lambda n: n < 0))
    assert search(clean, TARGET, cases=3, seed=1, known=[case]) == search(clean, TARGET, cases=3, seed=1)


class Tokens(Numbers):
    """A token of 100 or more is wrong, wherever it stands in one of two texts."""

    def cases(self, target: Target) -> Any:
        return st.fixed_dictionaries({"prompt": st.sampled_from([[3, 200, 5], [8, 9, 100]])})

    def observe(self, target: Target, case: Case) -> Observation:
        return Observation(case, {"wrong": max(case["prompt"]) >= 100})


def test_tokens_that_do_not_matter_become_the_plainest() -> None:
    result = search(Tokens(Wrong(bool)), TARGET, cases=5, seed=1)
    assert result.counterexample is not None
    assert result.counterexample.case in ({"prompt": [0, 200, 0]}, {"prompt": [0, 0, 100]})


CASES = """
import sys
sys.path.insert(0, sys.argv[1])
for module in sys.argv[2:]:
    __import__(module)
from hypothesis import strategies as st
from refute.kinds.base import Observation, Searched
from refute.search import search
from refute.targets.fake import FakeTarget

class Numbers(Searched):
    def cases(self, target):
        return st.fixed_dictionaries({"number": st.integers(0, 10_000)})
    def observe(self, target, case):
        return Observation(case, {})
    def refutes(self, observation):
        return False

print([each.case["number"] for each in search(Numbers(None), FakeTarget(0), cases=300, seed=1).observations])
"""


def test_the_cases_follow_from_the_seed_whatever_else_is_imported(tmp_path) -> None:
    """Hypothesis draws, now and then, a constant out of the modules of the project that it runs in."""
    (tmp_path / "constants.py").write_text("".join(f"N{n} = {n}\n" for n in range(1000, 1400)))
    alone, beside = (
        subprocess.run(
            [sys.executable, "-c", CASES, str(tmp_path), *modules],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        ).stdout
        for modules in ([], ["constants"])
    )
    assert alone == beside

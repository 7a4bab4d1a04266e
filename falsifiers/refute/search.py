"""Search for a counterexample with Hypothesis, shrink it, run it again.

Hypothesis keeps nothing between searches: its cases follow from the seed alone, so that a record can say
which ones were tried; what refuted before is handed in. An engine that does not repeat itself is no reason to lose a counterexample: the smallest
one that was ever seen counts, whether or not it shows again.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.errors import Flaky

from refute.kinds.base import Case, Observation, Searched
from refute.targets.base import Target

_SHRINK_CALLS = 300


@dataclass(frozen=True, slots=True)
class SearchResult:
    """observations: one per case tried before shrinking. counterexample: the smallest seen, or None.

    replays: whether the counterexample refuted again when it was run once more; None without one.
    """

    observations: tuple[Observation, ...]
    counterexample: Observation | None
    replays: bool | None


def search(
    kind: Searched[Any],
    target: Target,
    *,
    cases: int,
    seed: int,
    known: Sequence[Case] = (),
    on_case: Callable[[int], None] | None = None,
) -> SearchResult:
    """Try `cases` cases; shrink the first counterexample. Target errors pass through.

    known: cases that refuted before; they come first, on top of the others. One that this version, or this
    target, cannot run any more is passed over: its file may be old or edited.
    """
    tried: list[Observation] = []
    for case in known:
        try:
            observation = kind.observe(target, case)
            refuted = kind.refutes(observation)
            again = kind.refutes(kind.observe(target, case)) if refuted else None
        except Exception:  # noqa: BLE001, S112 (a case that nobody vouches for may break a kind in any way)
            continue
        tried.append(observation)
        if on_case is not None:
            on_case(len(tried))
        if refuted:
            return SearchResult(tuple(tried), observation, again)
    refuting: list[Observation] = []
    shrinking = 0

    def attempt(case: dict[str, Any]) -> None:
        nonlocal shrinking
        if refuting:
            shrinking += 1
            if shrinking > _SHRINK_CALLS:
                return
        observation = kind.observe(target, case)
        if not refuting:
            tried.append(observation)
            if on_case is not None:
                on_case(len(tried))
        if kind.refutes(observation):
            refuting.append(observation)
            raise _Refuted

    with suppress(_Refuted, Flaky):
        _drive(kind, target, cases, seed, attempt, (Phase.generate, Phase.shrink))
    if not refuting:
        return SearchResult(tuple(tried), None, replays=None)
    smallest = min(refuting, key=_size)
    again = kind.observe(target, smallest.case)
    return SearchResult(tuple(tried), smallest, replays=kind.refutes(again))


def first_counterexample(
    kind: Searched[Any], target: Target, *, cases: int, seed: int
) -> tuple[Observation, ...]:
    """Return the one case that refutes, else all cases tried: what a fault trial needs."""
    tried: list[Observation] = []

    def attempt(case: dict[str, Any]) -> None:
        observation = kind.observe(target, case)
        tried.append(observation)
        if kind.refutes(observation):
            raise _Stop

    try:
        _drive(kind, target, cases, seed, attempt, (Phase.generate,))
    except _Stop:
        return (tried[-1],)
    return tuple(tried)


def _size(found: Observation) -> tuple[int, str]:
    """Shorter is smaller; of two equally long cases the one with the smaller digits."""
    text = json.dumps(found.case)
    return len(text), text


class _Refuted(Exception):  # noqa: N818 (a signal to Hypothesis, never seen outside)
    """A case contradicts the claim; Hypothesis shrinks it."""


class _Stop(BaseException):
    """Ends a search at once: Hypothesis replays every Exception, but lets this one through."""


def _drive(  # noqa: PLR0917 (one private caller's worth of context)
    kind: Searched[Any],
    target: Target,
    cases: int,
    seed: int,
    attempt: Callable[[dict[str, Any]], None],
    phases: tuple[Phase, ...],
) -> None:
    """Let Hypothesis call `attempt`; every setting is fixed here, whatever profile the user's tests load."""
    decorated = settings(
        max_examples=cases,
        phases=phases,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        stateful_step_count=50,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )(hypothesis.seed(seed)(hypothesis.given(case=kind.cases(target))(attempt)))
    decorated()

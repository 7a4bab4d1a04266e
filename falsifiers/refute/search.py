"""Search for a counterexample with Hypothesis, shrink it, run it again.

Hypothesis keeps nothing between searches: its cases follow from the seed alone, so that a record can say
which ones were tried; what refuted before is handed in. An engine that does not repeat itself is no reason
to lose a counterexample: the smallest one that was ever seen counts, whether or not it shows again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.errors import Flaky
from hypothesis.internal.conjecture.providers import CONSTANTS_CACHE, HypothesisProvider
from hypothesis.internal.constants_ast import Constants

from refute.kinds.base import Case, Observation, Searched
from refute.targets.base import Target

_SHRINK_CALLS = 200  # cases that Hypothesis may run to shrink one
_SIMPLIFY_CALLS = 60  # cases that are run after it, with plainer tokens


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
    """Try `cases` informative cases; shrink the first counterexample. Target errors pass through.

    known: cases that refuted before; they come first, on top of the others. One that this version, or this
    target, cannot run any more is passed over: its file may be old or edited.
    """
    tried: list[Observation] = []
    for case in known:
        try:
            observation = kind.observe(target, case)
            refuted = kind.refutes(observation)
            replays = kind.refutes(kind.observe(target, case)) if refuted else None
        except Exception:  # noqa: BLE001, S112 (a case that nobody vouches for may break a kind in any way)
            continue
        tried.append(observation)
        if on_case is not None:
            on_case(len(tried))
        if refuted:
            return SearchResult(tuple(tried), observation, replays)
    refuting: list[Observation] = []
    informative = 0
    outcomes: dict[str, bool] = {}  # of cases since the first that refuted: many drawings are the same case

    def attempt(case: dict[str, Any]) -> None:
        nonlocal informative
        text = json.dumps(case)
        if text not in outcomes:
            if len(outcomes) > _SHRINK_CALLS:
                return
            observation = kind.observe(target, case)
            refuted = kind.refutes(observation)
            if not refuting:
                tried.append(observation)
                informative += kind.informative(observation)
                if on_case is not None:
                    on_case(min(len(tried), cases))
            if refuted:
                refuting.append(observation)
            if refuting:
                outcomes[text] = refuted
        if outcomes.get(text):
            raise _Refuted
        if not refuting and informative == cases:
            raise _Stop

    with suppress(_Refuted, _Stop, Flaky):
        _drive(kind, target, cases, seed, attempt, (Phase.generate, Phase.shrink))
    if not refuting:
        return SearchResult(tuple(tried), None, replays=None)
    smallest = _plainer(kind, target, min(refuting, key=_size))
    again = kind.observe(target, smallest.case)
    return SearchResult(tuple(tried), smallest, replays=kind.refutes(again))


def first_counterexample(
    kind: Searched[Any],
    target: Target,
    *,
    cases: int,
    seed: int,
    on_case: Callable[[int], None] = lambda _: None,
) -> tuple[Observation, ...]:
    """Return the one case that refutes, else all cases tried: what a fault trial needs."""
    tried: list[Observation] = []
    informative = 0

    def attempt(case: dict[str, Any]) -> None:
        nonlocal informative
        on_case(len(tried))
        observation = kind.observe(target, case)
        tried.append(observation)
        informative += kind.informative(observation)
        if kind.refutes(observation) or informative == cases:
            raise _Stop

    with suppress(_Stop):
        _drive(kind, target, cases, seed, attempt, (Phase.generate,))
    return tuple(tried[-1:] if tried and kind.refutes(tried[-1]) else tried)


def _plainer(kind: Searched[Any], target: Target, found: Observation) -> Observation:
    """Put the first ordinary token in place of others wherever the case still refutes.

    Hypothesis cannot do that with tokens that came from a text: it knows which text, not which tokens.
    """
    calls = 0
    for path in list(_token_lists(found.case)):
        plain, length = target.ordinary_tokens[0], len(_at(found.case, path))
        for places in (range(length), *([place] for place in range(length))):
            tokens = _at(found.case, path)
            if calls < _SIMPLIFY_CALLS and any(tokens[place] != plain for place in places):
                case = json.loads(json.dumps(found.case))
                for place in places:
                    _at(case, path)[place] = plain
                calls += 1
                observation = kind.observe(target, case)
                found = observation if kind.refutes(observation) else found
    return found


def _token_lists(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where lists of token ids lie in a case: under `prompt` or `tokens`."""
    members = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, member in members:
        tokens = isinstance(member, list) and all(type(each) is int for each in member)
        if tokens and key in ("prompt", "tokens"):
            yield (*path, key)
        elif not tokens and isinstance(member, Mapping | list):
            yield from _token_lists(member, (*path, key))


def _at(case: Case, path: tuple[str | int, ...]) -> Any:
    return reduce(getitem, path, case)  # type: ignore[arg-type]


def _size(found: Observation) -> tuple[int, str]:
    """Shorter is smaller; of two equally long cases the one with the smaller digits."""
    text = json.dumps(found.case)
    return len(text), text


class _Refuted(Exception):  # noqa: N818 (a signal to Hypothesis, never seen outside)
    """A case contradicts the claim; Hypothesis shrinks it."""


class _Stop(BaseException):
    """Enough was tried: ends a search at once; Hypothesis replays Exceptions, but lets this one through."""


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
        max_examples=cases * kind.tries,
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
    with _from_the_seed_alone():
        decorated()


@contextmanager
def _from_the_seed_alone() -> Iterator[None]:
    """Let Hypothesis draw the same cases in every process; there is no setting for it.

    It draws a constant, now and then, out of whichever modules of the project happen to be imported.
    """
    found = vars(HypothesisProvider)["_local_constants"]
    CONSTANTS_CACHE.cache.clear()  # it holds such constants too
    setattr(HypothesisProvider, "_local_constants", Constants())  # noqa: B010
    try:
        yield
    finally:
        setattr(HypothesisProvider, "_local_constants", found)  # noqa: B010
        CONSTANTS_CACHE.cache.clear()

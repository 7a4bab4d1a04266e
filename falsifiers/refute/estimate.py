"""How long attacks are going to take, and how that is known.

From a record of the same falsifier on this engine, model and testbed, where there is one. Else from one on
another model here, times how much slower this model is, which is measured on both. Else from the number of
cases and the tokens that their parameters ask for, times what a token takes here, and times what records of
other falsifiers here took of what their own sizes say. Without such records that is only what it takes at
least. All of it times how crowded the host is now, against then.
"""

import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refute.targets.base import Request, Target, TargetError
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.contract import Falsifier
    from refute.rows import Row

Basis = Literal[
    "a record", "a record on another model", "sizes, as others went", "sizes", "it does not apply", "nothing"
]
_COMPUTING = frozenset({"token_ids", "http"})  # what falsifiers require whose cases have the model compute
_PURE = 0.005  # seconds for a case that has it compute nothing
_PROMPT = 16  # tokens of the prompt that is timed
_DECODED = 4  # tokens that are decoded after the first
_PATIENCE = 60.0  # seconds for the first answer: where it takes longer, no second one is asked for
_ROUNDS = 5  # in which a pace is measured, as long as they are done within
_SOON = 1.0  # seconds
_ENOUGH = 3  # records by which sizes are corrected
_AROUND = 0.3  # seconds for the control, and for what is done once
_SAID = (Verdict.BLOCKED, Verdict.NOT_APPLICABLE, Verdict.ERROR)  # took no time that tells anything


@dataclass(frozen=True, slots=True)
class Pace:
    """What tokens take on one target, in seconds."""

    prompt_token: float
    token: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """seconds: None where nothing is known. least: it may well take several times as long."""

    seconds: float | None
    basis: Basis
    least: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """How long one attack took: on which engine, model and testbed; and how crowded that was."""

    engine: str
    model: str
    testbed: str
    seconds: float
    crowding: float = 1.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What is attacked, and what is known of it by now.

    pace: None where it cannot be measured. others: that of other models on this engine and testbed, by
    digest. crowding: of the host, now. went: how many times as long as their sizes say records here took;
    None where there are too few.
    """

    engine: str
    model: str
    testbed: str
    capabilities: Collection[str]
    pace: Pace | None = None
    others: Mapping[str, Pace] = field(default_factory=lambda: MappingProxyType({}))
    crowding: float = 1.0
    went: float | None = None

    def here(self, known: Iterable[Known]) -> list[Known]:
        """The records of this engine and testbed, as long as they would take now."""
        return [
            replace(each, seconds=each.seconds * self.crowding / each.crowding, crowding=self.crowding)
            for each in known
            if (each.engine, each.testbed) == (self.engine, self.testbed)
        ]

    def pace_on(self, model: str) -> Pace | None:
        """What tokens take on a model."""
        return self.pace if model == self.model else self.others.get(model)


def pace_of(target: Target, clock: Callable[[], float] = time.perf_counter) -> Pace | None:
    """Time two short answers of a target, again while they are quick; None where it gives none to time."""
    if "token_ids" not in target.capabilities:
        return None
    vocabulary = target.identity.vocabulary or 1
    prompt = tuple(1 + n % max(vocabulary - 1, 1) for n in range(_PROMPT))
    firsts, seconds, start = list[float](), list[float](), clock()
    try:
        while len(firsts) < _ROUNDS and (not firsts or clock() - start < _SOON):
            began = clock()
            target.generate(Request(prompt, 1, stop=False))
            firsts.append(clock() - began)
            if firsts[0] > _PATIENCE:
                return Pace(firsts[0] / (_PROMPT + 1), firsts[0] / (_PROMPT + 1))
            target.generate(Request(prompt, 1 + _DECODED, stop=False))
            seconds.append(clock() - began - firsts[-1])
    except TargetError:
        return None
    first, second = statistics.median(firsts), statistics.median(seconds)
    # The first one also finds nothing cached; the second, without its prompt, is what tokens take.
    token = max(second - first, second / (_PROMPT + 1 + _DECODED)) / _DECODED
    return Pace(max(second - _DECODED * token, 0.0) / _PROMPT, token)


def estimate(falsifier: "Falsifier", known: Sequence[Known], ground: Ground) -> Estimate:
    """Estimate one attack. known: how long the same attack took before, wherever."""
    if not set(falsifier.requires) <= set(ground.capabilities):
        return Estimate(0.0, "it does not apply")
    here = ground.here(known)
    same = [each.seconds for each in here if each.model == ground.model]
    if same:
        return Estimate(same[-1], "a record")
    scaled = [(each.seconds, ground.others[each.model]) for each in here if each.model in ground.others]
    if scaled and ground.pace is not None:
        taken, theirs = scaled[-1]
        slower = max(ground.pace.token / theirs.token, 1e-3) if _computes(falsifier) else 1.0
        return Estimate(taken * slower, "a record on another model")
    sizes = _from_sizes(falsifier, ground.pace)
    if sizes is None:
        return Estimate(None, "nothing", least=True)
    if ground.went is None:
        return Estimate(sizes, "sizes", least=True)
    return Estimate(sizes * ground.went, "sizes, as others went")


def went(records: Iterable[tuple["Falsifier", Sequence[Known]]], ground: Ground) -> float | None:
    """How many times as long as their sizes say attacks here took, in the middle; None of too few."""
    ratios = list[float]()
    for falsifier, known in records:
        for each in ground.here(known)[-1:]:
            sizes = _from_sizes(falsifier, ground.pace_on(each.model))
            ratios += [] if sizes is None else [each.seconds / sizes]
    return statistics.median(ratios) if len(ratios) >= _ENOUGH else None


def known_from(rows: Iterable["Row"], taken_by: Callable[["Row"], tuple[float, float] | None]) -> list[Known]:
    """What rows say of the time that their attacks took. taken_by: seconds, and how crowded the host was."""
    found = []
    for row in rows:
        taken = None if row.verdict in _SAID else taken_by(row)
        if taken is not None:
            found.append(Known(row.engine, row.model, row.testbed, *taken))
    return found


def _computes(falsifier: "Falsifier") -> bool:
    return bool(_COMPUTING.intersection(falsifier.requires))


def _from_sizes(falsifier: "Falsifier", pace: Pace | None) -> float | None:
    """What the cases on the target itself take, each a prompt and an answer, as often as is asked for.

    Faults and doses come on top: by how much, records tell. None where it is not known what a token takes.
    """
    if not _computes(falsifier):
        return _AROUND + _PURE * _cases(falsifier)
    if pace is None:
        return None
    given = falsifier.parameters
    prompt = _mean(given.get("prompt_tokens"), 16) * pace.prompt_token
    answer = _mean(given.get("max_tokens"), 8) * pace.token
    return _AROUND + _cases(falsifier) * (prompt + answer) * _mean(given.get("repeats"), 1)


def _cases(falsifier: "Falsifier") -> int:
    return falsifier.bound.cases or falsifier.bound.runs or 1


def _mean(value: Any, otherwise: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list | tuple) and value and all(isinstance(each, int | float) for each in value):
        return sum(value) / len(value)
    return otherwise

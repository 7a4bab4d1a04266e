"""How long attacks are going to take, and how that is known.

From a record of the same falsifier on this engine, model and testbed, where there is one. Else from one on
another model here, times how much slower this model is, which is measured on both. Else from the number of
cases and the tokens that their parameters ask for, times what a token takes here: that is rough, and is said.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from refute.targets.base import Request, Target, TargetError
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.contract import Falsifier
    from refute.rows import Row

Basis = Literal["a record", "a record on another model", "sizes", "it does not apply", "nothing"]
_COMPUTING = frozenset({"token_ids", "http"})  # what falsifiers require whose cases have the model compute
_PURE = 0.02  # seconds for a case that has it compute nothing
_PROMPT = 16  # tokens of the prompt that is timed
_DECODED = 4  # tokens that are decoded after the first
_PATIENCE = 60.0  # seconds for the first answer: where it takes longer, no second one is asked for
_AROUND = 0.3  # seconds for the control, and for what is done once
_SAID = (Verdict.BLOCKED, Verdict.NOT_APPLICABLE, Verdict.ERROR)  # took no time that tells anything


@dataclass(frozen=True, slots=True)
class Pace:
    """What tokens take on one target, in seconds."""

    prompt_token: float
    token: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """seconds: None where nothing is known."""

    seconds: float | None
    basis: Basis


@dataclass(frozen=True, slots=True)
class Known:
    """How long one attack took: on which engine, model and testbed."""

    engine: str
    model: str
    testbed: str
    seconds: float


def pace_of(target: Target, clock: Callable[[], float] = time.perf_counter) -> Pace | None:
    """Time two short answers of a target; None where it gives none that can be timed."""
    if "token_ids" not in target.capabilities:
        return None
    vocabulary = target.identity.vocabulary or 1
    prompt = tuple(1 + n % max(vocabulary - 1, 1) for n in range(_PROMPT))
    try:
        began = clock()
        target.generate(Request(prompt, 1, stop=False))
        first = clock() - began
        if first > _PATIENCE:
            return Pace(first / (_PROMPT + 1), first / (_PROMPT + 1))
        target.generate(Request(prompt, 1 + _DECODED, stop=False))
        second = clock() - began - first
    except TargetError:
        return None
    # The first one also finds nothing cached; the second, without its prompt, is what tokens take.
    token = max(second - first, second / (_PROMPT + 1 + _DECODED)) / _DECODED
    return Pace(max(second - _DECODED * token, 0.0) / _PROMPT, token)


def estimate(
    falsifier: "Falsifier",
    known: Sequence[Known],
    *,
    engine: str,
    model: str,
    testbed: str,
    capabilities: Collection[str],
    pace: Pace | None,
    others: Mapping[str, Pace],
) -> Estimate:
    """Estimate one attack. others: the pace of other models on this engine and testbed, by digest."""
    if not set(falsifier.requires) <= set(capabilities):
        return Estimate(0.0, "it does not apply")
    computes = bool(_COMPUTING.intersection(falsifier.requires))
    here = [each for each in known if each.engine == engine and each.testbed == testbed]
    same = [each.seconds for each in here if each.model == model]
    if same:
        return Estimate(same[-1], "a record")
    scaled = [(each.seconds, others[each.model]) for each in here if each.model in others]
    if scaled and pace is not None:
        taken, theirs = scaled[-1]
        slower = max(pace.token / theirs.token, 1e-3) if computes else 1.0
        return Estimate(taken * slower, "a record on another model")
    if not computes:
        return Estimate(_AROUND + _PURE * _cases(falsifier), "sizes")
    if pace is None:
        return Estimate(None, "nothing")
    return Estimate(_from_sizes(falsifier, pace), "sizes")


def known_from(rows: Iterable["Row"], seconds_of: Callable[["Row"], float | None]) -> list[Known]:
    """What rows say of the time that their attacks took."""
    found = []
    for row in rows:
        taken = None if row.verdict in _SAID else seconds_of(row)
        if taken is not None:
            found.append(Known(row.engine, row.model, row.testbed, taken))
    return found


def _from_sizes(falsifier: "Falsifier", pace: Pace) -> float:
    """Cases, each a prompt and an answer, repeated as often as is asked; a fault ends at half of them."""
    given = falsifier.parameters
    prompt = _mean(given.get("prompt_tokens"), 16) * pace.prompt_token
    answer = _mean(given.get("max_tokens"), 8) * pace.token
    attacks = 1 + len(falsifier.must_catch) / 2
    return _AROUND + _cases(falsifier) * (prompt + answer) * _mean(given.get("repeats"), 2) * attacks


def _cases(falsifier: "Falsifier") -> int:
    return falsifier.bound.cases or falsifier.bound.runs or 1


def _mean(value: Any, otherwise: float) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, list | tuple) and value and all(isinstance(each, int | float) for each in value):
        return sum(value) / len(value)
    return otherwise

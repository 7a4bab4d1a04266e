"""Logit error: a target's logits against those of another implementation, at forced tokens.

Forced, because two engines that differ in one token have different pasts from there on and nothing left
to compare. What counts is the worst position, never an average, and a logit that is no number refutes: a
maximum that skips it would not see it.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Drawn, Observation, Planned
from refute.kinds.forced import (
    ForcedParameters,
    compared_with_itself,
    distinct,
    forced_cases,
    forced_of,
    implementations,
    run_forced,
    shortfall,
)
from refute.kinds.parameters import finite, whole_number, within
from refute.statistics import excluded_rate
from refute.targets.base import Target, TargetError
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound

_ROUNDING = 1e-6  # by which a computed cosine may exceed 1
_KEPT = 4096  # logits of the worst position that are stored: all of a small vocabulary


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitErrorParameters(ForcedParameters):
    """cosine: the least that any position may have. exceeding: positions that may miss either bound.

    An engine that rounds activations can turn a tie between two experts, and then one position is far off
    while nothing is wrong; an engine in float32 has no such excuse.
    """

    cosine: float
    exceeding: int = 0

    def __post_init__(self) -> None:
        ForcedParameters.__post_init__(self)
        whole_number("exceeding", self.exceeding, 0)
        if not 0 < self.cosine < 1:
            raise ValueError(f"cosine is {self.cosine!r}, expected a number between 0 and 1")


class LogitError(Planned[LogitErrorParameters]):
    """Logits lie within a bound of the reference's at every position.

    Stored reduced: of each position the largest error, the cosine, the reference's lead and both choices;
    of the worst position of a case up to 4,096 logits of either side, those with the largest errors.
    """

    name = "logit-error"
    rule_version = "1"
    requires = frozenset({"token_ids", "sessions", "reference"})
    parameters_type = LogitErrorParameters
    bound_fields = frozenset({"of", "within", "confidence", "runs"})
    unit = "logit"
    stricter = MappingProxyType(
        {
            **Planned.stricter,
            "cosine": "higher",
            "prompts": "higher",
            "forced": "higher",
            "exceeding": "lower",
        }
    )

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Sequences of the reference, every other one in chunks."""
        return forced_cases(target, runs, seed)

    def observe(self, target: Target, case: Case) -> Observation:
        """Force the sequence and compare the logits of every position after the prompt."""
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        expected = target.reference.scores(forced_of(case)).logits  # (T, V)
        found = run_forced(target, case, self.parameters.mode).logits
        if not np.isfinite(expected).all():
            raise TargetError("the reference has a logit that is not finite, so nothing can be compared")
        if found.shape != expected.shape:
            raise TargetError(f"logits are {found.shape}, expected {expected.shape} as in the reference")
        positions = [_compared(*rows) for rows in zip(found, expected, strict=True)]
        errors = [float("inf") if each["error"] is None else each["error"] for each in positions]
        worst = errors.index(max(errors))
        return Observation(
            case,
            {
                "implementations": implementations(target),
                "positions": positions,
                "worst": {"position": worst, **_stored(found[worst], expected[worst])},
            },
        )

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """One position too far off falsifies, beyond those that may be; a thing is no witness for itself."""
        assert bound.runs is not None
        assert bound.within is not None
        limit, parameters = bound.within, self.parameters
        positions = [each for observation in observations for each in observation.samples["positions"]]
        nonsense = sum(not (each["finite"] and finite([each["margin"]])) for each in positions)
        far = sum(self._exceeds(each, limit) for each in positions)
        largest = max((each["error"] for each in positions if each["finite"]), default=None)
        smallest = min((each["cosine"] for each in positions if each["finite"]), default=None)
        bad = nonsense or far

        def judged(outcome: Outcome, reason: str, rate: float | None = None) -> Judgement:
            return Judgement(
                outcome, reason, len(positions), bad, largest, smallest, unit="logit", excluded_rate=rate
            )

        of = f"of {len(positions)} positions"
        if nonsense:
            return judged(Outcome.FALSIFIED, f"{nonsense} {of} have a logit that is not finite")
        if far > parameters.exceeding:
            allowed = f", {parameters.exceeding} may" if parameters.exceeding else ""
            reason = f"{far} {of} exceed the bound{allowed}; largest error {largest:.3g}, least cosine"
            return judged(Outcome.FALSIFIED, f"{reason} {smallest:.6g}")
        if any(compared_with_itself(observation.samples) for observation in observations):
            reason = "target and reference are one implementation: it was compared with itself"
            return judged(Outcome.INCONCLUSIVE, reason)
        compared = [(each.case, len(each.samples["positions"])) for each in observations]
        missing = shortfall(compared, parameters, bound.runs)
        if missing:
            return judged(Outcome.INCONCLUSIVE, missing)
        if far:
            return judged(Outcome.SURVIVED, f"{far} {of} exceed the bound, {parameters.exceeding} may")
        rate = excluded_rate(distinct(case for case, _ in compared), bound.confidence)
        reason = f"the largest error {of} is {largest:.3g} logit, the least cosine {smallest:.9g}"
        return judged(Outcome.SURVIVED, f"{reason}; a rate of bad prompts above {rate:.1%} is excluded", rate)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught once what was seen falsifies: further positions cannot mend it."""
        return self.judge(observations, bound).outcome is Outcome.FALSIFIED

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The largest error and the least cosine, or how many positions miss their bounds."""
        if judgement.point is None or judgement.lower is None:
            return f"nothing finite to compare (≤ {bound.within:g} logit)"
        if self.parameters.exceeding:
            beyond = f"{judgement.violations} of {judgement.n} positions beyond {bound.within:g} logit"
            return f"{beyond} (≤ {self.parameters.exceeding})"
        return (
            f"{judgement.point:.2g} ≤ {bound.within:g} logit, cosine {judgement.lower:.6f}, n={judgement.n}"
        )

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The error of every position."""
        positions = [each for observation in observations for each in observation.samples["positions"]]
        return Drawn([math.nan if each["error"] is None else each["error"] for each in positions], "position")

    def _exceeds(self, position: Mapping[str, Any], bound: float) -> bool:
        """Too large an error or, as no smaller one can give it, another token than a clear choice."""
        if not position["finite"]:
            return True
        if position["chosen"] != position["reference"] and position["margin"] > 2 * bound:
            return True
        alike = self.parameters.cosine <= position["cosine"] <= 1 + _ROUNDING
        return not (alike and within(position["error"], bound))


def _compared(found: "np.ndarray", expected: "np.ndarray") -> dict[str, Any]:
    """What is stored of one position: logits (V,) of either side."""
    import numpy as np  # noqa: PLC0415

    second, first = np.partition(expected, -2)[-2:]
    finite = bool(np.isfinite(found).all())
    reduced: dict[str, Any] = {"error": None, "cosine": None}
    if finite:
        a, b = found.astype(np.float64), expected.astype(np.float64)
        scale = float(np.linalg.norm(a) * np.linalg.norm(b))
        # two rows of zeros are alike, a row of zeros and another one are not
        cosine = float(a @ b) / scale if scale else float(np.array_equal(a, b))
        reduced = {"error": float(np.abs(a - b).max()), "cosine": cosine}
    return {
        **reduced,
        "finite": finite,
        "margin": float(first - second),
        "chosen": int(np.nanargmax(found)) if np.isfinite(found).any() else None,
        "reference": int(expected.argmax()),
    }


def _stored(found: "np.ndarray", expected: "np.ndarray") -> dict[str, Any]:
    """Logits (V,) of either side where they differ most, as little-endian float32 in base64."""
    import numpy as np  # noqa: PLC0415

    error = np.nan_to_num(np.abs(found.astype(np.float64) - expected), nan=np.inf)
    tokens = np.sort(np.argsort(-error, kind="stable")[:_KEPT])
    return {
        "vocabulary": len(found),
        "tokens": None if len(tokens) == len(found) else _base64(tokens.astype("<i4")),
        "found": _base64(found[tokens].astype("<f4")),
        "expected": _base64(expected[tokens].astype("<f4")),
    }


def _base64(values: "np.ndarray") -> str:
    return base64.b64encode(values.tobytes()).decode()


def stored_rows(worst: Mapping[str, Any]) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """Read the worst position again: tokens, the target's logits and the reference's, each (kept,)."""
    import numpy as np  # noqa: PLC0415

    def column(name: str, dtype: str) -> "np.ndarray":
        return np.frombuffer(base64.b64decode(worst[name]), dtype)

    whole = worst["tokens"] is None
    tokens = np.arange(worst["vocabulary"], dtype="<i4") if whole else column("tokens", "<i4")
    return tokens, column("found", "<f4"), column("expected", "<f4")

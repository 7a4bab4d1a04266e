"""The vocabulary: what one falsifier in one run can conclude, and how conclusions become exit codes.

`Outcome` is what `judge` says of samples alone. `Verdict` also weighs the faults that had to be caught,
the known-good control and the host. `Status` is what a gate makes of all records of one claim.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Outcome(StrEnum):
    """What the samples say, before anything is known of faults and controls."""

    SURVIVED = "survived"
    FALSIFIED = "falsified"
    INCONCLUSIVE = "inconclusive"


class Verdict(StrEnum):
    """What one falsifier concluded in one run; only SURVIVED is green."""

    SURVIVED = "survived"
    FALSIFIED = "falsified"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"
    ERROR = "error"
    BLOCKED = "blocked"
    NOT_APPLICABLE = "not-applicable"


class Level(StrEnum):
    """What a record is evidence about; derived from what was attacked, never claimed."""

    FULL_MODEL = "full-model"
    EMBEDDED = "embedded"
    SIMULATED = "simulated"
    OTHER = "other"


class Status(StrEnum):
    """The state of one claim over all its records, worst first."""

    TAMPERED = "tampered"
    FALSIFIED = "falsified"
    INVALID = "invalid"
    ERROR = "error"
    STALE = "stale"
    BLOCKED = "blocked"
    UNOBSERVED = "unobserved"
    INCONCLUSIVE = "inconclusive"
    OPEN = "open"
    WAIVED = "waived"
    DISCHARGED = "discharged"


class Exit(IntEnum):
    """Exit codes of the `refute` command (pytest keeps its own)."""

    OK = 0
    FALSIFIED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INVALID = 4
    MISSING = 5
    INTERNAL = 70
    INTERRUPTED = 130


_PRECEDENCE = (
    Exit.INTERRUPTED,
    Exit.INTERNAL,
    Exit.USAGE,
    Exit.FALSIFIED,
    Exit.INVALID,
    Exit.MISSING,
    Exit.INCONCLUSIVE,
)


def worst_exit(codes: Iterable[Exit]) -> Exit:
    """Return the code that wins where several apply: 130, 70, 2, 1, 4, 5, 3, then 0."""
    present = set(codes)
    return next((code for code in _PRECEDENCE if code in present), Exit.OK)


EXIT_OF_VERDICT: dict[Verdict, Exit] = {
    Verdict.SURVIVED: Exit.OK,
    Verdict.FALSIFIED: Exit.FALSIFIED,
    Verdict.INCONCLUSIVE: Exit.INCONCLUSIVE,
    Verdict.INVALID: Exit.INVALID,
    Verdict.ERROR: Exit.INVALID,
    Verdict.BLOCKED: Exit.MISSING,
    Verdict.NOT_APPLICABLE: Exit.OK,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `judge` derived from the samples; stored beside them and derived again by whoever audits.

    n: samples judged. violations: samples on the wrong side of the bound (or counterexamples).
    point, lower, upper: the estimate and its exact interval in `unit`, where the kind measures.
    excluded_rate: for counterexample claims, the failure rate that n clean cases exclude.
    """

    outcome: Outcome
    reason: str
    n: int
    violations: int
    point: float | None = None
    lower: float | None = None
    upper: float | None = None
    unit: str | None = None
    excluded_rate: float | None = None


def conclude(judgement: Judgement, *, faults_caught: bool, control_green: bool, valid: bool) -> Verdict:
    """Weigh a judgement against its controls.

    A counterexample that replays stays `falsified` even if a fault was missed; everything else needs
    every declared fault caught, the known-good control green and a valid host.
    """
    if not control_green or not valid:
        return Verdict.INVALID
    if judgement.outcome is Outcome.FALSIFIED:
        return Verdict.FALSIFIED
    if not faults_caught:
        return Verdict.INVALID
    return Verdict(judgement.outcome.value)

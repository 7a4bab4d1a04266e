"""Decide on the records whether a change may pass (`pr`) or a release may be made (`release`).

Fail-closed: what was never observed, what was deselected and what nothing is known of count as missing.
A falsifier that does not apply to the embedded model is outside the count only if a real run on that
model said so.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from refute.attempts import Present
from refute.contract import Contract
from refute.kinds import kind_named
from refute.rejudge import Kinds
from refute.status import Claim, Row, reaches, status, worst
from refute.verdict import Exit, Level, Status, Verdict, worst_exit

SCHEMA = "urn:refute:schema:decision:1"
Profile = Literal["pr", "release"]
Outcome = Literal["passes", "outside", "fails"]
PROFILES: tuple[Profile, ...] = ("pr", "release")

EXIT_OF_STATUS: dict[Status, Exit] = {
    Status.TAMPERED: Exit.INVALID,
    Status.FALSIFIED: Exit.FALSIFIED,
    Status.INVALID: Exit.INVALID,
    Status.ERROR: Exit.INVALID,
    Status.STALE: Exit.MISSING,
    Status.BLOCKED: Exit.MISSING,
    Status.UNOBSERVED: Exit.MISSING,
    Status.INCONCLUSIVE: Exit.INCONCLUSIVE,
    Status.OPEN: Exit.MISSING,
    Status.WAIVED: Exit.OK,
    Status.DISCHARGED: Exit.OK,
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate makes of one claim. note: what is shown and does not fail."""

    claim: Claim
    outcome: Outcome
    code: Exit
    reason: str
    command: str
    note: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. reason: why there is nothing to rule on, where there is not."""

    profile: Profile
    code: Exit
    rulings: tuple[Ruling, ...]
    runs: int
    reason: str

    @property
    def passes(self) -> bool:
        """Whether the gate is open."""
        return self.code is Exit.OK

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, "passes": self.passes, **dataclasses.asdict(self)}


def gate(
    contracts: Sequence[Contract],
    trees: Iterable[Path],
    *,
    profile: Profile,
    present: Present | None = None,
    kinds: Kinds = kind_named,
) -> Decision:
    """Decide from records alone."""
    overview = status(contracts, trees, present=present, kinds=kinds)
    if not overview.claims:
        return Decision(profile, Exit.USAGE, (), overview.runs, "the contracts declare no falsifier")
    rulings = tuple(_rule(claim, profile) for claim in overview.claims)
    code = worst_exit(ruling.code for ruling in rulings)
    reason = ""
    if not overview.runs:
        reason = "there are no records at all"
    elif code is Exit.OK and all(ruling.outcome == "outside" for ruling in rulings):
        code, reason = Exit.MISSING, "no falsifier applies: nothing was observed"
    return Decision(profile, code, rulings, overview.runs, reason)


def _rule(claim: Claim, profile: Profile) -> Ruling:
    if claim.status in (Status.TAMPERED, Status.FALSIFIED):
        code = EXIT_OF_STATUS[claim.status]
        return Ruling(claim, "fails", code, claim.reason, claim.command, "")
    embedded = _at(claim, Level.EMBEDDED, [row for row in claim.rows if row.level is Level.EMBEDDED])
    if embedded.outcome == "fails" or profile == "pr" or claim.discharge is Level.EMBEDDED:
        return embedded
    wanted = [row for row in claim.rows if reaches(row.level, claim.discharge)]
    return _at(claim, claim.discharge, wanted)


def _at(claim: Claim, level: Level, rows: Sequence[Row]) -> Ruling:
    """Rule on what is known at one level, whatever the claim's other rows say."""
    note = "" if claim.status is Status.DISCHARGED else f"{claim.discharge}: {_full(claim)}"
    counting = [row for row in rows if row.holds]
    if level is not Level.EMBEDDED:
        counting = [row for row in counting if row.status is Status.DISCHARGED]
    if counting:
        return Ruling(claim, "passes", Exit.OK, "", "", note)
    fresh = [row for row in rows if row.status is not Status.STALE]
    if fresh and all(row.verdict is Verdict.NOT_APPLICABLE for row in fresh):
        return Ruling(claim, "outside", Exit.OK, f"does not apply: {fresh[0].reason}", "", note)
    command = claim.command or f"refute run -k {claim.falsifier}"
    if level is Level.EMBEDDED:
        command = command.partition(" --model ")[0]
    found = worst(row.status for row in fresh or rows)
    if found is None:
        blocked = [row for row in claim.rows if row.status is Status.BLOCKED]
        found = Status.BLOCKED if blocked else Status.UNOBSERVED
        reason = blocked[0].reason if blocked else f"no record at level {level}"
    else:
        reason = next(row.reason for row in fresh or rows if row.status is found)
    return Ruling(claim, "fails", EXIT_OF_STATUS[found], f"{found}: {reason}", command, note)


def _full(claim: Claim) -> str:
    """How the claim stands at the level that discharges it."""
    rows = [row for row in claim.rows if reaches(row.level, claim.discharge)]
    return str(worst(row.status for row in rows) or Status.OPEN)

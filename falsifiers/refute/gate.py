"""Decide on the records whether a change may pass (`pr`) or a release may be made (`release`).

Fail-closed: what was never observed, what was deselected and what nothing is known of count as missing.
A falsifier that does not apply to the embedded model is outside the count only if a real run on that
model said so. What a project's policy asks for besides (age, testbeds, signatures) can only keep evidence
from counting; a waiver lets a claim pass that fails, as far as it covers what blocks it.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from refute.attempts import Attempts, Present, read_attempts
from refute.clearing import attacking, on_embedded
from refute.contract import Contract
from refute.counting import Counting
from refute.kinds import kind_named
from refute.policy import PROFILES, Policy, Profile, no_policy
from refute.rejudge import Kinds
from refute.rows import Row, is_testbed, reaches
from refute.status import Claim, overview, waives, worst
from refute.verdict import Exit, Level, Status, Verdict, worst_exit

__all__ = ["PROFILES", "Decision", "Profile", "Ruling", "gate"]

SCHEMA = "urn:refute:schema:decision:1"
Outcome = Literal["passes", "waived", "outside", "fails"]

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
    """What the gate makes of one claim. status: what blocks it, if anything does.

    command: what clears that, after the remedy, if there is one. note: what is shown and does not fail.
    """

    claim: Claim
    outcome: Outcome
    code: Exit
    status: Status | None
    reason: str
    command: str
    remedy: str
    note: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a decision rests on, so that it can be made again. now: RFC 3339.

    contracts: sha256 of their files, by id. evidence: one sha256 over the digests of all runs, in order.
    """

    now: str
    policy_sha256: str
    contracts: dict[str, str]
    evidence_sha256: str
    engine_digest: str | None
    embedded_sha256: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. reason: why there is nothing to rule on, where there is not.

    unused: what the policy says of claims and runs that are not here.
    """

    profile: Profile
    code: Exit
    rulings: tuple[Ruling, ...]
    runs: int
    reason: str
    unused: tuple[str, ...]
    inputs: Inputs

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
    policy: Policy | None = None,
    now: datetime | None = None,
) -> Decision:
    """Decide from records and policy alone, as of `now`."""
    present = present or Present.here()
    attempts = read_attempts(contracts, trees, present=present, kinds=kinds, samples=False)
    return decide(contracts, attempts, profile=profile, present=present, policy=policy, now=now)


def decide(
    contracts: Sequence[Contract],
    attempts: Attempts,
    *,
    profile: Profile,
    present: Present,
    policy: Policy | None = None,
    now: datetime | None = None,
) -> Decision:
    """Decide from what was read."""
    policy = policy or no_policy()
    now = (now or datetime.now(UTC)).astimezone(UTC)
    found = overview(contracts, attempts, policy=policy, now=now)
    rule = _Rule(profile, policy, now)
    rulings = tuple(rule.on(claim) for claim in found.claims)
    code, reason = worst_exit(ruling.code for ruling in rulings), ""
    if not rulings:
        code, reason = Exit.USAGE, "the contracts declare no falsifier"
    elif not found.runs:
        code, reason = worst_exit((code, Exit.MISSING)), "there are no records at all"
    elif code is Exit.OK and all(ruling.outcome != "passes" for ruling in rulings):
        code, reason = (
            Exit.MISSING,
            "no claim was seen to hold: they do not apply or are waived",
        )
    inputs = Inputs(
        now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        policy.sha256,
        {contract.id: contract.bytes_sha256 for contract in contracts},
        _digest(attempts),
        present.engine_digest,
        present.embedded_sha256,
    )
    return Decision(profile, code, rulings, found.runs, reason, found.unused, inputs)


def _digest(attempts: Attempts) -> str:
    """One digest of all that was read."""
    return hashlib.sha256("\n".join(attempts.digests).encode()).hexdigest()


class _Rule:
    """One profile under one policy, at one time."""

    def __init__(self, profile: Profile, policy: Policy, now: datetime) -> None:
        self._profile = profile
        self._now = now
        self._counting = Counting(profile, policy, now)
        self._waivers = {waiver.claim: waiver for waiver in policy.waivers}

    def on(self, claim: Claim) -> Ruling:
        """Rule on one claim, then see whether a waiver covers what blocks it."""
        ruling = self._unwaived(claim)
        waiver = self._waivers.get(claim.name)
        today = self._now.date().isoformat()
        if ruling.status is None or waiver is None or not waives(waiver, ruling.status, today):
            return ruling
        reason = f"{waiver}; {ruling.reason}"
        return dataclasses.replace(ruling, outcome="waived", code=Exit.OK, reason=reason)

    def _unwaived(self, claim: Claim) -> Ruling:
        state = claim.unwaived
        if state in (Status.TAMPERED, Status.FALSIFIED):
            reason = next((row.reason for row in claim.rows if row.status is state), claim.reason)
            reason = claim.reason if state is Status.TAMPERED else reason
            cure = (claim.command, claim.remedy)
            return Ruling(claim, "fails", EXIT_OF_STATUS[state], state, reason, *cure, "")
        everywhere = self._profile == "release" and claim.discharge is not Level.EMBEDDED
        embedded = [row for row in claim.rows if row.level is Level.EMBEDDED]
        testbeds = self._counting.wants.testbeds
        first = self._at(claim, Level.EMBEDDED, embedded, {} if everywhere else testbeds)
        if first.outcome == "fails" or not everywhere:
            return first
        rows = [row for row in claim.rows if reaches(row.level, claim.discharge)]
        return self._at(claim, claim.discharge, rows, testbeds)

    def _at(self, claim: Claim, level: Level, rows: Sequence[Row], testbeds: Mapping[str, str]) -> Ruling:
        """Rule on what is known at one level, whatever the claim's other rows say. testbeds: all it needs."""
        state = claim.unwaived
        note = "" if state is Status.DISCHARGED else f"{claim.discharge}: {_full(claim)}"
        command, remedy = claim.command or attacking((), [claim.falsifier]), claim.remedy
        if level is Level.EMBEDDED:
            command, remedy = on_embedded(command), ""  # any host will do
        counting = [row for row in rows if row.holds]
        if level is not Level.EMBEDDED:
            counting = [row for row in counting if row.status is Status.DISCHARGED]
        refused = [self._counting.refuses(row) for row in counting]
        able = [row for row, refusal in zip(counting, refused, strict=True) if refusal is None]
        fresh = [row for row in rows if row.status is not Status.STALE]
        if able:
            lacking = [
                name
                for name, fingerprint in testbeds.items()
                if not any(is_testbed(fingerprint, row.testbed) for row in able)
            ]
            if not lacking:
                return Ruling(claim, "passes", Exit.OK, None, "", "", "", note)
            found, reason = Status.UNOBSERVED, f"nothing that counts on testbed {', '.join(lacking)}"
        elif refused and refused[-1] is not None:
            found, reason = refused[-1].status, refused[-1].reason
            command = refused[-1].command or command
        elif fresh and all(row.verdict is Verdict.NOT_APPLICABLE for row in fresh):
            return Ruling(claim, "outside", Exit.OK, None, f"does not apply: {fresh[0].reason}", "", "", note)
        else:
            found, reason = _blocking(claim, level, fresh or rows)
        told = f"{found}: {reason}"
        return Ruling(claim, "fails", EXIT_OF_STATUS[found], found, told, command, remedy, note)


def _blocking(claim: Claim, level: Level, rows: Sequence[Row]) -> tuple[Status, str]:
    """The worst of some rows, and why."""
    found = worst(row.status for row in rows)
    if found is not None:
        return found, next(row.reason for row in rows if row.status is found)
    blocked = [row for row in claim.rows if row.status is Status.BLOCKED]
    if blocked:
        return Status.BLOCKED, blocked[0].reason
    return Status.UNOBSERVED, f"no record at level {level}"


def _full(claim: Claim) -> str:
    """How the claim stands at the level that discharges it."""
    rows = [row for row in claim.rows if reaches(row.level, claim.discharge)]
    return str(worst(row.status for row in rows) or Status.OPEN)

"""Decide on the records whether a change may pass (`pr`) or a release may be made (`release`).

Fail-closed: what was never observed, what was deselected and what nothing is known of count as missing.
A falsifier that does not apply to the embedded model is outside the count only if a real run on that
model said so. What a project's policy asks for besides (age, testbeds, signatures) can only keep evidence
from counting; a waiver lets a claim pass that fails, as far as it covers what blocks it.
"""

import dataclasses
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from refute.attempts import Attempts, Present, read_attempts
from refute.clearing import attacking, on_embedded
from refute.contract import Contract
from refute.kinds import kind_named
from refute.policy import PROFILES, Policy, Profile, ProfilePolicy, no_policy
from refute.rejudge import Kinds
from refute.rows import Row, is_testbed, reaches
from refute.status import Claim, overview, waives, worst
from refute.verdict import Exit, Level, Status, Verdict, worst_exit

__all__ = ["PROFILES", "Decision", "Profile", "Ruling", "gate"]

SCHEMA = "urn:refute:schema:decision:1"
Outcome = Literal["passes", "waived", "outside", "fails"]
_AHEAD = timedelta(days=1)  # how far the clocks of two hosts may be apart

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
        self._besides = policy.of(profile)
        self._waivers = {waiver.claim: waiver for waiver in policy.waivers}
        self._signatures = _Signatures(policy) if self._besides.signatures else None

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
        wanted = dataclasses.replace(self._besides, testbeds={}) if everywhere else self._besides
        first = self._at(claim, Level.EMBEDDED, embedded, wanted)
        if first.outcome == "fails" or not everywhere:
            return first
        rows = [row for row in claim.rows if reaches(row.level, claim.discharge)]
        return self._at(claim, claim.discharge, rows, self._besides)

    def _at(self, claim: Claim, level: Level, rows: Sequence[Row], wanted: ProfilePolicy) -> Ruling:
        """Rule on what is known at one level, whatever the claim's other rows say."""
        state = claim.unwaived
        note = "" if state is Status.DISCHARGED else f"{claim.discharge}: {_full(claim)}"
        command, remedy = claim.command or attacking((), [claim.falsifier]), claim.remedy
        if level is Level.EMBEDDED:
            command, remedy = on_embedded(command), ""  # any host will do
        counting = [row for row in rows if row.holds]
        if level is not Level.EMBEDDED:
            counting = [row for row in counting if row.status is Status.DISCHARGED]
        refused = {row: self._refused(row, wanted) for row in counting}
        able = [row for row in counting if refused[row] is None]
        fresh = [row for row in rows if row.status is not Status.STALE]
        if able:
            lacking = [
                name
                for name, fingerprint in wanted.testbeds.items()
                if not any(is_testbed(fingerprint, row.testbed) for row in able)
            ]
            if not lacking:
                return Ruling(claim, "passes", Exit.OK, None, "", "", "", note)
            found, reason = Status.UNOBSERVED, f"nothing that counts on testbed {', '.join(lacking)}"
        elif counting:
            found, reason = refused[counting[-1]] or (Status.UNOBSERVED, "")
            command = self._signing(counting[-1], reason) or command
        elif fresh and all(row.verdict is Verdict.NOT_APPLICABLE for row in fresh):
            return Ruling(claim, "outside", Exit.OK, None, f"does not apply: {fresh[0].reason}", "", "", note)
        else:
            found, reason = _blocking(claim, level, fresh or rows)
        told = f"{found}: {reason}"
        return Ruling(claim, "fails", EXIT_OF_STATUS[found], found, told, command, remedy, note)

    def _refused(self, row: Row, wanted: ProfilePolicy) -> tuple[Status, str] | None:
        """What a row counts as, that does not count, and why; None of one that does."""
        old = self._too_old(row, wanted)
        if old:
            return Status.STALE, old
        unsigned = "" if self._signatures is None else self._signatures.missing(row)
        return (Status.UNOBSERVED, unsigned) if unsigned else None

    def _signing(self, row: Row, reason: str) -> str:
        """What clears a row that lacks nothing but a signature; empty where that is not so."""
        if self._signatures is None or not self._signatures.usable or reason != self._signatures.missing(row):
            return ""
        return f"{shlex.join(['refute', 'sign', row.path])} --key KEY"

    def _too_old(self, row: Row, wanted: ProfilePolicy) -> str:
        """Why a row's age rules it out; empty if it does not."""
        if wanted.max_age_days is None:
            return ""
        try:
            age = self._now - datetime.fromisoformat(row.started)
        except ValueError:  # a leap second is a time to the schema
            return f"run {row.run} started at {row.started}, which is no time here"
        if age < -_AHEAD:
            return f"run {row.run} says it started {-age.days} days from now"
        if age <= timedelta(days=wanted.max_age_days):
            return ""
        return f"run {row.run} is {age.days} days old; {self._profile} wants at most {wanted.max_age_days}"


class _Signatures:
    """Which runs one of a policy's keys signed; each envelope is verified once."""

    def __init__(self, policy: Policy) -> None:
        from refute.signing import SigningError, load_public_key  # noqa: PLC0415 (only where it is asked for)

        self._known: dict[str, str] = {}
        self._broken = ""
        try:
            self._keys = [load_public_key(path) for path in policy.keys.values()]
        except SigningError as error:
            self._broken = str(error)

    @property
    def usable(self) -> bool:
        """Whether they can be checked at all."""
        return not self._broken

    def missing(self, row: Row) -> str:
        """Why the run of a row counts as unsigned; empty if it is signed."""
        from refute.signing import SigningError, verify  # noqa: PLC0415

        if self._broken:
            return f"signatures cannot be checked: {self._broken}"
        if row.path not in self._known:
            try:
                verify(Path(row.path), self._keys)
                self._known[row.path] = ""
            except SigningError as error:
                self._known[row.path] = f"its run is not signed as it has to be: {error}"
        return self._known[row.path]


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

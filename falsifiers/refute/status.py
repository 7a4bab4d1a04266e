"""What all records together say of each claim: computed from the records alone, never typed, never cached.

The rows of one falsifier (see `rows`) make its `Claim`. Where a waiver covers what blocks it, the claim is
`waived`, and says by whom, why and until when.
"""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refute.attempts import RANK, Attempts, Key, Present, read_attempts
from refute.clearing import cure
from refute.contract import Contract
from refute.kinds import kind_named
from refute.policy import WORST_FIRST, Policy, Waiver, no_policy
from refute.reader import Discrepancy
from refute.rejudge import Kinds
from refute.rows import Ground, Row
from refute.verdict import Level, Status, Verdict

SCHEMA = "urn:refute:schema:status:1"


@dataclass(frozen=True, slots=True)
class Claim:
    """One falsifier over all its rows.

    level: the highest at which it holds. verdict, figure: of the newest run. reason: why it is not
    discharged; command: what clears that, once the remedy is done, if there is one; empty where it is.
    waiver: the one that makes it `waived`, and beneath: its status without. flags: what somebody decided or
    moved, and has to be seen.
    """

    contract: str
    falsifier: str
    alias: str | None
    claim: str
    discharge: Level
    status: Status
    level: Level | None
    verdict: Verdict | None
    figure: str
    reason: str
    command: str
    remedy: str
    rows: tuple[Row, ...]
    waiver: Waiver | None
    beneath: Status | None
    flags: tuple[str, ...]
    discrepancies: tuple[Discrepancy, ...]

    @property
    def name(self) -> str:
        """`CONTRACT/FALSIFIER`, as needs and policies name it."""
        return f"{self.contract}/{self.falsifier}"

    @property
    def unwaived(self) -> Status:
        """Its status, whatever is waived."""
        return self.beneath or self.status


@dataclass(frozen=True, slots=True)
class Overview:
    """All claims, in the order of their contracts. runs: read.

    unclaimed: runs of no contract given. unused: what the policy says of claims and runs that are not here.
    """

    claims: tuple[Claim, ...]
    runs: int
    unclaimed: tuple[str, ...]
    unused: tuple[str, ...]

    def of(self, contracts: Collection[str]) -> "Overview":
        """The claims of some contracts alone; their needs may be of others."""
        kept = tuple(claim for claim in self.claims if claim.contract in contracts)
        return dataclasses.replace(self, claims=kept)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def status(
    contracts: Sequence[Contract],
    trees: Iterable[Path],
    *,
    present: Present | None = None,
    kinds: Kinds = kind_named,
    policy: Policy | None = None,
    now: datetime | None = None,
) -> Overview:
    """Read every record under the trees once and compute the status of every claim.

    now: which waivers count is decided on its day.
    """
    present = present or Present.here()
    attempts = read_attempts(contracts, trees, present=present, kinds=kinds, samples=False)
    return overview(contracts, attempts, policy=policy, now=now)


def overview(
    contracts: Sequence[Contract],
    attempts: Attempts,
    *,
    policy: Policy | None = None,
    now: datetime | None = None,
) -> Overview:
    """Compute the status of every claim from what was read."""
    policy = policy or no_policy()
    today = (now or datetime.now(UTC)).astimezone(UTC).date().isoformat()
    ground = Ground(contracts, attempts, policy)
    waivers = {waiver.claim: waiver for waiver in policy.waivers}
    claims = tuple(_waived(_claim(key, ground), waivers, today) for key in ground.declared)
    return Overview(claims, attempts.runs, attempts.unclaimed, tuple(_unused(ground, policy)))


def _unused(ground: Ground, policy: Policy) -> Iterator[str]:
    declared = {"/".join(key) for key in ground.declared}
    for waiver in policy.waivers:
        if waiver.claim not in declared:
            yield f"a waiver of {waiver.claim}, which no contract here declares"
    for each in policy.invalidations:
        contract, _, falsifier = each.claim.partition("/")
        known = (attempt for attempt, _ in ground.invalidated.get((contract, falsifier), ()))
        if not any(each.run in (attempt.run, attempt.finding.run) for attempt in known):
            yield f"an invalidation of {each.claim} in run {each.run}, which is not here"


def waives(waiver: Waiver | None, state: Status, today: str) -> bool:
    """Whether a waiver counts on a day (ISO 8601) for a claim in this status."""
    return waiver is not None and today <= waiver.expires and waiver.covers(state)


def _waived(claim: Claim, waivers: Mapping[str, Waiver], today: str) -> Claim:
    """Apply the waiver of a claim, if there is one; one that does not count is said."""
    waiver = waivers.get(claim.name)
    if waiver is None or claim.status is Status.DISCHARGED:
        return claim
    if waives(waiver, claim.status, today):
        reason = f"{waiver}; it is {claim.status}: {claim.reason}"
        return dataclasses.replace(
            claim, status=Status.WAIVED, reason=reason, waiver=waiver, beneath=claim.status
        )
    why = f"covers nothing worse than {waiver.up_to}" if today <= waiver.expires else "has expired"
    return dataclasses.replace(claim, flags=(*claim.flags, f"a waiver that {why}: {waiver}"))


def _claim(key: Key, ground: Ground) -> Claim:
    contract, falsifier = ground.declared[key]
    everything, counting = ground.attempts.of.get(key, ()), ground.counting(key)
    newest = counting[-1] if counting else None
    # A run without a target knows no model; once the falsifier was attacked after it, it says nothing more.
    rows = [row for row in ground.rows(key) if row.engine or newest is None or row.run == newest.run]
    decisive = _decisive(rows)
    discrepancies = (
        *ground.attempts.spoilt.get(key, ()),
        *(found for attempt in everything for found in attempt.discrepancies),
    )
    if discrepancies:
        state, reason = Status.TAMPERED, str(discrepancies[0])
    elif decisive is None:
        told = "every attempt was invalidated" if everything else "no run has given a verdict yet"
        state, reason = Status.UNOBSERVED, told
    else:
        state, reason = decisive.status, decisive.reason
    behind = next((each for each in counting if decisive is not None and each.run == decisive.run), None)
    moved = (flag for row in rows for flag in row.flags)
    taken_out = (str(invalidation) for _, invalidation in ground.invalidated[key])
    cured = cure(
        contract,
        falsifier,
        state,
        reason,
        declared=ground.declared,
        behind=behind,
        discrepancies=discrepancies,
    )
    return Claim(
        contract=contract.id,
        falsifier=falsifier.id,
        alias=falsifier.alias,
        claim=falsifier.claim,
        discharge=falsifier.discharge,
        status=state,
        level=max((row.level for row in rows if row.holds and row.level), key=RANK.__getitem__, default=None),
        verdict=newest.verdict if newest else None,
        figure=newest.carried.figure if newest else "",
        reason=reason,
        command=cured.command,
        remedy=cured.remedy,
        rows=tuple(rows),
        waiver=None,
        beneath=None,
        flags=tuple(dict.fromkeys((*moved, *taken_out))),
        discrepancies=discrepancies,
    )


def _decisive(rows: Sequence[Row]) -> Row | None:
    """The row that gives a claim its status.

    Tampered and falsified anywhere come first; then one discharged row is enough; then the worst of what
    is fresh, and stale only where nothing is. Among equals, what does not apply says least.
    """
    refuted = [row for row in rows if row.status in (Status.TAMPERED, Status.FALSIFIED)]
    discharged = [row for row in rows if row.status is Status.DISCHARGED]
    fresh = [row for row in rows if row.status is not Status.STALE]
    for choice in (refuted, discharged, fresh, rows):
        if choice:
            return min(
                choice, key=lambda row: (WORST_FIRST[row.status], row.verdict is Verdict.NOT_APPLICABLE)
            )
    return None


def worst(statuses: Iterable[Status]) -> Status | None:
    """Return the worst status; None of none."""
    return min(statuses, key=WORST_FIRST.__getitem__, default=None)


def by_status(claims: Iterable[Claim]) -> Mapping[Status, int]:
    """Count claims by status, worst first."""
    counts: dict[Status, int] = dict.fromkeys(Status, 0)
    for claim in claims:
        counts[claim.status] += 1
    return {each: count for each, count in counts.items() if count}

"""What all records together say of each claim: computed from the records alone, never typed, never cached.

Attempts are grouped by falsifier, engine, model and testbed (a `Row`); the rows of one falsifier make its
`Claim`. Every attempt counts: on one engine, contract and rule a falsified attempt is not undone by
later green ones. Changing any of them starts anew, and until then the row is stale.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.attempts import RANK, Attempt, Attempts, Key, Present, read_attempts
from refute.contract import Contract, Falsifier
from refute.kinds import kind_named
from refute.reader import Discrepancy
from refute.rejudge import Kinds
from refute.verdict import Level, Status, Verdict

SCHEMA = "urn:refute:schema:status:1"
_WORST_FIRST = {status: place for place, status in enumerate(Status)}
_FINGERPRINT_DIGITS = 12
Group = Sequence[Attempt]  # never empty, in the order of their runs


@dataclass(frozen=True, slots=True)
class Row:
    """One falsifier on one engine, model and testbed.

    holds: it freshly survived, and so did its needs at the same level. verdict, figure, run: of the
    attempt that gives the row its status. testbed: a fingerprint. flags: how the bar was moved after a
    falsification.
    """

    engine: str
    engine_digest: str
    model_name: str
    model: str
    testbed: str
    level: Level | None
    status: Status
    holds: bool
    verdict: Verdict
    figure: str
    run: str
    attempts: int
    reason: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """One falsifier over all its rows.

    level: the highest at which it holds. verdict, figure: of the newest run. reason: why it is not
    discharged, and command: what clears that; both empty where it is.
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
    rows: tuple[Row, ...]
    flags: tuple[str, ...]
    discrepancies: tuple[Discrepancy, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """All claims, in the order of their contracts. runs: read. unclaimed: runs of no contract given."""

    claims: tuple[Claim, ...]
    runs: int
    unclaimed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def status(
    contracts: Sequence[Contract],
    trees: Iterable[Path],
    *,
    present: Present | None = None,
    kinds: Kinds = kind_named,
) -> Overview:
    """Read every record under the trees once and compute the status of every claim."""
    return overview(
        contracts, read_attempts(contracts, trees, present=present or Present.here(), kinds=kinds)
    )


def overview(contracts: Sequence[Contract], attempts: Attempts) -> Overview:
    """Compute the status of every claim from what was read."""
    ground = _Ground(contracts, attempts)
    claims = tuple(_claim(key, ground) for key in ground.declared)
    return Overview(claims, attempts.runs, attempts.unclaimed)


def reaches(level: Level | None, wanted: Level) -> bool:
    """Whether evidence of one level discharges what wants another; `other` never does."""
    return level is not None and level is not Level.OTHER and RANK[level] >= RANK[wanted]


class _Ground:
    """All attempts on all declared falsifiers, grouped, and whether their needs hold."""

    def __init__(self, contracts: Sequence[Contract], attempts: Attempts) -> None:
        self.declared = {(each.id, own.id): (each, own) for each in contracts for own in each.falsifiers}
        self.attempts = attempts
        # By falsifier, then by engine and model, then by testbed.
        self.groups: dict[Key, dict[tuple[str, str], dict[str, list[Attempt]]]] = {}
        for key in self.declared:
            groups: dict[tuple[str, str], dict[str, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
            for attempt in attempts.of.get(key, ()):
                groups[attempt.engine, attempt.model][attempt.testbed].append(attempt)
            self.groups[key] = groups
        self._survived: dict[tuple[Key, str, str, str, Level], bool] = {}

    def unmet(self, falsifier: Falsifier, like: Attempt) -> str:
        """The first need of a falsifier that does not hold where `like` was observed; empty if all do.

        The same build of the engine must have survived it on the same model, at the same level, on
        any testbed.
        """
        for need in falsifier.needs:
            contract, _, name = need.partition("/")
            if not self._survives((contract, name), like):
                return need
        return ""

    def _survives(self, key: Key, like: Attempt) -> bool:
        if key not in self.declared or self.attempts.spoilt.get(key):
            return False
        place = (key, like.engine, like.model, like.build, like.level)
        if place not in self._survived:
            self._survived[place] = False  # a cycle of needs never holds
            testbeds = self.groups[key].get((like.engine, like.model), {})
            states = [_state(group) for group in testbeds.values()]
            green = any(
                state is Status.OPEN
                and each.verdict is Verdict.SURVIVED
                and (each.build, each.level) == (like.build, like.level)
                and not self.unmet(self.declared[key][1], each)
                for state, each, _ in states
            )
            refuted = any(state in (Status.TAMPERED, Status.FALSIFIED) for state, _, _ in states)
            self._survived[place] = green and not refuted
        return self._survived[place]


def _state(group: Group) -> tuple[Status, Attempt, str]:
    """Status of one group before needs and levels, the attempt that decides it, and why.

    A fresh survival, and a fresh finding that the claim does not apply, come out as `open`.
    """
    for attempt in group:
        if attempt.discrepancies:
            return Status.TAMPERED, attempt, str(attempt.discrepancies[0])
    current = [attempt for attempt in group if not attempt.stale]
    if not current:
        newest = group[-1]
        before = ", and was falsified then" if newest.verdict is Verdict.FALSIFIED else ""
        return Status.STALE, newest, newest.stale + before
    # An engine that refute does not ship has no digest to compare with here: its newest build counts.
    current = [attempt for attempt in current if attempt.build == current[-1].build]
    refuted = [attempt for attempt in current if attempt.verdict is Verdict.FALSIFIED]
    attacked = [attempt for attempt in current if attempt.attacked]
    decisive = (refuted or attacked or current)[-1]
    verdict = decisive.verdict
    green = verdict in (Verdict.SURVIVED, Verdict.NOT_APPLICABLE)
    return Status.OPEN if green else Status(verdict.value), decisive, decisive.carried.reason


def _row(falsifier: Falsifier, group: Group, ground: _Ground) -> Row:
    state, decisive, reason = _state(group)
    finding, level = decisive.finding, decisive.level
    unmet = ""
    survived = state is Status.OPEN and decisive.verdict is Verdict.SURVIVED
    if survived:
        unmet = ground.unmet(falsifier, decisive)
        testbeds = falsifier.bound.testbeds
        if unmet:
            reason = f"needs {unmet}, which has not survived on this engine and model"
        elif not reaches(level, falsifier.discharge):
            reason = f"survived at level {level}; {falsifier.discharge} discharges it"
        elif testbeds and not any(_is_testbed(name, decisive.testbed) for name in testbeds):
            reason = f"survived on testbed {decisive.testbed[:12]}; the bound names {', '.join(testbeds)}"
        else:
            state, reason = Status.DISCHARGED, ""
    return Row(
        engine=decisive.engine,
        engine_digest=decisive.build,
        model_name=str(finding.target.get("model_name", "")),
        model=decisive.model,
        testbed=decisive.testbed,
        level=level if decisive.engine else None,
        status=state,
        holds=survived and not unmet,
        verdict=decisive.verdict,
        figure=decisive.carried.figure,
        run=decisive.run,
        attempts=len(group),
        reason=reason,
        flags=_flags(group, decisive),
    )


def _flags(group: Group, decisive: Attempt) -> tuple[str, ...]:
    """How the contract changed after it was falsified, by a build that counts, oldest first."""
    flagged = (
        f"{attempt.carried.flag} (run {attempt.run})"
        for attempt in group
        if attempt.carried.flag and attempt.build == decisive.build
    )
    return tuple(dict.fromkeys(flagged))


def _is_testbed(name: str, fingerprint: str) -> bool:
    """Whether a contract's testbed is this one: `any`, or at least 12 first digits of a fingerprint."""
    return name == "any" or (len(name) >= _FINGERPRINT_DIGITS and fingerprint.startswith(name))


def _claim(key: Key, ground: _Ground) -> Claim:
    contract, falsifier = ground.declared[key]
    everything = ground.attempts.of.get(key, ())
    newest = everything[-1] if everything else None
    rows = [
        _row(falsifier, group, ground)
        for testbeds in ground.groups[key].values()
        for group in testbeds.values()
    ]
    # A run without a target knows no model; once the falsifier was attacked after it, it says nothing more.
    rows = [row for row in rows if row.engine or newest is None or row.run == newest.run]
    decisive = _decisive(rows)
    discrepancies = (
        *ground.attempts.spoilt.get(key, ()),
        *(found for attempt in everything for found in attempt.discrepancies),
    )
    state = Status.UNOBSERVED if decisive is None else decisive.status
    reason = "no run has given a verdict yet" if decisive is None else decisive.reason
    if discrepancies:
        state, reason = Status.TAMPERED, str(discrepancies[0])
    behind = next((each for each in everything if decisive is not None and each.run == decisive.run), None)
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
        command=_command(contract, falsifier, state, reason, behind=behind, discrepancies=discrepancies),
        rows=tuple(rows),
        flags=tuple(dict.fromkeys(flag for row in rows for flag in row.flags)),
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
                choice, key=lambda row: (_WORST_FIRST[row.status], row.verdict is Verdict.NOT_APPLICABLE)
            )
    return None


def _command(
    contract: Contract,
    falsifier: Falsifier,
    state: Status,
    reason: str,
    *,
    behind: Attempt | None,
    discrepancies: Sequence[Discrepancy],
) -> str:
    """The command that clears the first blocking reason; empty where nothing is to be done."""
    run = f"refute run {contract.path} -k {falsifier.id}"
    if state is Status.DISCHARGED:
        return ""
    if state is Status.TAMPERED:
        return f"git log --stat -- {discrepancies[0].where}"
    if state is Status.FALSIFIED and behind is not None and behind.finding.counterexample is not None:
        return f"refute replay {behind.path / falsifier.id}.json"
    if state is Status.OPEN:
        need = next((need for need in falsifier.needs if f"needs {need}," in reason), None)
        if need is not None:
            return f"refute run -k {need.partition('/')[2]}"
        if falsifier.discharge is Level.FULL_MODEL:
            return f"{run} --model {contract.model.name}.gguf"
    return run


def worst(statuses: Iterable[Status]) -> Status | None:
    """Return the worst status; None of none."""
    return min(statuses, key=_WORST_FIRST.__getitem__, default=None)


def by_status(claims: Iterable[Claim]) -> Mapping[Status, int]:
    """Count claims by status, worst first."""
    counts: dict[Status, int] = dict.fromkeys(Status, 0)
    for claim in claims:
        counts[claim.status] += 1
    return {each: count for each, count in counts.items() if count}

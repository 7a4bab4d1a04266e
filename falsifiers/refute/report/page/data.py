"""What a report shows, as frozen plain data: written by `gather`, read by templates and by `markdown`."""

from collections.abc import Mapping
from dataclasses import dataclass

from refute.report.page.pictures import Cases, History, Strip
from refute.report.page.traces import Trace
from refute.verdict import Level, Status, Verdict

Pair = tuple[str, str]  # a name and what it is, as people read them


@dataclass(frozen=True, slots=True)
class Problem:
    """What an audit found. claim: the anchor of the claim that it concerns; empty where it is a whole run."""

    rule: str
    severity: str
    where: str
    pointer: str
    found: str
    expected: str
    claim: str
    name: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What an audit wants to be known and is no error: a rule, how often, and where first."""

    rule: str
    severity: str
    times: int
    where: str
    found: str
    expected: str


@dataclass(frozen=True, slots=True)
class Dose:
    """One dose of a fault that was tried. must: the contract demands that it is caught."""

    written: str
    must: bool
    caught: bool
    reason: str


@dataclass(frozen=True, slots=True)
class FaultPart:
    """One fault that a falsifier must catch, and what became of it at every dose."""

    name: str
    breaks: str
    planted: str
    doses: tuple[Dose, ...]
    caught: bool
    smallest: str


@dataclass(frozen=True, slots=True)
class CounterexamplePart:
    """The case that refutes. replays: what came out when it was run once more."""

    case: tuple[Pair, ...]
    gave: tuple[Pair, ...]
    replays: str
    command: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """One attempt in full. picture: None where `undrawn` says why there is none."""

    run: str
    verdict: Verdict
    reason: str
    figure: str
    picture: Strip | Cases | None
    undrawn: str
    samples: str
    control: str
    faults: tuple[FaultPart, ...]
    counterexample: CounterexamplePart | None
    engine: str
    model: str
    testbed: str
    facts: tuple[Pair, ...]
    file: str
    command: str


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt in a list of them. note: why it does not count, where it does not."""

    run: str
    verdict: Verdict
    figure: str
    level: str
    model: str
    testbed: str
    note: str


@dataclass(frozen=True, slots=True)
class RowLine:
    """A claim on one engine, model and testbed. picture: all rows of a claim have one line."""

    engine: str
    model: str
    testbed: str
    level: str
    status: Status
    verdict: Verdict
    figure: str
    attempts: int
    run: str
    reason: str
    picture: Strip | None


@dataclass(frozen=True, slots=True)
class Need:
    """Another claim that has to hold first. anchor: empty where this report does not show it."""

    name: str
    anchor: str


@dataclass(frozen=True, slots=True)
class ClaimPart:
    """One claim. evidence: the attempt that gives it its status; None where there is none.

    beneath: the status without a waiver, where there is one. notes: what a reader has to know beside the
    status, such as a bound that was loosened.
    earlier: attempts that are not listed. words: what a search looks at.
    """

    anchor: str
    contract: str
    falsifier: str
    alias: str
    sentence: str
    kind: str
    bound: str
    status: Status
    beneath: Status | None
    level: Level | None
    discharge: Level
    verdict: Verdict | None
    figure: str
    reason: str
    command: str
    remedy: str
    notes: tuple[str, ...]
    needs: tuple[Need, ...]
    caught: str
    history: History
    evidence: Evidence | None
    rows: tuple[RowLine, ...]
    attempts: tuple[AttemptLine, ...]
    earlier: int
    problems: tuple[Problem, ...]
    words: str


@dataclass(frozen=True, slots=True)
class ContractPart:
    """One contract with its claims."""

    anchor: str
    id: str
    version: str
    title: str
    description: str
    path: str
    model: str
    inside: tuple[str, ...]
    outside: tuple[str, ...]
    references: tuple[str, ...]
    counts: tuple[tuple[Status, int], ...]
    claims: tuple[ClaimPart, ...]


@dataclass(frozen=True, slots=True)
class Blocker:
    """One reason why claims are not discharged, and what clears it for all of them: remedy, then command.

    command: empty where no single one does.
    """

    status: Status
    reason: str
    command: str
    remedy: str
    claims: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class GateLine:
    """What a gate would decide on these records."""

    profile: str
    passes: bool
    outcomes: tuple[tuple[str, int], ...]
    reason: str


@dataclass(frozen=True, slots=True)
class RunPart:
    """One run over all its contracts. verdicts: how often each.

    facts, traces: of runs that evidence comes from; of the others their records tell.
    """

    anchor: str
    id: str
    state: str
    started: str
    ended: str
    contracts: tuple[str, ...]
    verdicts: tuple[tuple[Verdict, int], ...]
    command: str
    host: str
    testbed: str
    code: str
    facts: tuple[Pair, ...]
    traces: tuple[Trace, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """How many claims stood how after one run, by today's contracts, rules and engine."""

    run: str
    counts: tuple[tuple[Status, int], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. earlier: runs before those that are shown.

    problems: errors of the audit, of claims and of whole runs. audited: how many rules the records were held
    against; None where they were not. policy: the digest of what the project decided; notes: what of it
    concerns nothing that is here.
    """

    made: str
    version: str
    trees: tuple[str, ...]
    counts: tuple[tuple[Status, int], ...]
    gates: tuple[GateLine, ...]
    blockers: tuple[Blocker, ...]
    contracts: tuple[ContractPart, ...]
    moments: tuple[Moment, ...]
    runs: tuple[RunPart, ...]
    earlier: int
    problems: tuple[Problem, ...]
    remarks: tuple[Remark, ...]
    audited: int | None
    policy: str
    notes: tuple[str, ...]
    unclaimed: tuple[str, ...]

    @property
    def claims(self) -> int:
        """How many there are."""
        return sum(count for _, count in self.counts)

    @property
    def by_status(self) -> Mapping[Status, int]:
        """How many claims stand how."""
        return dict(self.counts)

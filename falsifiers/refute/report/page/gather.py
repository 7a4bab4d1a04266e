"""Contracts and records -> the frozen data of a report. Nothing is judged here: states come from `status`."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import refute
from refute.attempts import Attempt, Attempts, Present, read_attempts
from refute.audit.examine import Report as Audit
from refute.audit.rule import Severity
from refute.clearing import together
from refute.contract import Bound, Contract, Falsifier, declared
from refute.finding import RUN_ID, Finding, demanded, timestamp
from refute.gate import Decision, decide
from refute.kinds import kind_named
from refute.kinds.base import Drawn
from refute.policy import PROFILES, Invalidation, Policy, no_policy
from refute.reader import Discrepancy, read_run
from refute.rejudge import Kinds
from refute.report.page.audited import Audited, problems_of, sorted_out
from refute.report.page.data import (
    AttemptLine,
    Blocker,
    ClaimPart,
    ContractPart,
    GateLine,
    Moment,
    Need,
    Report,
    RowLine,
)
from refute.report.page.evidence import STORY, bound_in_words, digits, evidence_of, figures_of, model_of, told
from refute.report.page.pictures import history, numbers_of, strip
from refute.report.page.runs import runs_of
from refute.status import Claim, by_status, overview
from refute.verdict import Status

_ATTEMPTS = 12  # listed of one claim
_DRAWN = 8  # rows of one claim, at most
_MOMENTS = 24  # runs whose outcome is shown over time
_OUTCOMES = (("passes", "pass"), ("waived", "waived"), ("outside", "do not apply"), ("fails", "fail"))


@dataclass(slots=True)
class _Ground:
    """What is the same for all claims. known: their names."""

    known: Collection[str]
    policy: Policy
    audited: Audited
    kinds: Kinds
    _read: dict[Path, dict[str, Finding]]

    def with_samples(self, attempt: Attempt) -> Attempt:
        """The same attempt with the samples of its finding, read again."""
        if attempt.path not in self._read:
            records = read_run(attempt.path).records
            self._read[attempt.path] = {each.finding.falsifier: each.finding for each in records}
        whole = self._read[attempt.path].get(attempt.finding.falsifier, attempt.finding)
        return replace(attempt, finding=whole)


def gather(
    contracts: Sequence[Contract],
    trees: Sequence[Path],
    *,
    policy: Policy | None = None,
    audit: Audit | None = None,
    present: Present | None = None,
    kinds: Kinds = kind_named,
    made: str | None = None,
) -> Report:
    """Read every record under the trees and arrange what they say.

    audit: what was found in the same trees; without it only what reading them shows. made: when; now, where
    not given.
    """
    policy = policy or no_policy()
    present = present or Present.here()
    # Without samples: thousands of records are read, and few of them shown.
    attempts = read_attempts(contracts, trees, present=present, kinds=kinds, samples=False)
    whole = overview(contracts, attempts, policy=policy)
    audited = sorted_out(
        audit.objections if audit else (), ((each.contract, each.falsifier) for each in whole.claims)
    )
    ground = _Ground({each.name for each in whole.claims}, policy, audited, kinds, {})
    parts: dict[str, list[ClaimPart]] = defaultdict(list)
    known = declared(contracts)
    for claim in whole.claims:
        contract, falsifier = known[claim.contract, claim.falsifier]
        tried = attempts.of.get((claim.contract, claim.falsifier), ())
        parts[claim.contract].append(_claim(claim, contract, falsifier, tried, ground))
    behind = {part.evidence.run for claims in parts.values() for part in claims if part.evidence}
    runs, earlier = runs_of((attempt for tried in attempts.of.values() for attempt in tried), behind)
    found = [problem for claims in parts.values() for part in claims for problem in part.problems]
    problems = [problem for problem in found if problem.severity == Severity.ERROR]
    problems += problems_of("", "", audited.others)
    return Report(
        made=made or timestamp(),
        version=refute.__version__,
        trees=tuple(map(str, trees)),
        counts=tuple(by_status(whole.claims).items()),
        gates=tuple(
            _gate(decide(contracts, attempts, profile=profile, present=present, policy=policy))
            for profile in PROFILES
        ),
        blockers=tuple(_blockers(whole.claims)),
        contracts=tuple(_contract(contract, parts[contract.id]) for contract in contracts),
        moments=tuple(_moments(contracts, attempts, policy)),
        runs=tuple(runs),
        earlier=earlier,
        problems=tuple(dict.fromkeys(problems)),
        remarks=audited.remarks,
        audited=audit.rules if audit else None,
        policy=policy.sha256,
        notes=whole.unused,
        unclaimed=whole.unclaimed,
    )


def _anchor(name: str) -> str:
    """Where a claim, `contract/falsifier`, is shown."""
    return f"claim-{name.replace('/', '--')}"


def _contract(contract: Contract, claims: Sequence[ClaimPart]) -> ContractPart:
    counts = Counter(claim.status for claim in claims)
    return ContractPart(
        anchor=f"contract-{contract.id}",
        id=contract.id,
        version=contract.version,
        title=contract.title,
        description=contract.description,
        path=str(contract.path),
        model=contract.model.name,
        inside=contract.scope.include,
        outside=contract.scope.exclude,
        references=contract.references,
        counts=tuple((status, counts[status]) for status in Status if counts[status]),
        claims=tuple(claims),
    )


def _claim(
    claim: Claim,
    contract: Contract,
    falsifier: Falsifier,
    tried: Sequence[Attempt],
    ground: "_Ground",
) -> ClaimPart:
    anchor = _anchor(claim.name)
    taken_out = [ground.policy.invalidation(claim.name, each.run, each.finding.run) for each in tried]
    counts = [each is None for each in taken_out]
    counting = [each for each, counted in zip(tried, counts, strict=True) if counted]
    decisive = _decisive(claim, counting)
    decisive = ground.with_samples(decisive) if decisive else None
    evidence = evidence_of(decisive, contract, falsifier, ground.kinds) if decisive else None
    listed = list(zip(tried, taken_out, strict=True))[-_ATTEMPTS:]
    return ClaimPart(
        anchor=anchor,
        contract=claim.contract,
        falsifier=claim.falsifier,
        alias=claim.alias or "",
        sentence=claim.claim,
        kind=falsifier.kind,
        bound=bound_in_words(falsifier.bound),
        status=claim.status,
        beneath=claim.beneath,
        level=claim.level,
        discharge=claim.discharge,
        verdict=decisive.verdict if decisive else None,
        figure=decisive.carried.figure if decisive else "",
        reason=told(claim.reason, STORY),
        command=claim.command,
        remedy=claim.remedy,
        notes=tuple(told(flag, STORY) for flag in claim.flags),
        needs=tuple(Need(need, _anchor(need) if need in ground.known else "") for need in falsifier.needs),
        caught=_caught(decisive),
        history=history(
            [(each.verdict, bool(each.stale) or not it) for each, it in zip(tried, counts, strict=True)]
        ),
        evidence=evidence,
        rows=tuple(_rows(claim, falsifier, counting, ground)),
        attempts=tuple(_attempt(*each) for each in reversed(listed)),
        earlier=len(tried) - len(listed),
        problems=problems_of(
            claim.name,
            anchor,
            ground.audited.of.get((claim.contract, claim.falsifier), ()),
            claim.discrepancies,
        ),
        words=_words(claim, falsifier, contract),
    )


def _decisive(claim: Claim, tried: Sequence[Attempt]) -> Attempt | None:
    """The attempt behind the row that gives a claim its status; the newest where no row does."""
    runs = {row.run for row in claim.rows if row.status is claim.unwaived}
    return next((each for each in reversed(tried) if each.run in runs), tried[-1] if tried else None)


def _caught(attempt: Attempt | None) -> str:
    trials = demanded(attempt.finding.faults) if attempt else []
    return f"{sum(trial.caught for trial in trials)} of {len(trials)}" if trials else ""


def _rows(
    claim: Claim, falsifier: Falsifier, tried: Sequence[Attempt], ground: "_Ground"
) -> Iterable[RowLine]:
    drawings: list[tuple[Drawn, Bound] | None] = [None] * len(claim.rows)
    if 1 < len(claim.rows) <= _DRAWN:
        behind = {(each.run, each.model, each.testbed): each for each in tried}
        for place, row in enumerate(claim.rows):
            attempt = behind.get((row.run, row.model, row.testbed))
            if attempt is not None:
                drawings[place] = figures_of(ground.with_samples(attempt), falsifier, ground.kinds)
    numbers = [number for drawing in drawings if drawing for number in numbers_of(*drawing)]
    for row, drawing in zip(claim.rows, drawings, strict=True):
        yield RowLine(
            engine=f"{row.engine} {digits(row.engine_digest)}".strip() if row.engine else "none",
            model=row.model_name or "none",
            testbed=digits(row.testbed),
            level=row.level or "",
            status=row.status,
            verdict=row.verdict,
            figure=row.figure,
            attempts=row.attempts,
            run=row.run,
            reason=told(row.reason, STORY),
            picture=strip(*drawing, also=numbers) if drawing else None,
        )


def _attempt(attempt: Attempt, taken_out: Invalidation | None) -> AttemptLine:
    spoilt = "; ".join(map(str, attempt.discrepancies[:1]))
    notes = (
        f"tampered: {spoilt}" if spoilt else "",
        f"invalidated by {taken_out.owner}: {taken_out.reason}" if taken_out else "",
        f"stale: {attempt.stale}" if attempt.stale else "",
    )
    return AttemptLine(
        run=attempt.run,
        verdict=attempt.verdict,
        figure=attempt.carried.figure or attempt.carried.reason,
        level=attempt.level if attempt.engine else "",
        model=model_of(attempt),
        testbed=digits(attempt.testbed),
        note=next(filter(None, notes), ""),
    )


def _words(claim: Claim, falsifier: Falsifier, contract: Contract) -> str:
    """What a search looks at, in lower case."""
    faults = " ".join(fault.name for fault in falsifier.must_catch)
    parts = (
        claim.contract,
        contract.title,
        claim.falsifier,
        claim.alias or "",
        claim.claim,
        falsifier.kind,
        claim.status,
        claim.verdict or "",
        claim.reason,
        faults,
    )
    return " ".join(parts).lower()


def _gate(decision: Decision) -> GateLine:
    outcomes = Counter[str](ruling.outcome for ruling in decision.rulings)
    told = tuple((word, outcomes[outcome]) for outcome, word in _OUTCOMES if outcomes[outcome])
    return GateLine(decision.profile, decision.passes, told, decision.reason)


def _blockers(claims: Iterable[Claim]) -> list[Blocker]:
    """Why claims are not discharged, worst first, each reason once."""
    groups: dict[tuple[Status, str, str], list[Claim]] = defaultdict(list)
    for claim in claims:
        if claim.status is not Status.DISCHARGED:
            groups[claim.status, claim.reason, claim.remedy].append(claim)
    order = list(Status)
    found = [
        Blocker(
            status=status,
            reason=told(reason, STORY),
            command=together([claim.command for claim in members]),
            remedy=remedy,
            claims=tuple(Need(claim.name, _anchor(claim.name)) for claim in members),
        )
        for (status, reason, remedy), members in groups.items()
    ]
    return sorted(found, key=lambda each: order.index(each.status))


def _moments(contracts: Sequence[Contract], attempts: Attempts, policy: Policy) -> Iterable[Moment]:
    """How the claims stood after each of the newest runs."""
    runs = sorted({attempt.run for tried in attempts.of.values() for attempt in tried})
    for run in runs[-_MOMENTS:]:
        until = replace(
            attempts,
            of={key: [each for each in tried if each.run <= run] for key, tried in attempts.of.items()},
            spoilt={
                key: [each for each in found if _named(each) <= run] for key, found in attempts.spoilt.items()
            },
        )
        yield Moment(run, tuple(by_status(overview(contracts, until, policy=policy).claims).items()))


def _named(found: Discrepancy) -> str:
    """The run that a discrepancy names; before all others where it names none."""
    match = RUN_ID.search(found.where)
    return match[0] if match else ""

"""What a finding made under an older version of its contract says of today's.

Texts, and what other falsifiers of the contract say, change nothing. What is asked now, of needs, level and
testbeds, is weighed when a status is computed. A bound that moved is judged again from the stored samples,
its control and its faults too, where they suffice: the same attack, as many runs or cases as are asked for
now, every fault of today caught at a dose that is as mild. Else the finding is stale, and says why.

Carrying makes no verdict better. What was falsified stays so where the contract only asks for less since,
and is flagged; and whatever else it asks for since is flagged too, as someone may have moved the bar.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from refute.change import Change, Effect, falsifier_changes, model_changes
from refute.contract import Bound, Contract, Falsifier
from refute.faults import FAULTS
from refute.faults.base import Fault, FaultSpec, milder
from refute.finding import FaultTrial, Finding
from refute.kinds.base import Kind
from refute.verdict import Judgement, Outcome, Verdict

_OF_THE_BOUND = {"x floor": "higher", "x bound": "lower"}  # units of doses, and which way is milder
_SAMPLES = ("runs", "cases", "confidence")


@dataclass(frozen=True, slots=True)
class Carried:
    """verdict, figure, reason: under today's contract. stale: why it says nothing of it; empty if it does.

    flag: how the contract changed after this falsified it; empty where it did not.
    """

    verdict: Verdict
    figure: str
    reason: str
    stale: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Since:
    """How one falsifier changed. before, after: it then and now, what is weighed now taken from now.

    same_attack: with the same samples. changes: those that can flip a verdict.
    """

    version: str
    before: Falsifier
    after: Falsifier
    same_attack: bool
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        sentences = (change.sentence.removeprefix(f"{self.after.id}: ") for change in self.changes)
        return f"since version {self.version}: {'; '.join(sentences)}"


def unchanged(finding: Finding) -> Carried:
    """What a finding says itself."""
    return Carried(finding.verdict, finding.figure, finding.reason)


def since(
    old: Contract,
    new: Contract,
    name: str,
    kind: type[Kind[Any]],
    faults: Mapping[str, FaultSpec] | None = None,
) -> Since | None:
    """Compare a falsifier in two versions of its contract; None where nothing changed that matters here.

    Both contracts must declare it.
    """
    faults = FAULTS if faults is None else faults
    before, after = (next(each for each in contract.falsifiers if each.id == name) for contract in (old, new))
    bound = replace(before.bound, testbeds=after.bound.testbeds)
    before = replace(before, needs=after.needs, discharge=after.discharge, bound=bound)
    kinds = {kind.name: kind, after.kind: kind}
    # Files that are listed now and were not, and the other way round, show in the level of evidence.
    about = [each for each in model_changes(old, new) if not each.sentence.startswith("model.sha256")]
    found = _weighty([*about, *falsifier_changes(before, after, kinds, faults)])
    if not found:
        return None
    attacked = replace(before, requires=after.requires, must_catch=after.must_catch, bound=after.bound)
    same_attack = (
        not about
        and not _weighty(falsifier_changes(attacked, after, kinds, faults))
        and _measured(before.bound) == _measured(after.bound)
    )
    return Since(old.version, before, after, same_attack, found)


def carry(
    finding: Finding, change: Since, kind: type[Kind[Any]], faults: Mapping[str, FaultSpec] | None = None
) -> Carried:
    """Say what an honest finding, made before a change, is worth after it."""
    faults = FAULTS if faults is None else faults
    judge = kind.of(change.after.parameters) if change.same_attack else None
    if finding.verdict is Verdict.BLOCKED:
        return unchanged(finding)
    missing = (kind.requires | set(change.after.requires)) - set(finding.target.get("capabilities", ()))
    if finding.verdict is Verdict.FALSIFIED:
        return _refuted(finding, change, judge, applies=not missing)
    if finding.verdict is Verdict.NOT_APPLICABLE and missing and change.before.kind == change.after.kind:
        return unchanged(finding)
    if judge is None or missing or finding.judgement is None or finding.control is None:
        return replace(unchanged(finding), stale=f"the claim asks for something else {change}")
    if finding.verdict is Verdict.INVALID:
        return unchanged(finding)
    return _again(finding, change, judge, faults)


def _refuted(finding: Finding, change: Since, judge: Kind[Any] | None, *, applies: bool) -> Carried:
    """What falsified a claim falsifies it still where it asks for as much, or only for less, since."""
    kept = unchanged(finding)
    effects = {each.effect for each in change.changes if ": must_catch: " not in each.sentence}
    if applies and judge is not None and finding.judgement is not None:
        again = judge.judge(finding.judged, change.after.bound)
        if again.outcome is Outcome.FALSIFIED:
            return replace(kept, figure=judge.figure(again, change.after.bound), reason=again.reason)
    if effects <= {Effect.TIGHTENING}:
        return kept
    if judge is not None or effects == {Effect.LOOSENING}:
        return replace(kept, flag=f"loosened after a falsification, {change}")
    return replace(
        kept,
        stale=f"the claim asks for something else {change}",
        flag=f"changed after a falsification, {change}",
    )


def _again(finding: Finding, change: Since, judge: Kind[Any], faults: Mapping[str, FaultSpec]) -> Carried:
    """Judge what survived, or was inconclusive, by today's bound."""
    assert finding.control is not None
    kept, bound = unchanged(finding), change.after.bound
    if judge.judge(finding.control.observations, bound).outcome is not Outcome.SURVIVED:
        return replace(kept, stale=f"its control is no control of today's bound {change}")
    judgement = judge.judge(finding.judged, bound)
    if judgement.outcome is Outcome.FALSIFIED:
        return _judged(Verdict.FALSIFIED, judgement, judge, change)
    if finding.verdict is not Verdict.SURVIVED:
        return kept
    if judgement.outcome is Outcome.INCONCLUSIVE:
        if any(getattr(change.before.bound, name) != getattr(bound, name) for name in _SAMPLES):
            return replace(kept, stale=f"its samples do not suffice ({judgement.reason}) {change}")
        return _judged(Verdict.INCONCLUSIVE, judgement, judge, change)
    for fault in change.after.must_catch:
        trials = [trial for trial in finding.faults if _as_mild(trial, fault, change, faults[fault.name])]
        if not any(trial.observations and judge.caught(trial.observations, bound) for trial in trials):
            return replace(kept, stale=f"it did not catch {fault} as today's bound has it {change}")
    return _judged(Verdict.SURVIVED, judgement, judge, change)


def _judged(verdict: Verdict, judgement: Judgement, judge: Kind[Any], change: Since) -> Carried:
    figure = judge.figure(judgement, change.after.bound)
    return Carried(verdict, figure, f"{judgement.reason}; judged again from its samples, {change}")


def _as_mild(trial: FaultTrial, fault: Fault, change: Since, spec: FaultSpec) -> bool:
    """Whether a fault was planted at least as mildly as it has to be caught now."""
    if trial.name != fault.name:
        return False
    way = _OF_THE_BOUND.get(spec.unit)
    then, now = _limit(change.before.bound), _limit(change.after.bound)
    if way is not None and then is not None and now is not None:
        planted, wanted = trial.dose * then, fault.dose * now
        return planted >= wanted if way == "higher" else planted <= wanted
    return trial.dose == fault.dose or milder(trial.dose, fault.dose, spec) is True


def _limit(bound: Bound) -> float | None:
    return bound.above if bound.above is not None else bound.below


def _measured(bound: Bound) -> tuple[object, ...]:
    sides = tuple(getattr(bound, side) is None for side in ("above", "below", "within"))
    return (bound.of, bound.statistic, bound.unit, *sides)


def _weighty(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(change for change in changes if change.effect is not Effect.EDITORIAL)

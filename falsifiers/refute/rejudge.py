"""Derive again what a record concludes, from the samples in it and the contract beside it.

Nothing is run and no model is needed: `judge`, `caught` and `conclude` are pure. Whatever comes out
otherwise than it is stored is a discrepancy with its JSON pointer.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refute.contract import Contract, Falsifier
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.finding import Control, FaultTrial, Finding, demanded, missed
from refute.kinds import Origin, kind_origin
from refute.kinds.base import Kind, Searched
from refute.reader import Discrepancy, Record
from refute.validity import invalidity, probed
from refute.verdict import Judgement, Outcome, Verdict, conclude

Kinds = Callable[[str], type[Kind[Any]]]
Difference = tuple[str, Any, Any]  # JSON pointer, found, expected


@dataclass(frozen=True, slots=True)
class Rejudged:
    """What came out. unjudged: why nothing could be derived, where the rule is not here; else empty."""

    discrepancies: tuple[Discrepancy, ...]
    unjudged: str


def rejudge(record: Record, where: str, contract: Contract, kinds: Kinds) -> Rejudged:
    """Derive a finding again. where: its folder, for messages. contract: the one that lies in its run."""
    return Rejudge(kinds)(record, where, contract)


class Rejudge:
    """Derives findings again, by the thousand: what follows from a contract alone is worked out once."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self._rules: dict[tuple[int, str], _Rule] = {}

    def __call__(self, record: Record, where: str, contract: Contract) -> Rejudged:
        """Derive one again. where: its folder, for messages. contract: the one that lies in its run."""
        finding = record.finding
        try:
            differences, unjudged = self._differences(finding, contract)
        except Exception as error:  # noqa: BLE001 (edited samples break a kind in any way they like)
            found = f"samples that cannot be judged ({type(error).__name__}: {error})"
            differences, unjudged = [("/observations", found, "what its kind stores")], ""
        place = f"{where}/{record.file}"
        return Rejudged(
            tuple(
                Discrepancy(place, pointer, _short(found), _short(expected), finding.falsifier)
                for pointer, found, expected in differences
            ),
            unjudged,
        )

    def _differences(self, finding: Finding, contract: Contract) -> tuple[list[Difference], str]:
        rule = self._rule(contract, finding.falsifier)
        if rule is None:
            return [("/falsifier", finding.falsifier, "a falsifier of its contract")], ""
        stored = {key: getattr(finding, key) for key in rule.copied}
        written = repr(stored)  # tells 1 from True, which `==` does not
        if written != rule.written:
            copied = list(_compare("", stored, rule.copied))
            if copied:
                return copied, ""
            rule.written = written
        if rule.kind_type is None:
            return [], rule.unknown
        changed = _changed(finding, rule.kind_type)
        if changed:
            return [], changed
        if rule.kind is None:
            rule.kind = rule.kind_type.of(rule.falsifier.parameters)
        return list(_derived(finding, rule.falsifier, rule.kind)), ""

    def _rule(self, contract: Contract, name: str) -> "_Rule | None":
        rule = self._rules.get((id(contract), name))
        if rule is None:
            falsifier = next((each for each in contract.falsifiers if each.id == name), None)
            if falsifier is None:
                return None
            rule = self._rules[id(contract), name] = _Rule.of(contract, falsifier, self.kinds)
        return rule


@dataclass(slots=True)
class _Rule:
    """How one falsifier of one contract is judged. copied: what findings repeat of it.

    written: how the last of them that does so has it, so that the next ones need not be gone through.
    kind: made with the first finding, as parameters may be refused. contract: kept, as its id is the key.
    """

    contract: Contract
    falsifier: Falsifier
    copied: Mapping[str, Any]
    kind_type: type[Kind[Any]] | None
    unknown: str
    kind: Kind[Any] | None = None
    written: str = ""

    @classmethod
    def of(cls, contract: Contract, falsifier: Falsifier, kinds: Kinds) -> "_Rule":
        copied = {
            "alias": falsifier.alias,
            "claim": falsifier.claim,
            "kind": falsifier.kind,
            "bound": bound_as_data(falsifier.bound),
            "parameters": dict(falsifier.parameters),
        }
        try:
            return cls(contract, falsifier, copied, kinds(falsifier.kind), "")
        except KeyError as why:  # `UnknownKind` is a sentence
            return cls(contract, falsifier, copied, None, str(why))


def _changed(finding: Finding, kind_type: type[Kind[Any]]) -> str:
    """How the rule that judged differs from the one that is here; empty if it does not."""
    if kind_type.rule_version != finding.rule_version:
        return f"the rule of {finding.kind} changed since version {finding.rule_version}"
    judged = None if finding.kind_origin is None else Origin(**finding.kind_origin)
    here = kind_origin(finding.kind)
    if _code(judged) == _code(here):
        return ""
    told = " and ".join(
        f"{'refute' if each is None else each} {does}"
        for each, does in ((judged, "judged it"), (here, "is here"))
    )
    return f"the rule of {finding.kind} changed: {told}"


def _code(origin: Origin | None) -> tuple[str, str] | None:
    """What tells one rule's code from another's; a new version with the same code is the same rule."""
    return None if origin is None else (origin.distribution, origin.digest or origin.version)


def _derived(finding: Finding, falsifier: Falsifier, kind: Kind[Any]) -> Iterator[Difference]:
    if finding.verdict in (Verdict.ERROR, Verdict.BLOCKED):  # the schema: nothing was observed
        return
    if finding.verdict is Verdict.NOT_APPLICABLE:
        missing = (kind.requires | set(falsifier.requires)) - set(finding.target.get("capabilities", ()))
        if not missing:
            yield "/verdict", finding.verdict, "a verdict: the target has every required capability"
        return
    if finding.control is None and finding.judgement is None:
        yield from _compare("/verdict", finding.verdict, Verdict.INCONCLUSIVE)
        if finding.observations or finding.faults:
            yield "/judgement", None, "a judgement of what was observed"
        return
    if finding.control is None:
        yield "/control", None, "the known-good control"
        return
    control = _control(finding.control, falsifier, kind)
    yield from _compare("/control/green", finding.control.green, control.green)
    yield from _judged("/control/judgement", finding.control.judgement, control.judgement)
    trials = tuple(_trial(trial, falsifier, kind) for trial in finding.faults)
    for index, (found, trial) in enumerate(zip(finding.faults, trials, strict=True)):
        yield from _compare(f"/faults/{index}/caught", found.caught, trial.caught)
    yield from _planned(finding.faults, falsifier)
    sensitivity = sensitivity_of(trials)
    if finding.sensitivity != sensitivity:
        yield from _compare("/sensitivity", *map(_plain, (finding.sensitivity, sensitivity)))
    caught = not missed(trials)
    judgement, invalid = None, list[str]()
    if finding.judgement is None:
        if finding.observations:
            yield "/judgement", None, "a judgement of what was observed"
        verdict = Verdict.INCONCLUSIVE if caught and control.green else Verdict.INVALID
    else:
        judgement = kind.judge(finding.judged, falsifier.bound)
        yield from _judged("/judgement", finding.judgement, judgement)
        yield from _compare("/figure", finding.figure, kind.figure(judgement, falsifier.bound))
        yield from _compare("/counters", dict(finding.counters), dict(counters_of(finding.judged)))
        if probed(finding, timing=kind.timing) != (finding.noise is not None):
            has, wants = (None, "probes of the host") if finding.noise is None else ("probes", None)
            yield "/noise", has, wants
        invalid = invalidity(finding, paired=kind.paired)
        verdict = conclude(judgement, faults_caught=caught, control_green=control.green, valid=not invalid)
    yield from _compare("/verdict", finding.verdict, verdict)
    yield from _compare("/reason", finding.reason, reason_for(verdict, judgement, control, trials, invalid))
    yield from _counterexample(finding, kind, judgement)


def _control(stored: Control, falsifier: Falsifier, kind: Kind[Any]) -> Control:
    judgement = kind.judge(stored.observations, falsifier.bound)
    green = judgement.outcome is Outcome.SURVIVED
    return dataclasses.replace(stored, green=green, judgement=judgement)


def _trial(stored: FaultTrial, falsifier: Falsifier, kind: Kind[Any]) -> FaultTrial:
    caught = bool(stored.observations) and kind.caught(stored.observations, falsifier.bound)
    return stored if caught is stored.caught else dataclasses.replace(stored, caught=caught)


def _planned(trials: tuple[FaultTrial, ...], falsifier: Falsifier) -> Iterator[Difference]:
    """Every fault of the contract was tried at its dose, and no other one counts."""
    tried = sorted(f"{trial.name}={trial.dose:g}" for trial in demanded(trials))
    yield from _compare("/faults", tried, sorted(map(str, falsifier.must_catch)))


def _counterexample(finding: Finding, kind: Kind[Any], judgement: Judgement | None) -> Iterator[Difference]:
    if (finding.replays is None) != (finding.counterexample is None):
        expected = "nothing" if finding.counterexample is None else "whether the counterexample refuted again"
        yield "/replays", finding.replays, expected
    if not isinstance(kind, Searched):
        if finding.counterexample is not None:
            yield "/counterexample", "one", "none: this kind is not searched"
        return
    falsified = judgement is not None and judgement.outcome is Outcome.FALSIFIED
    if falsified and finding.counterexample is None:
        yield "/counterexample", None, "the case that refutes"
    if finding.counterexample is not None and not kind.refutes(finding.counterexample):
        yield "/counterexample", "a case that does not refute", "one that does"


def _judged(pointer: str, found: Judgement, expected: Judgement) -> Iterator[Difference]:
    if found != expected:  # no field of it is a boolean, so that this is what `_compare` says, and quicker
        yield from _compare(pointer, dataclasses.asdict(found), dataclasses.asdict(expected))


def _compare(pointer: str, found: Any, expected: Any) -> Iterator[Difference]:
    """Yield each innermost difference of plain data; tuples and lists are the same."""
    if type(found) is type(expected) and isinstance(found, str | int | float) and found == expected:
        return
    if isinstance(found, Mapping) and isinstance(expected, Mapping) and found.keys() == expected.keys():
        for key in found:
            yield from _compare(f"{pointer}/{key}", found[key], expected[key])
    elif isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        if len(found) != len(expected):
            yield pointer, list(found), list(expected)
        else:
            for index, pair in enumerate(zip(found, expected, strict=True)):
                yield from _compare(f"{pointer}/{index}", *pair)
    elif found is not expected and (
        found != expected or isinstance(found, bool) != isinstance(expected, bool)
    ):
        yield pointer, found, expected


def _plain(entries: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(entry) for entry in entries]


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 160 else f"{text[:120]} … {text[-30:]}"

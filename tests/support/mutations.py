"""Edits of every field of an honest record, by editors who know more and more, and who of them is found out.

A field is a JSON pointer in which places in a list are `*`; of a list, the first member stands for all.
changes it and no more; `hashes` also redoes the listing; `derived` also redoes all that follows from samples:
judgements, trials, verdict, figure, log and counterexample, with the very code that an audit uses.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audited import Audited, Bundle

from refute.audit.rule import Severity
from refute.contract import load_contract
from refute.counterexample import Counterexample
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.finding import Finding, missed
from refute.kinds import ANY, kind_named
from refute.reader import CONTRACT, LOG, SUMMARY
from refute.strict_json import dump_strict, load_strict
from refute.validity import invalidity
from refute.verdict import Outcome, conclude

_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*Z")
_RUN = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}")
Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """One edit of one field. file: `finding` for any of them. kind: what the finding is of."""

    file: str
    name: str
    pointer: str
    steps: Steps
    value: Any

    @property
    def field(self) -> str:
        return f"{self.file}#{self.pointer}"


def other(value: Any) -> Any:
    """Another value of the same form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 0.125
    if isinstance(value, str):
        if _HEX.fullmatch(value):
            return ("1" if value[0] == "0" else "0") + value[1:]
        if _TIME.fullmatch(value):
            return value[:2] + ("1" if value[2] == "0" else "0") + value[3:]
        if _RUN.fullmatch(value):
            return value[:-1] + ("1" if value[-1] == "0" else "0")
        return value + "x"
    if isinstance(value, list):
        return [*value, value[-1]] if value else ["x"]
    return {**value, "x": 1}


def mutations_of(bundle: Bundle, name: str) -> Iterator[Mutation]:
    """Every field of one JSON file, each with another value; null becomes a text, and a number."""
    kind = SUMMARY if name == SUMMARY else name
    for steps, value in _fields(load_strict(bundle.files[name]), ()):
        pointer = "".join("/*" if isinstance(step, int) else f"/{step}" for step in steps)
        for changed in ("x", 1) if value is None else (other(value),):
            yield Mutation(kind, name, pointer, steps, changed)


def _fields(value: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    if isinstance(value, dict):
        if steps:
            yield steps, value
        for key, member in value.items():
            yield from _fields(member, (*steps, key))
    elif isinstance(value, list):
        yield steps, value
        for index in range(min(1, len(value))):
            yield from _fields(value[index], (*steps, index))
    else:
        yield steps, value


def mutated(bundle: Bundle, mutation: Mutation) -> Bundle:
    """A copy with the edit in it, and nothing redone."""
    copy = bundle.copy()

    def change(document: Any) -> None:
        for step in mutation.steps[:-1]:
            document = document[step]
        document[mutation.steps[-1]] = mutation.value

    copy.edit(mutation.name, change)
    return copy


def rederive(bundle: Bundle) -> None:
    """Redo all that follows from what the findings of a run store, then the log, then the listing."""
    for name in [
        each for each in bundle.files if each.endswith(".json") and "observations" in bundle.json(each)
    ]:
        try:
            finding = derived_again(bundle, Finding.from_json(bundle.json(name)))
        except Exception:  # noqa: BLE001 (what no kind can judge, no editor can judge either)
            continue
        _retell(bundle, name, finding)
        bundle.files[name] = dump_strict(finding.to_json())
        counterexample = Counterexample.of(finding)
        if counterexample is not None:
            bundle.files[counterexample.file] = counterexample.to_bytes()
    bundle.rehash()


def derived_again(bundle: Bundle, finding: Finding) -> Finding:
    """What the finding would say if its samples were true."""
    contract = load_contract(Path(CONTRACT), kinds=ANY, source=bundle.files[CONTRACT])
    falsifier = next(each for each in contract.falsifiers if each.id == finding.falsifier)
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    bound = falsifier.bound
    copied = dataclasses.replace(
        finding,
        contract_version=contract.version,
        contract_semantic_sha256=contract.semantic_sha256,
        alias=falsifier.alias,
        claim=falsifier.claim,
        kind=falsifier.kind,
        bound=bound_as_data(bound),
        parameters=dict(falsifier.parameters),
    )
    if finding.control is None or finding.judgement is None:
        return copied
    fake = kind.judge(finding.control.observations, bound)
    control = dataclasses.replace(finding.control, green=fake.outcome is Outcome.SURVIVED, judgement=fake)
    trials = []
    for trial in finding.faults:
        caught = bool(trial.observations) and kind.caught(trial.observations, bound)
        said = "turned red" if caught else f"stayed green over {len(trial.observations)} cases"
        trials.append(dataclasses.replace(trial, caught=caught, reason=said))
    judgement = kind.judge(finding.judged, bound)
    invalid = invalidity(finding)
    verdict = conclude(
        judgement, faults_caught=not missed(trials), control_green=control.green, valid=not invalid
    )
    return dataclasses.replace(
        copied,
        control=control,
        faults=tuple(trials),
        sensitivity=sensitivity_of(trials),
        judgement=judgement,
        figure=kind.figure(judgement, bound),
        counters=counters_of(finding.judged),
        verdict=verdict,
        reason=reason_for(verdict, judgement, control, trials, invalid),
    )


def _retell(bundle: Bundle, name: str, finding: Finding) -> None:
    """Make the log say what the finding says now."""
    lines = bundle.files[LOG].decode().splitlines()
    start = f"{name.removesuffix('.json')} "
    told = [
        f"{line[:25]}{finding.falsifier} {finding.verdict}: {finding.reason}"
        if line[25:].startswith(start)
        else line
        for line in lines
    ]
    bundle.files[LOG] = "".join(f"{line}\n" for line in told).encode()


EDITORS: dict[str, Callable[[Bundle], object]] = {
    "careless": lambda bundle: None,
    "hashes": Bundle.rehash,
    "derived": rederive,
}


def told(audited: Audited, bundle: Bundle, honest: set[tuple[str, str]]) -> dict[str, Severity]:
    """The rules that fire on a bundle and not on the honest one, with their severity."""
    found = audited.objections(bundle)
    return {each.rule: each.severity for each in found if (each.rule, each.pointer) not in honest}


@dataclass(frozen=True)
class Fate:
    """What became of one edit, by editor: the rules that told of it."""

    mutation: Mutation
    rules: dict[str, dict[str, Severity]]

    def noticed(self, editor: str) -> bool:
        """Whether a rule that weighs tells of it; a note does not."""
        return any(severity is not Severity.NOTE for severity in self.rules[editor].values())


def fates(audited: Audited, bundle: Bundle, name: str, editors: dict[str, Any] = EDITORS) -> Iterator[Fate]:
    """Try every field of a file with every editor."""
    honest = {(each.rule, each.pointer) for each in audited.objections(bundle)}
    for mutation in mutations_of(bundle, name):
        rules = {}
        for editor, redo in editors.items():
            copy = mutated(bundle, mutation)
            redo(copy)
            rules[editor] = told(audited, copy, honest)
        yield Fate(mutation, rules)

"""Edits of every field of an honest record, by editors who know more and more, and who of them is found out.

A field is a JSON pointer in which places in a list are `*`; of a list, the first member stands for all. The
careless editor changes it and no more. The second one also redoes the listing. The third one also redoes all
that follows from samples: judgements, trials, verdict, figure, log and counterexample, with the code of the
audit itself.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import yaml
from audited import Audited, Bundle

from refute.audit.rule import Severity
from refute.audit.rules import OF_RUNS
from refute.audit.subject import Library
from refute.contract import Contract
from refute.counterexample import Counterexample
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.finding import Finding, missed
from refute.kinds import kind_named
from refute.reader import CONTRACT, LOG, SUMMARY, TELEMETRY
from refute.strict_json import dump_strict, load_strict
from refute.validity import invalidity
from refute.verdict import Outcome, conclude

_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*Z")
_RUN = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}")
Steps = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """One edit of one field. name: of the file."""

    name: str
    pointer: str
    steps: Steps
    value: Any

    @property
    def field(self) -> str:
        return f"{self.name}#{self.pointer}"


def other(value: Any) -> Any:
    """Another value of the same form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 2 * value + 1
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
    if isinstance(value, date):
        return value + timedelta(days=1)
    if isinstance(value, list):
        return [*value, value[-1]] if value else ["x"]
    return {**value, "x": 1}


def mutations_of(bundle: Bundle, name: str) -> Iterator[Mutation]:
    """Every field of one JSON file, each with another value; null becomes a text, and a number."""
    for steps, value in _fields(_read(name, bundle.files[name]), ()):
        pointer = "".join("/*" if isinstance(step, int) else f"/{step}" for step in steps)
        pointer = re.sub("(?<=/packages/).*", "*", pointer)
        for changed in ("x", 1) if value is None else (other(value),):
            later = 10**12 if steps[-1:] == ("monotonic_ns",) else 0  # beyond what clocks may differ by
            soon = steps[-1:] == ("t_ns",)  # before the next line, however near that is
            yield Mutation(name, pointer, steps, value + 1 if soon else changed + later if later else changed)


def _fields(value: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    if isinstance(value, dict):
        if steps:
            yield steps, value
        for key, member in value.items() if steps[-1:] != ("packages",) else list(value.items())[:1]:
            yield from _fields(member, (*steps, key))
    elif isinstance(value, list):
        if steps:
            yield steps, value
        for index in range(min(1, len(value))):
            yield from _fields(value[index], (*steps, index))
    else:
        yield steps, value


def mutated(bundle: Bundle, mutation: Mutation) -> Bundle:
    """A copy with the edit in it, and nothing redone."""
    copy = bundle.copy()
    whole = part = _read(mutation.name, bundle.files[mutation.name])
    for step in mutation.steps[:-1]:
        part = part[step]
    part[mutation.steps[-1]] = mutation.value
    copy.files[mutation.name] = _written(mutation.name, whole)
    return copy


def _read(name: str, data: bytes) -> Any:
    if name.endswith(".yaml"):
        return yaml.safe_load(data)
    return [*map(load_strict, data.splitlines())] if name.endswith(".jsonl") else load_strict(data)


def _written(name: str, document: Any) -> bytes:
    if name.endswith(".yaml"):
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    if name.endswith(".jsonl"):
        return b"".join(json.dumps(line).encode() + b"\n" for line in document)
    return dump_strict(document)


def rederive(bundle: Bundle, library: Library) -> None:
    """Redo all that follows from what the findings of a run store, then the log, then the listing."""
    contract = library.contract(bundle.files[CONTRACT], CONTRACT)
    for name in [
        each for each in bundle.files if each.endswith(".json") and "observations" in bundle.json(each)
    ]:
        try:
            finding = derived_again(Finding.from_json(bundle.json(name)), contract)
        except Exception:  # noqa: BLE001 (what no kind can judge, no editor can judge either)
            continue
        _retell(bundle, name, finding)
        bundle.files[name] = dump_strict(finding.to_json())
        counterexample = Counterexample.of(finding)
        if counterexample is not None:
            bundle.files[counterexample.file] = counterexample.to_bytes()
    bundle.rehash()


def derived_again(finding: Finding, contract: Contract) -> Finding:
    """What the finding would say if its samples were true."""
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
    invalid = invalidity(finding, paired=kind.paired)
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


EDITORS: dict[str, Callable[[Bundle, Library], object]] = {
    "careless": lambda bundle, library: None,
    "hashes": lambda bundle, library: bundle.rehash(),
    "derived": rederive,
}
# Falsifiers whose fields are tried: a claim about time, one about tokens, and one that is falsified.
TRIED = ("floor", "cached", "bits")
BESIDES = {
    "floor": (SUMMARY, TELEMETRY),
    "cached": (CONTRACT,),  # its first falsifier
    "bits": ("bits.counterexample.json",),
}
# Not tried: what one host has, and another has not.
OF_THE_HOST = ("/facts/gpus/value", "/provenance/environment", "/ticks", "/provenance/git")


@dataclass(frozen=True)
class Fate:
    """What became of one edit by one editor. rules: one that weighs and tells of it; undone: no trace."""

    mutation: Mutation
    editor: str
    rules: tuple[str, ...]
    undone: bool

    @property
    def survived(self) -> bool:
        return not self.rules and not self.undone


def fates(audited: Audited) -> list[Fate]:
    """Try every field of the listing and of the findings of `TRIED`, with every editor."""
    found = []
    for falsifier in TRIED:
        bundle = only(audited.whole, falsifier, "promised")
        assert not weighing(audited, bundle)
        before = contents(bundle)
        names = [f"{falsifier}.json", *BESIDES.get(falsifier, ())]
        for mutation in (each for name in names for each in mutations_of(bundle, name)):
            if any(part in mutation.pointer for part in OF_THE_HOST):
                continue
            for editor, redo in EDITORS.items():
                copy = mutated(bundle, mutation)
                redo(copy, audited.library)
                undone = contents(copy) == before
                rules = () if undone else first_weighing(audited, copy)
                found.append(Fate(mutation, editor, rules, undone))
    return found


def contents(bundle: Bundle) -> dict[str, Any]:
    """What is in a bundle; the order in which files are listed is nothing."""
    try:
        summary = bundle.json(SUMMARY)
        summary["files"].sort(key=str)
    except (KeyError, TypeError, ValueError):
        return dict(bundle.files)
    return {**bundle.files, SUMMARY: summary}


def weighing(audited: Audited, bundle: Bundle) -> tuple[str, ...]:
    """The rules that tell of more than a note."""
    found = {each.rule for each in audited.objections(bundle) if each.severity is not Severity.NOTE}
    return tuple(sorted(found))


def tried_with(name: str) -> str:
    """The falsifier in whose bundle a file is edited."""
    return next((each for each, names in BESIDES.items() if name in names), name.removesuffix(".json"))


def first_weighing(audited: Audited, bundle: Bundle) -> tuple[str, ...]:
    """One of them, if there is any: the others need not be asked."""
    subject = bundle.subject(audited.here, audited.library)
    weighty = (rule for rule in OF_RUNS if rule.severity is not Severity.NOTE)
    return next(((rule.id,) for rule in weighty if any(True for _ in rule.check(subject))), ())


def only(bundle: Bundle, *falsifiers: str) -> Bundle:
    """The same run, with fewer falsifiers selected, as it was asked for."""
    copy, keyword = hidden(bundle, *falsifiers), " or ".join(falsifiers)

    def change(document: Any) -> None:
        document["requested"]["keyword"] = keyword
        document["provenance"]["argv"] += ["-k", keyword]

    copy.edit(SUMMARY, change)
    return copy


def hidden(bundle: Bundle, *falsifiers: str) -> Bundle:
    """The same run without the others, as if they had never been selected."""
    copy = bundle.copy()
    gone = [name for name in copy.json(SUMMARY)["plan"]["selected"] if name not in falsifiers]

    def change(document: Any) -> None:
        document["plan"]["selected"] = [each for each in document["plan"]["selected"] if each not in gone]
        for counts in (document["plan"]["sizes"], document["plan"]["faults"]):
            for name in gone:
                del counts[name]
        document["findings"] = [each for each in document["findings"] if each["falsifier"] not in gone]
        document["files"] = [each for each in document["files"] if each["file"].partition(".")[0] not in gone]

    copy.edit(SUMMARY, change)
    log = copy.files[LOG].decode().splitlines(keepends=True)
    copy.files[LOG] = "".join(line for line in log if line[25:].partition(" ")[0] not in gone).encode()
    for name in [each for each in copy.files if each.partition(".")[0] in gone]:
        del copy.files[name]
    copy.rehash()
    return copy

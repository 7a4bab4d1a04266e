"""Rules of the contract in a run: it is the one that was attacked, and the plan is its plan."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from refute.audit.identity import entries_of
from refute.audit.rule import ERROR, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.plan import selects
from refute.reader import CONTRACT, SUMMARY

_COMMANDS = ("refute", "__main__.py")  # as a command line begins in a record


@rule(
    ERROR,
    "A run, its findings and its contract bear the name of the contract's folder.",
    "It speaks of another contract.",
)
def contract_name(subject: Subject) -> Iterable[Remark]:
    folder = subject.folder.contract
    if subject.summary is not None and subject.summary["contract"]["id"] != folder:
        yield Remark(SUMMARY, "/contract/id", subject.summary["contract"]["id"], f"{folder}, its folder")
    for filed, finding in subject.findings:
        if finding.contract != folder:
            yield Remark(filed.file, "/contract", finding.contract, f"{folder}, its folder")
    if subject.contract is not None and subject.contract.id != folder:
        yield Remark(CONTRACT, "/id", subject.contract.id, f"{folder}, its folder")


@rule(ERROR, "The contract lies in the run.", "Nothing could be judged again.")
def contract_there(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and CONTRACT not in {entry["file"] for _, entry in entries_of(subject)}:
        yield Remark(SUMMARY, "/files", f"no {CONTRACT}", "the contract that was attacked")


@rule(
    ERROR,
    "The contract in the run is the one that was attacked, byte for byte.",
    "The bar was changed after the attack.",
)
def contract_bytes(subject: Subject) -> Iterable[Remark]:
    source = subject.folder.file(CONTRACT)
    if subject.summary is not None and source is not None:
        found, expected = hashlib.sha256(source).hexdigest(), subject.summary["contract"]["bytes_sha256"]
        if found != expected:
            yield Remark(CONTRACT, "", found, f"{expected}, the contract's digest")


@rule(ERROR, "The contract in the run can be read.", "Nothing can be judged again.")
def contract_readable(subject: Subject) -> Iterable[Remark]:
    if subject.contract_error:
        yield Remark(CONTRACT, "", subject.contract_error, "a contract that this version reads")


@rule(
    ERROR,
    "Version and meaning are those of the contract in the run.",
    "The bar was changed after the attack.",
)
def contract_meaning(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None or subject.contract is None:
        return
    expected = {
        "version": subject.contract.version,
        "semantic_sha256": subject.contract.semantic_sha256,
    }
    for key, value in expected.items():
        found = subject.summary["contract"][key]
        if found != value:
            yield Remark(SUMMARY, f"/contract/{key}", found, f"{value}, of {CONTRACT}")
        for filed, finding in subject.findings:
            said = getattr(finding, f"contract_{key}")
            if said != value:
                yield Remark(filed.file, f"/contract_{key}", said, f"{value}, of {CONTRACT}")


@rule(ERROR, "The plan counts every falsifier of the contract.", "A claim was dropped from sight.")
def contract_plan(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None and subject.contract is not None:
        declared = [falsifier.id for falsifier in subject.contract.falsifiers]
        if subject.summary["plan"]["falsifiers"] != declared:
            found = ", ".join(subject.summary["plan"]["falsifiers"])
            yield Remark(SUMMARY, "/plan/falsifiers", found, ", ".join(declared))


@rule(
    ERROR,
    "The plan has the sizes and the number of faults of the contract, for each that was selected.",
    "Less was planned than the claim asks for.",
)
def plan_sizes(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None or subject.contract is None:
        return
    plan = subject.summary["plan"]
    chosen = [each for each in subject.contract.falsifiers if each.id in plan["selected"]]
    expected = {
        "sizes": {each.id: each.bound.cases or each.bound.runs or 0 for each in chosen},
        "faults": {each.id: len(each.must_catch) for each in chosen},
    }
    for key, counts in expected.items():
        for name in sorted({*counts, *plan[key]}):
            found, wanted = plan[key].get(name), counts.get(name)
            if found != wanted:
                yield Remark(SUMMARY, f"/plan/{key}/{name}", found, f"{wanted}, of the contract")


@rule(
    WARNING,
    "`refute run` selects every falsifier that was asked for: all, or those that -k and -m name.",
    "A finding was taken away, with all that told of it.",
)
def plan_requested(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None or subject.contract is None or subject.summary["resumes"] is not None:
        return  # one that goes on has the plan of the run that it goes on with, which `resumed-same` sees to
    requested, plan = subject.summary["requested"], subject.summary["plan"]
    # pytest has more ways to leave something out, and a record does not hold them; a profile goes by what
    # other records lacked then.
    by_refute = (subject.summary["provenance"]["argv"] or [""])[0] in _COMMANDS
    if not by_refute or requested["profile"] is not None:
        return
    try:
        wanted = selects(requested["keyword"], requested["markers"])
    except ValueError as error:
        yield Remark(SUMMARY, "/requested", str(error), "an expression that pytest reads")
        return
    named = replace(subject.contract, path=Path(f"{subject.contract.id}.yaml"))  # as it was attacked
    asked = [each.id for each in named.falsifiers if wanted(named, each)]
    left = [name for name in asked if name not in plan["selected"]]
    if left:
        every = "all" if len(asked) == len(named.falsifiers) else ", ".join(asked)
        yield Remark(SUMMARY, "/plan/selected", f"not {', '.join(left)}", f"{every}, as requested")


RULES: tuple[Rule[Subject], ...] = (
    contract_name,
    contract_there,
    contract_bytes,
    contract_readable,
    contract_meaning,
    contract_plan,
    plan_sizes,
    plan_requested,
)

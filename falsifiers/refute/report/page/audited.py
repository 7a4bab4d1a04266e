"""What an audit found, by the claims that it concerns: a file is CONTRACT/RUN/FALSIFIER.json."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from refute.audit.rule import Objection, Severity
from refute.reader import Discrepancy
from refute.report.page.data import Problem, Remark

Key = tuple[str, str]  # contract, falsifier


@dataclass(frozen=True, slots=True)
class Audited:
    """of: what weighs, by claim. others: errors that concern no single claim. remarks: what is no error."""

    of: Mapping[Key, Sequence[Objection]]
    others: Sequence[Objection]
    remarks: tuple[Remark, ...]


def sorted_out(objections: Iterable[Objection], declared: Iterable[Key]) -> Audited:
    """Sort what an audit found by declared claims; warnings and notes are also told once for each rule."""
    known = set(declared)
    of: dict[Key, list[Objection]] = defaultdict(list)
    others: list[Objection] = []
    milder: dict[str, list[Objection]] = defaultdict(list)
    for each in objections:
        key = claim_of(each.file)
        if each.severity is not Severity.NOTE and key in known:
            of[key].append(each)
        elif each.severity is Severity.ERROR:
            others.append(each)
        if each.severity is not Severity.ERROR:
            milder[each.rule].append(each)
    remarks = (
        Remark(rule, first.severity, len(more) + 1, first.file, first.found, first.expected)
        for rule, (first, *more) in milder.items()
    )
    return Audited(
        of, others, tuple(sorted(remarks, key=lambda each: (each.severity != "warning", each.rule)))
    )


def claim_of(file: str) -> Key:
    """The claim that a file of a run is about; of any other file it is none that is declared."""
    parts = PurePath(file).parts
    return (parts[-3], parts[-1].partition(".")[0]) if len(parts) >= 3 else ("", "")


def problems_of(
    name: str, anchor: str, objections: Iterable[Objection], discrepancies: Iterable[Discrepancy] = ()
) -> tuple[Problem, ...]:
    """Tell both in one form; what an audit and a reader found at one place is told once."""
    found = {(each.file, each.pointer): _problem(each, name, anchor) for each in objections}
    for each in discrepancies:
        problem = Problem(
            rule="record",
            severity=Severity.ERROR,
            where=each.where,
            pointer=each.pointer,
            found=each.found,
            expected=each.expected,
            claim=anchor,
            name=name,
        )
        found.setdefault((each.where, each.pointer), problem)
    return tuple(found.values())


def _problem(each: Objection, name: str, anchor: str) -> Problem:
    return Problem(
        rule=each.rule,
        severity=each.severity,
        where=each.file,
        pointer=each.pointer,
        found=each.found,
        expected=each.expected,
        claim=anchor,
        name=name,
    )

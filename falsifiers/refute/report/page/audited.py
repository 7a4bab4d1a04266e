"""What an audit found, by the claims that it concerns: a file is CONTRACT/RUN/FALSIFIER.json."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from refute.audit.rule import Objection, Severity
from refute.reader import Discrepancy
from refute.report.page.data import Problem, Remark

Key = tuple[str, str]  # contract, falsifier


@dataclass(frozen=True, slots=True)
class Audited:
    """of: what weighs, by claim. others: what weighs and concerns no single claim. notes: the rest."""

    of: Mapping[Key, Sequence[Objection]] = field(default_factory=dict)
    others: Sequence[Objection] = ()
    notes: tuple[Remark, ...] = ()


def sorted_out(objections: Iterable[Objection], declared: Iterable[Key]) -> Audited:
    """Sort what an audit found by the claims that are declared; notes are told once for each rule."""
    known = set(declared)
    of: dict[Key, list[Objection]] = defaultdict(list)
    others, notes = [], []
    for each in objections:
        key = claim_of(each.file)
        if each.severity is Severity.NOTE:
            notes.append(each)
        elif key in known:
            of[key].append(each)
        else:
            others.append(each)
    times = Counter(each.rule for each in notes)
    first = {each.rule: each for each in reversed(notes)}
    told = tuple(
        Remark(rule, count, first[rule].file, first[rule].found, first[rule].expected)
        for rule, count in sorted(times.items())
    )
    return Audited(of, others, told)


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

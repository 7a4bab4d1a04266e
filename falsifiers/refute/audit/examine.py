"""Apply every rule to every run of some trees, and to all of them together."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.audit.history import History, read_history
from refute.audit.rule import Objection, Remark, Rule, Severity, short
from refute.audit.rules import OF_RUNS, OF_TREES
from refute.audit.subject import Folder, Here, Library, Subject
from refute.audit.trees import Trace, Tree, Trees
from refute.verdict import Exit

SCHEMA = "urn:refute:schema:audit:1"
_ORDER = {severity: place for place, severity in enumerate(Severity)}
_MOST = 20  # objections of one rule to one file; more say nothing new


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. judged: findings whose verdict was derived again. rules: how many applied."""

    trees: tuple[str, ...]
    objections: tuple[Objection, ...]
    runs: int
    findings: int
    judged: int
    rules: int

    def count(self, severity: Severity) -> int:
        """How many objections weigh so much."""
        return sum(each.severity is severity for each in self.objections)

    @property
    def code(self) -> Exit:
        """4 where a record does not count, 5 where there is none."""
        if not self.runs:
            return Exit.MISSING
        return Exit.INVALID if self.count(Severity.ERROR) else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "exit_code": int(self.code)}


def audit(
    trees: Sequence[Path],
    here: Here,
    *,
    runs: Sequence[Rule[Subject]] = OF_RUNS,
    together: Sequence[Rule[Trees]] = OF_TREES,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005 (nobody listens)
) -> Report:
    """Audit trees of records.

    runs, together: the rules. progress: told how many runs of how many are done.
    """
    found = [_look(tree) for tree in trees]
    folders = [folder for _, paths in found for folder in paths]
    objections: list[Objection] = []
    traces = []
    findings = judged = 0
    for done, subject in enumerate(_read(folders, here)):
        progress(done, len(folders))
        objections += examine(subject, runs)
        traces.append(Trace.of(subject))
        findings += len(subject.filed)
        judged += sum(each.rejudged is not None and not each.rejudged.unjudged for each in subject.filed)
    progress(len(folders), len(folders))
    whole = Trees([tree for tree, _ in found], traces)
    for rule in together:
        objections += [_objection(rule, remark, "") for remark in rule.check(whole)]
    return Report(
        tuple(map(str, trees)),
        tuple(
            sorted(objections, key=lambda each: (_ORDER[each.severity], each.file, each.rule, each.pointer))
        ),
        len(folders),
        findings,
        judged,
        len(runs) + len(together),
    )


def subjects_in(trees: Sequence[Path], here: Here) -> Iterator[Subject]:
    """Every run under some trees, one after another."""
    return _read([folder for tree in trees for folder in _look(tree)[1]], here)


def _read(folders: Iterable[Path], here: Here) -> Iterator[Subject]:
    library = Library()
    return (Subject.of(Folder.read(path), here, library) for path in folders)


def examine(subject: Subject, rules: Iterable[Rule[Subject]] = OF_RUNS) -> list[Objection]:
    """Apply rules to one run."""
    objections = []
    for rule in rules:
        per_file: dict[str, int] = {}
        for remark in rule.check(subject):
            per_file[remark.file] = per_file.get(remark.file, 0) + 1
            if per_file[remark.file] <= _MOST:
                objections.append(_objection(rule, remark, subject.folder.path))
    return objections


def _objection(rule: Rule[Any], remark: Remark, folder: str) -> Objection:
    file = "/".join(filter(None, (folder, remark.file)))
    return Objection(
        rule.id, rule.severity, file, remark.pointer, short(remark.found), short(remark.expected)
    )


def _look(tree: Path) -> tuple[Tree, list[Path]]:
    """What lies in a tree: its runs, in the order of their names, and all else."""
    try:
        if not tree.exists():
            return Tree(tree, "no such folder", (), History()), []
        contracts = sorted(each for each in tree.iterdir() if not each.name.startswith("."))
    except OSError as error:
        return Tree(tree, (error.strerror or str(error)).lower(), (), History()), []
    runs, stray = [], []
    for contract in contracts:
        try:
            inside = sorted(contract.iterdir()) if contract.is_dir() else []
        except OSError as error:
            stray.append(f"{contract.name} ({error.strerror})")
            continue
        if not inside:
            stray.append(contract.name)
        for run in inside:
            if run.is_symlink() or run.is_dir():
                runs.append(run)
            elif not run.name.startswith("."):
                stray.append(f"{contract.name}/{run.name}")
    runs.sort(key=lambda path: (path.name, path.parent.name))
    return Tree(tree, "", tuple(stray), read_history(tree)), runs

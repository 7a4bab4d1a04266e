"""What an audit found, as text: what does not hold first, then what is to be known, then the counts."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from refute.audit.examine import Report
from refute.audit.rule import Objection, Rule, Severity
from refute.report.escape import one_line
from refute.report.words import counted

if TYPE_CHECKING:
    from refute.audit.computed import Computed

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
_SHOWN = 30  # objections of one severity; the JSON has all
_LIMIT = 400


def show_audit(report: Report, console: Console) -> None:
    """Print every objection that weighs, each note's rule once, and what was examined."""
    for severity in (Severity.ERROR, Severity.WARNING):
        listed = [each for each in report.objections if each.severity is severity]
        for objection in listed[:_SHOWN]:
            _line(console, str(objection), _STYLES[severity])
        if len(listed) > _SHOWN:
            _line(console, f"{len(listed) - _SHOWN} more {severity}s; --json has them all", _STYLES[severity])
    notes: dict[str, list[Objection]] = {}
    for each in report.objections:
        if each.severity is Severity.NOTE:
            notes.setdefault(each.rule, []).append(each)
    for rule, members in notes.items():
        first = members[0]
        more = f" ({len(members)} times)" if len(members) > 1 else ""
        text = f"note {rule}: {first.file}: found {first.found}, expected {first.expected}{more}"
        _line(console, text, _STYLES[Severity.NOTE])
    if not report.runs:
        _line(console, f"nothing to audit in {', '.join(report.trees)}; expected CONTRACT/RUN/", "bold red")
        return
    errors, warnings, remarks = map(report.count, Severity)
    counts = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}, {counted(remarks, 'note')}"
    read = (
        f"{counted(report.runs, 'run')}, {counted(report.findings, 'finding')}, "
        f"{report.judged} judged again, {report.rules} rules"
    )
    word, style = ("does not hold", "bold red") if errors else ("holds", "bold green")
    _line(console, f"audit: the evidence {word}: {counts} ({read})", style)


def show_engine(computed: "Computed", console: Console) -> None:
    """Print what was computed again."""
    found = computed.challenge
    if found is not None:
        for objection in found.objections[:_SHOWN]:
            _line(console, str(objection), _STYLES[Severity.ERROR])
        for why, many in found.passed_over.items():
            _line(console, f"note challenge: {counted(many, 'finding')} passed over: {why}", "dim")
        differ = len({(each.file, each.pointer.partition("/samples")[0]) for each in found.objections})
        parts = [
            f"{found.exact} agree bit for bit" if found.exact else "",
            f"{found.near} agree within their bounds" if found.near else "",
            f"{differ} differ" if differ else "",
            f"the cases of {counted(found.plans, 'claim')} follow from their seeds" if found.plans else "",
        ]
        told = ", ".join(filter(None, parts)) or "nothing could be computed again"
        style = "bold green" if found.code == 0 else "bold red"
        _line(console, f"challenge {found.nonce}: of {counted(found.cases, 'case')}, {told}", style)
    for each in computed.reproductions:
        figures = ""
        if each.recorded_figure is not None and each.figure is not None:
            figures = f" ({each.recorded_figure:.4g} {each.unit} then, {each.figure:.4g} now)"
        told = f"not reproduced: {each.differs}" if each.differs else "reproduced"
        style = "bold red" if each.differs else "bold green"
        _line(console, f"{each.claim}: {each.recorded} in {each.file}; {told}{figures}", style)


def show_rules(rules: Iterable[Rule[Any]], console: Console) -> None:
    """Print the table of rules."""
    rules = list(rules)
    width = 2 + max(len(rule.id) for rule in rules)
    for rule in rules:
        _line(console, f"{rule.severity:<8}{rule.id:<{width}}{rule.says} Else: {rule.why}", "")


def _line(console: Console, text: str, style: str) -> None:
    """One line without control characters: a record may hold anything."""
    console.print(Text(one_line(text, _LIMIT), style), soft_wrap=True)


def rules_as_data(rules: Iterable[Rule[Any]]) -> list[dict[str, str]]:
    """The table of rules as plain data."""
    return [
        {"id": each.id, "severity": str(each.severity), "says": each.says, "why": each.why} for each in rules
    ]


class Progress:
    """How far a long audit is, on a terminal; nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        columns = TextColumn("auditing"), BarColumn(), MofNCompleteColumn()
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, of: int) -> None:
        """Show that so many runs of so many are done."""
        self._bar.update(self._task, completed=done, total=of)

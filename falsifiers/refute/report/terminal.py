"""Status and decisions on a terminal: tables there, one line per claim where the output is no terminal.

Lines are stable, for grep and logs: status, claim, level, figure, reason, command, with two spaces
between. Nothing that comes from a record is read as markup, and control characters are shown, not sent.
"""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refute.gate import Decision, Ruling
from refute.report.words import short
from refute.status import Claim, Overview, by_status
from refute.verdict import Status

STATUS_STYLES = {
    Status.TAMPERED: "bold red",
    Status.FALSIFIED: "bold red",
    Status.INVALID: "magenta",
    Status.ERROR: "bold magenta",
    Status.STALE: "yellow",
    Status.BLOCKED: "yellow",
    Status.UNOBSERVED: "yellow",
    Status.INCONCLUSIVE: "yellow",
    Status.OPEN: "cyan",
    Status.WAIVED: "dim",
    Status.DISCHARGED: "green",
}
_RULING_STYLES = {"passes": "green", "outside": "dim", "fails": "bold red"}
_WIDE = 100
_LIMIT = 300


def show_status(overview: Overview, console: Console) -> None:
    """Print every claim, what blocks it and what clears that, and the counts."""
    if not console.is_terminal:
        for claim in overview.claims:
            _line(console, _status_fields(claim))
    else:
        wide = console.width >= _WIDE
        columns = ["claim", "status", "level", *(["figure"] if wide else [])]
        table = _table(columns, wide=wide, last="what blocks it")
        for contract, claims in _by_contract(overview.claims):
            table.add_row(Text(contract, "bold"))
            for claim in claims:
                table.add_row(
                    f"  {claim.falsifier}",
                    Text(claim.status, STATUS_STYLES[claim.status]),
                    claim.level or "none",
                    *([Text(_clean(claim.figure))] if wide else []),
                    _blocking(claim.reason, claim.command),
                )
        console.print(table)
    counts = by_status(overview.claims)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
    _line(console, [f"claims: {counted}; runs read: {overview.runs}"])
    for run in overview.unclaimed:
        _line(console, [f"not counted: {run}, whose contract was not given"])


def show_decision(decision: Decision, console: Console) -> None:
    """Print the ruling on every claim, then the decision."""
    if not console.is_terminal:
        for ruling in decision.rulings:
            _line(console, _ruling_fields(ruling))
    else:
        table = _table(["claim", "ruling"], wide=console.width >= _WIDE, last="why")
        rulings = {(each.claim.contract, each.claim.falsifier): each for each in decision.rulings}
        for contract, claims in _by_contract(each.claim for each in decision.rulings):
            table.add_row(Text(contract, "bold"))
            for claim in claims:
                ruling = rulings[claim.contract, claim.falsifier]
                why = _blocking(ruling.reason, ruling.command)
                if ruling.note:
                    why.append(f"{chr(10) if why.plain else ''}{ruling.note}", "dim")
                table.add_row(
                    f"  {claim.falsifier}", Text(ruling.outcome, _RULING_STYLES[ruling.outcome]), why
                )
        console.print(table)
    outcomes = [ruling.outcome for ruling in decision.rulings]
    counts = ", ".join(f"{outcomes.count(each)} {word}" for each, word in _WORDS if each in outcomes)
    verdict = "open" if decision.passes else "closed"
    parts = [
        f"gate {decision.profile}: {verdict}",
        counts,
        decision.reason,
        f"exit code {int(decision.code)}",
    ]
    style = "green" if decision.passes else "bold red"
    _line(console, ["; ".join(filter(None, parts))], style=style)


_WORDS = (("passes", "pass"), ("outside", "do not apply"), ("fails", "fail"))


def _status_fields(claim: Claim) -> list[str]:
    name = f"{claim.contract}/{claim.falsifier}"
    return [claim.status, name, claim.level or "none", claim.figure, claim.reason, claim.command]


def _ruling_fields(ruling: Ruling) -> list[str]:
    name = f"{ruling.claim.contract}/{ruling.claim.falsifier}"
    return [ruling.outcome, name, ruling.reason, ruling.command, ruling.note]


def _table(columns: Iterable[str], *, wide: bool, last: str) -> Table:
    """A table whose words wrap; on narrow terminals ids wrap too, nothing is cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=wide and name != "figure", overflow="fold")
    table.add_column(last, overflow="fold")
    return table


def _by_contract(claims: Iterable[Claim]) -> list[tuple[str, list[Claim]]]:
    grouped: dict[str, list[Claim]] = {}
    for claim in claims:
        grouped.setdefault(claim.contract, []).append(claim)
    return list(grouped.items())


def _blocking(reason: str, command: str) -> Text:
    """The reason, and below it the command that clears it."""
    text = Text(_clean(reason))
    if command:
        text.append(f"{chr(10) if reason else ''}$ {_clean(command)}", "bold")
    return text


def _line(console: Console, fields: Iterable[str], *, style: str = "") -> None:
    text = "  ".join(_clean(field) for field in fields if field)
    console.print(Text(text, style), soft_wrap=True)


def _clean(text: str) -> str:
    """One line without control characters: a record may hold anything."""
    line = short(text, _LIMIT)
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in line)

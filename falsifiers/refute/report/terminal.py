"""Status and decisions: tables on a terminal, one line per claim where the output is none.

Lines are stable, for grep and logs: status, claim, level, figure, reason, remedy, command, with two spaces
between. Nothing that comes from a record is read as markup, and control characters are shown, not sent.
"""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refute.clearing import together
from refute.gate import Decision, Ruling
from refute.report.escape import one_line
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
_RULING_STYLES = {"passes": "green", "waived": "yellow", "outside": "dim", "fails": "bold red"}
_WIDE = 100
_LONG = 1_000  # characters of a field: commands that name several contracts


def show_status(overview: Overview, console: Console) -> None:
    """Print every claim, what blocks it and what clears that, and the counts."""
    if console.is_terminal:
        columns = ("claim", "status", "holds at", "discharged by", "newest figure")
        table = _table(columns, wide=console.width >= _WIDE)
        for contract, claims in _by_contract(overview.claims):
            table.add_row(Text(contract, "bold"))
            for claim in claims:
                status = Text(claim.status, STATUS_STYLES[claim.status])
                figure = Text(one_line(claim.figure))
                table.add_row(f"  {claim.falsifier}", status, claim.level or "-", claim.discharge, figure)
        console.print(table)
        blocked = [claim for claim in overview.claims if claim.status is not Status.DISCHARGED]
        _say_why(console, ((each.status, each.reason, each) for each in blocked))
    else:
        for claim in overview.claims:
            _line(console, _status_fields(claim))
    for discrepancy in (found for claim in overview.claims for found in claim.discrepancies[1:]):
        _line(console, [f"also tampered: {discrepancy}"])
    _say_flags(console, overview.claims, overview.unused)
    for run in overview.unclaimed:
        _line(console, [f"not counted: {run}, whose contract was not given"])
    counts = by_status(overview.claims)
    counted = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none"
    _line(console, [f"claims: {counted}; runs read: {overview.runs}"])


def show_decision(decision: Decision, console: Console) -> None:
    """Print the ruling on every claim, then the decision."""
    if console.is_terminal:
        table = _table(("claim", "ruling", "status", "left to do"), wide=console.width >= _WIDE)
        rulings = {(each.claim.contract, each.claim.falsifier): each for each in decision.rulings}
        for contract, claims in _by_contract(each.claim for each in decision.rulings):
            table.add_row(Text(contract, "bold"))
            for claim in claims:
                ruling = rulings[claim.contract, claim.falsifier]
                outcome = Text(ruling.outcome, _RULING_STYLES[ruling.outcome])
                status = Text(claim.status, STATUS_STYLES[claim.status])
                table.add_row(f"  {claim.falsifier}", outcome, status, Text(one_line(ruling.note)))
        console.print(table)
        noted = [ruling for ruling in decision.rulings if ruling.reason]
        _say_why(console, ((each.outcome, each.reason, each) for each in noted))
    else:
        for ruling in decision.rulings:
            _line(console, _ruling_fields(ruling))
    _say_flags(console, (ruling.claim for ruling in decision.rulings), decision.unused)
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


_WORDS = (("passes", "pass"), ("waived", "waived"), ("outside", "do not apply"), ("fails", "fail"))


def _status_fields(claim: Claim) -> list[str]:
    level = claim.level or "none"
    return [claim.status, claim.name, level, claim.figure, claim.reason, claim.remedy, claim.command]


def _ruling_fields(ruling: Ruling) -> list[str]:
    name = f"{ruling.claim.contract}/{ruling.claim.falsifier}"
    return [ruling.outcome, name, ruling.reason, ruling.remedy, ruling.command, ruling.note]


def _table(columns: Sequence[str], *, wide: bool) -> Table:
    """A table whose last column wraps; on narrow terminals all do, so that nothing is cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=wide and name != columns[-1], overflow="fold")
    return table


def _by_contract(claims: Iterable[Claim]) -> list[tuple[str, list[Claim]]]:
    grouped: dict[str, list[Claim]] = {}
    for claim in claims:
        grouped.setdefault(claim.contract, []).append(claim)
    return list(grouped.items())


def _say_why(console: Console, rows: Iterable[tuple[str, str, Claim | Ruling]]) -> None:
    """Print label and reason once for all claims that share them, and one command that clears them all.

    Lines are not wrapped, so that commands can be copied.
    """
    groups: dict[tuple[str, str, str], list[Claim | Ruling]] = {}
    for label, reason, each in rows:
        groups.setdefault((label, reason, each.remedy), []).append(each)
    for (label, reason, remedy), members in groups.items():
        names = ", ".join(_claim_of(each).falsifier for each in members)
        _line(console, [f"{label}: {reason} ({names})"])
        if remedy:
            _line(console, [f"    {remedy}:"])
        command = together([each.command for each in members])
        if command:
            _line(console, [f"    $ {command}"], style="bold")
        else:
            _line(console, [f"    $ {members[0].command}"], style="bold")
            _line(console, ["    clears the first of them; for the others: refute status CLAIM"])


def _claim_of(each: Claim | Ruling) -> Claim:
    return each.claim if isinstance(each, Ruling) else each


def _say_flags(console: Console, claims: Iterable[Claim], unused: Iterable[str]) -> None:
    """Say what somebody decided or moved, and what the policy says of nothing here."""
    for claim in claims:
        for flag in claim.flags:
            _line(console, [f"flagged: {claim.name}: {flag}"], style="bold yellow")
    for each in unused:
        _line(console, [f"not used: {each}"])


def _line(console: Console, fields: Iterable[str], *, style: str = "") -> None:
    text = "  ".join(one_line(field, _LONG) for field in fields if field)
    console.print(Text(text, style), soft_wrap=True)

"""How `refute status` and `refute gate` look: one row for every claim, then why, and what would change it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from refute.report.words import short
from refute.verdict import Status

if TYPE_CHECKING:
    from rich.console import Console

    from refute.gate import Decision
    from refute.status import Overview

_STYLES: Mapping[Status, str] = {
    Status.TAMPERED: "bold red",
    Status.FALSIFIED: "bold red",
    Status.INVALID: "magenta",
    Status.ERROR: "magenta",
    Status.WAIVED: "dim",
    Status.DISCHARGED: "green",
}
_OUTCOMES = {"passes": "green", "outside": "dim", "fails": "bold red"}


def show_status(overview: "Overview", console: "Console") -> None:
    """Print every claim with its status, and what to do about those that are not discharged."""
    table = _table("claim", "status", "holds at", "discharged by", "newest figure")
    contract = ""
    for claim in overview.claims:
        if claim.contract != contract:
            contract = claim.contract
            table.add_row(Text(contract, "bold"))
        table.add_row(
            f"  {claim.falsifier}",
            Text(claim.status.value, _STYLES.get(claim.status, "yellow")),
            claim.level.value if claim.level else "-",
            claim.discharge.value,
            claim.figure,
        )
    console.print(table)
    _say_why(
        console,
        (
            (claim.status.value, claim.reason, claim.falsifier, claim.command)
            for claim in overview.claims
            if claim.status is not Status.DISCHARGED
        ),
    )
    for claim in overview.claims:
        for discrepancy in claim.discrepancies:
            console.print(Text(f"tampered: {discrepancy}"), soft_wrap=True)
    for run in overview.unclaimed:
        console.print(Text(f"unclaimed: {run}: no contract here declares it"), soft_wrap=True)
    counts = Counter(claim.status.value for claim in overview.claims)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    console.print(f"{len(overview.claims)} claims from {overview.runs} records: {summary}", soft_wrap=True)


def show_decision(decision: "Decision", console: "Console") -> None:
    """Print the ruling on every claim, and the decision last."""
    table = _table("claim", "gate", "status", "note")
    contract = ""
    for ruling in decision.rulings:
        if ruling.claim.contract != contract:
            contract = ruling.claim.contract
            table.add_row(Text(contract, "bold"))
        table.add_row(
            f"  {ruling.claim.falsifier}",
            Text(ruling.outcome, _OUTCOMES[ruling.outcome]),
            ruling.claim.status.value,
            ruling.note or ruling.reason,
        )
    console.print(table)
    failing = [ruling for ruling in decision.rulings if ruling.outcome == "fails"]
    _say_why(
        console,
        (("fails", ruling.reason, ruling.claim.falsifier, ruling.command) for ruling in failing),
    )
    style, word = ("bold green", "passes") if decision.passes else ("bold red", "does not pass")
    why = decision.reason or f"{len(decision.rulings) - len(failing)} of {len(decision.rulings)} claims"
    console.print(
        Text(f"gate {decision.profile}: {word} ({why}; {decision.runs} records)", style), soft_wrap=True
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        last = place == len(columns) - 1
        table.add_column(name, no_wrap=not last, overflow="fold" if last else "ellipsis")
    return table


def _say_why(console: "Console", rows: Iterable[tuple[str, str, str, str]]) -> None:
    """Print label and reason once for all claims that share them, with the command for the first."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, reason, falsifier, command in rows:
        groups.setdefault((label, reason), []).append((falsifier, command))
    for (label, reason), members in groups.items():
        names = ", ".join(falsifier for falsifier, _ in members)
        console.print(Text(f"{label}: {short(reason, 300)} ({names})"), soft_wrap=True)
        if members[0][1]:
            console.print(Text(f"    {members[0][1]}", "dim"), soft_wrap=True)

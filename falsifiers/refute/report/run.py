"""What a run shows at its end: the table of claims, what is not green in words, where the records lie."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from refute.explain import explain
from refute.finding import demanded
from refute.report.words import STYLES, seconds, shown
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.ledger import Ledger

_QUIET = (Verdict.SURVIVED, Verdict.NOT_APPLICABLE)


def claims_table(ledger: "Ledger") -> RenderableType:
    """One row for every declared falsifier, in the order of the contracts; the unobserved too."""
    table = _table("claim", "verdict", "figure against bound", "faults caught", "time")
    found = {(finding.contract, finding.falsifier): finding for finding in ledger.findings}
    for contract in ledger.contracts.values():
        table.add_row(Text(f"{contract.id} {contract.version}", "bold"))
        for falsifier in contract.falsifiers:
            finding = found.get((contract.id, falsifier.id))
            name = f"  {falsifier.id}"
            if finding is None:
                table.add_row(
                    name, Text("unobserved", "yellow"), Text("not attacked in this run", "dim"), "", ""
                )
                continue
            table.add_row(
                name,
                Text(finding.verdict.value, STYLES[finding.verdict]),
                finding.figure or Text(finding.reason, "dim"),
                _caught(finding),
                seconds(finding.seconds),
            )
    return table


def fault_matrix(ledger: "Ledger") -> RenderableType:
    """One row for every fault that a falsifier must catch: whether it did, and the smallest dose caught."""
    table = _table("fault", "dose", "", "smallest caught", "planted in")
    for finding in ledger.findings:
        table.add_row(Text(f"{finding.contract}/{finding.falsifier}", "bold"))
        smallest = {each.fault: each.smallest_caught for each in finding.sensitivity}
        for trial in demanded(finding.faults):
            least = smallest.get(trial.name)
            table.add_row(
                f"  {trial.name}",
                f"{trial.dose:g} {trial.unit}",
                Text("caught", "green") if trial.caught else Text("MISSED", "bold red"),
                "none" if least is None else f"{least:g} {trial.unit}",
                trial.planted,
            )
        if not demanded(finding.faults):
            table.add_row(Text(f"  {finding.verdict}: {finding.reason}", "dim"))
    return table


def show(ledger: "Ledger", console: Console, *, faults_only: bool) -> None:
    """Print all of it."""
    console.print()
    console.print(fault_matrix(ledger) if faults_only else claims_table(ledger))
    for finding in ledger.findings:
        if finding.verdict in _QUIET or (faults_only and finding.verdict is Verdict.INCONCLUSIVE):
            continue
        falsifier = next(
            f for f in ledger.contracts[finding.contract].falsifiers if f.id == finding.falsifier
        )
        where = f"{shown(ledger.contracts[finding.contract].path)}:{falsifier.line}"
        record = ledger.records.get((finding.contract, finding.falsifier))
        console.print(Text(explain(finding, where, record)), soft_wrap=True)
        console.print()
    for folder in record_folders(ledger):
        console.print(f"record  {shown(folder)}", soft_wrap=True)


def plain_summary(ledger: "Ledger", *, width: int, color: bool) -> list[str]:
    """The table and the records as lines, for whoever has a terminal of their own."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=color, no_color=not color, highlight=False)
    console.print(claims_table(ledger) if ledger.evidence is not None else fault_matrix(ledger))
    for folder in record_folders(ledger):
        console.print(f"record  {shown(folder)}", soft_wrap=True)
    return text.getvalue().splitlines()


def record_folders(ledger: "Ledger") -> list[Path]:
    """The run's folders, one for each contract."""
    if ledger.evidence is None:
        return []
    return [ledger.evidence / id / ledger.run for id, falsifiers in ledger.selected.items() if falsifiers]


def as_data(ledger: "Ledger", code: int) -> dict[str, Any]:
    """The run as JSON data; all that it found is in the records that it names."""
    return {
        "schema": "urn:refute:schema:run:1",
        "run": ledger.run,
        "exit": code,
        "records": [str(folder) for folder in record_folders(ledger)],
        "findings": [
            {
                "contract": finding.contract,
                "falsifier": finding.falsifier,
                "verdict": finding.verdict.value,
                "figure": finding.figure,
                "reason": finding.reason,
                "faults": {str(trial.name): trial.caught for trial in demanded(finding.faults)},
                "seconds": finding.seconds,
            }
            for finding in ledger.findings
        ],
        "unobserved": [
            {"contract": contract, "falsifier": falsifier} for contract, falsifier in ledger.unobserved
        ],
    }


def _table(*columns: str) -> Table:
    """A table whose first two columns never wrap."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for place, name in enumerate(columns):
        table.add_column(name, no_wrap=place < 2, overflow="fold")
    return table


def _caught(finding: "Finding") -> Text:
    trials = demanded(finding.faults)
    caught = sum(trial.caught for trial in trials)
    if not trials:
        return Text("")
    return Text(f"{caught} of {len(trials)}", "" if caught == len(trials) else "bold red")

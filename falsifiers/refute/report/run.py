"""What a run shows at its end: the table of claims, what is not green in words, where the records lie."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.text import Text

from refute.explain import explain
from refute.finding import demanded
from refute.matrix import Matrix
from refute.report.faults import declared_table, every_table, findings_of
from refute.report.words import STYLES, seconds, shown, table
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.gate import Decision
    from refute.ledger import Ledger

_QUIET = (Verdict.SURVIVED, Verdict.NOT_APPLICABLE)


def claims_table(ledger: "Ledger") -> RenderableType:
    """One row for every declared falsifier, in the order of the contracts; the unobserved too."""
    rows = table("claim", "verdict", "figure against bound", "faults caught", "time")
    found = {(finding.contract, finding.falsifier): finding for finding in ledger.findings}
    for contract in ledger.contracts.values():
        rows.add_row(Text(f"{contract.id} {contract.version}", "bold"))
        for falsifier in contract.falsifiers:
            finding = found.get((contract.id, falsifier.id))
            name = f"  {falsifier.id}"
            if finding is None:
                rows.add_row(
                    name, Text("unobserved", "yellow"), Text("not attacked in this run", "dim"), "", ""
                )
                continue
            rows.add_row(
                name,
                Text(finding.verdict.value, STYLES[finding.verdict]),
                finding.figure or Text(finding.reason, "dim"),
                _caught(finding),
                seconds(finding.seconds),
            )
    return rows


def show(ledger: "Ledger", console: Console, *, faults_only: bool) -> None:
    """Print all of it."""
    console.print()
    for part in _faults(ledger) if faults_only else [claims_table(ledger)]:
        console.print(part)
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
    for part in _faults(ledger) if ledger.evidence is None else [claims_table(ledger)]:
        console.print(part)
    for folder in record_folders(ledger):
        console.print(f"record  {shown(folder)}", soft_wrap=True)
    return text.getvalue().splitlines()


def record_folders(ledger: "Ledger") -> list[Path]:
    """The run's folders, one for each contract."""
    return [folder for folder in ledger.folders if folder.is_dir()]  # none where none could be written


def as_data(ledger: "Ledger", code: int, decision: "Decision | None" = None) -> dict[str, Any]:
    """The run as JSON data; all that it found is in the records that it names, or in the matrix of faults.

    decision: the gate's, after the run.
    """
    matrix = {} if ledger.evidence is not None else {"matrix": Matrix.of(ledger.findings).to_json()}
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
        **({} if decision is None else {"decision": decision.to_json()}),
        **matrix,
    }


def _faults(ledger: "Ledger") -> list[RenderableType]:
    """The cells that contracts declare; where every fault was tried, also what that shows."""
    matrix = Matrix.of(ledger.findings)
    parts = [declared_table(matrix)]
    if any(not cell.must for cell in matrix.cells):
        parts += [every_table(matrix), *findings_of(matrix)]
    return parts


def _caught(finding: "Finding") -> Text:
    trials = demanded(finding.faults)
    caught = sum(trial.caught for trial in trials)
    if not trials:
        return Text("")
    return Text(f"{caught} of {len(trials)}", "" if caught == len(trials) else "bold red")

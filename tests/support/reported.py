"""Records that show everything that a report can show, and what is made of them."""

import dataclasses
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from records import (
    EMBEDDED,
    GREEN,
    OTHER,
    PRESENT,
    RED,
    STRADDLING,
    contract_at,
    edit,
    finding,
    kinds,
    opened,
    run_id,
    write_run,
)

from refute.contract import Contract
from refute.report.page.data import Report
from refute.report.page.gather import gather

TELEMETRY = """\
{"t_ns": 0, "at": "2026-11-24T00:00:03.000Z", "cpu_percent": null, "rss_bytes": 1048576, "gpus": []}
{"t_ns": 1000000000, "at": "2026-11-24T00:00:04.000Z", "cpu_percent": 40.0, "rss_bytes": 2097152, "gpus": []}
{"t_ns": 2000000000, "at": "2026-11-24T00:00:05.000Z", "cpu_percent": 90.0, "rss_bytes": 1048576, "gpus": []}
"""
MADE = "2026-11-30T12:00:00.000Z"


def everything(folder: Path) -> tuple[Contract, Path]:
    """Green, falsified, straddling and missed on two models and two hosts; one run was edited."""
    contract, tree = contract_at(folder / "contracts"), folder / "evidence"
    write_run(tree, contract, number=1, values=GREEN)
    write_run(tree, contract, number=2, values={**STRADDLING, "exact": (1, 2, 3), "small": (1, 2, 3)})
    writer = opened(tree, contract, ["exact"], run=run_id(3), testbed="c" * 64)
    (writer.path / "telemetry.jsonl").write_text(TELEMETRY)
    writer.write(finding(contract, "exact", writer.run, values=RED, model=OTHER))
    writer.seal()
    write_run(tree, contract, ["floor"], number=4, caught=False, model=EMBEDDED)
    edited = write_run(tree, contract, ["small"], number=5)
    edit(edited / "small.json", lambda finding: finding.update(figure="999 cases"), rehash=False)
    return contract, tree


def reported(contract: Contract, *trees: Path, **how: Any) -> Report:
    return gather([contract], trees, present=PRESENT, kinds=kinds, made=MADE, **how)


def rewritten(value: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text in it changed; words of the vocabulary and anchors stay."""
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return change(value) if value else value
    if isinstance(value, tuple):
        return tuple(rewritten(each, change) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = ("anchor", "claim", "state", "change") if not isinstance(value, Report) else ()
        changes = {
            each.name: rewritten(getattr(value, each.name), change)
            for each in dataclasses.fields(value)
            if each.name not in kept
        }
        return dataclasses.replace(value, **changes)
    return value

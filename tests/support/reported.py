"""Records that show everything that a report can show, and what is made of them."""

import dataclasses
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from records import EMBEDDED, GREEN, OTHER, PRESENT, RED, STRADDLING, contract_at, edit, kinds, write_run

from refute.contract import Contract
from refute.report.page.data import Report
from refute.report.page.gather import gather

MADE = "2026-11-30T12:00:00.000Z"


def everything(folder: Path) -> tuple[Contract, Path]:
    """Green, falsified, straddling and missed on two models and two hosts; one run was edited."""
    contract, tree = contract_at(folder / "contracts"), folder / "evidence"
    write_run(tree, contract, number=1, values=GREEN)
    write_run(tree, contract, number=2, values={**STRADDLING, "exact": (1, 2, 3), "small": (1, 2, 3)})
    write_run(tree, contract, ["exact"], number=3, values=RED, model=OTHER, testbed="c" * 64)
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

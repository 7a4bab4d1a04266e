"""Faults against falsifiers: which cells are caught, which faults nobody catches, who is never alone.

A *cell* is one fault planted for one falsifier. A fault that was planted and that no falsifier caught is a
hole in the contracts. A falsifier that catches no fault which all others miss is perhaps superfluous: its
claim may still be worth its own sentence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refute.finding import FaultTrial, Finding

SCHEMA = "urn:refute:schema:faults:1"


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault, planted for one falsifier at the dose it starts with.

    must: the contract names it. smallest_caught: of all doses that were tried; None where none was caught.
    planted: `target`, `stand-in` or `nowhere`.
    """

    falsifier: str
    fault: str
    dose: float
    unit: str
    must: bool
    planted: str
    caught: bool
    smallest_caught: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All cells of a run, by falsifier. unattacked: falsifiers without cells, and why."""

    cells: tuple[Cell, ...]
    unattacked: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> "Matrix":
        """Collect the cells of findings."""
        cells: list[Cell] = []
        unattacked = []
        for finding in findings:
            name = f"{finding.contract}/{finding.falsifier}"
            if not finding.faults:
                unattacked.append((name, f"{finding.verdict}: {finding.reason}"))
            trials: dict[str, list[FaultTrial]] = {}
            for trial in finding.faults:
                trials.setdefault(trial.name, []).append(trial)
            cells += [_cell(name, doses) for doses in trials.values()]
        return cls(tuple(cells), tuple(unattacked))

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault that was tried, in the order in which it first was."""
        return tuple(dict.fromkeys(cell.fault for cell in self.cells))

    def catchers(self, fault: str) -> tuple[str, ...]:
        """The falsifiers that caught it."""
        return tuple(cell.falsifier for cell in self.cells if cell.fault == fault and cell.caught)

    @property
    def _planted(self) -> frozenset[str]:
        return frozenset(cell.fault for cell in self.cells if cell.planted != "nowhere")

    @property
    def holes(self) -> tuple[str, ...]:
        """Faults that were planted and that nobody caught."""
        planted = self._planted
        return tuple(fault for fault in self.faults if fault in planted and not self.catchers(fault))

    @property
    def unplanted(self) -> tuple[str, ...]:
        """Faults that could be planted nowhere, so that nothing is known of them."""
        planted = self._planted
        return tuple(fault for fault in self.faults if fault not in planted)

    @property
    def never_alone(self) -> tuple[str, ...]:
        """Falsifiers that caught something, and each of it others caught too."""
        caught = {cell.falsifier: False for cell in self.cells if cell.caught}
        for fault in self.faults:
            catchers = self.catchers(fault)
            if len(catchers) == 1:
                caught[catchers[0]] = True
        return tuple(falsifier for falsifier, alone in caught.items() if not alone)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema": SCHEMA,
            "cells": [asdict(cell) for cell in self.cells],
            "holes": list(self.holes),
            "unplanted": list(self.unplanted),
            "never_alone": list(self.never_alone),
            "unattacked": [{"falsifier": name, "reason": reason} for name, reason in self.unattacked],
        }


def _cell(falsifier: str, doses: Sequence[FaultTrial]) -> Cell:
    """Of one fault's trials, severest first."""
    first = doses[0]
    caught = [trial.dose for trial in doses if trial.caught]
    return Cell(
        falsifier=falsifier,
        fault=first.name,
        dose=first.dose,
        unit=first.unit,
        must=first.must,
        planted=first.planted,
        caught=first.caught,
        smallest_caught=caught[-1] if caught else None,
        reason=first.reason,
    )

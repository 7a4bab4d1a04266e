"""Hooks that the plugin calls; a display, or a project of its own, implements them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.trials import Stage


@pytest.hookspec
def pytest_refute_plan(contracts: dict[str, list[str]]) -> None:
    """Called once, before the first attack: contract ids with the falsifiers that were selected."""


@pytest.hookspec
def pytest_refute_stage(contract: str, stage: "Stage") -> None:
    """Called in the process that attacks, whenever an attack goes on; never blocks for long."""


@pytest.hookspec
def pytest_refute_note(sentence: str) -> None:
    """Called in the controlling process, once per sentence: what the target said when it was opened."""


@pytest.hookspec
def pytest_refute_finding(finding: "Finding", record: Path | None) -> None:
    """Called in the controlling process once a finding is on the disk (record: None if it is not kept)."""

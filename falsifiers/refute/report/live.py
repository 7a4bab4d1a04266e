"""What a run shows while it runs: one line per verdict, and on a terminal where the attack is."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

import refute
from refute.finding import demanded
from refute.report.words import STYLES, counted, seconds, short
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.trials import Stage


class Live:
    """Lines on a console; on a terminal also a moving one, which nothing that a falsifier prints disturbs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._total = 0
        self._done = 0
        self._current = ""
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._status = self.console.status("reading contracts")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, sentence: str) -> None:
        """Show a sentence, also between two lines of whatever runs."""
        with suppress(OSError):
            os.write(self.console.file.fileno(), f"\n{sentence}\n".encode())

    def head(self, lines: Sequence[str]) -> None:
        """Say what is attacked."""
        first, *rest = lines
        self.console.print(Text(f"refute {refute.__version__} {first}", "bold"), soft_wrap=True)
        for line in rest:
            self.console.print(Text(line), soft_wrap=True)

    def plan(self, contracts: Mapping[str, Sequence[str]]) -> None:
        """Say how much there is to do."""
        self._total = sum(map(len, contracts.values()))
        self.console.print(f"{counted(self._total, 'falsifier')} of {counted(len(contracts), 'contract')}\n")

    def stage(self, contract: str, stage: "Stage") -> None:
        """Show where the attack is."""
        if self._status is None:
            return
        name = f"{contract}/{stage.falsifier}"
        if name != self._current:
            self._current, self._since = name, time.monotonic()
        cases = f" {stage.done}/{stage.total}" if stage.done else ""
        spent = seconds(time.monotonic() - self._since)
        self._status.update(
            f"[{self._done + 1}/{self._total}] [bold]{stage.falsifier}[/bold]: {stage.doing}{cases}, {spent}"
        )

    def finding(self, finding: "Finding", *, faults_only: bool) -> None:
        """Show a verdict; where only faults were planted, how many were caught."""
        self._done += 1
        faults = demanded(finding.faults)
        caught = sum(trial.caught for trial in faults)
        line = Text()
        if faults_only and finding.verdict is Verdict.INCONCLUSIVE:  # nothing was attacked
            line.append(f"{'caught':<14}", "green")
        else:
            line.append(f"{finding.verdict.value:<14}", STYLES[finding.verdict])
        line.append(f" {finding.falsifier:<32} ")
        line.append(f"{seconds(finding.seconds):>7}  ", "dim")
        figure = f"{caught} of {len(faults)} faults" if faults_only and faults else finding.figure
        line.append(short(figure or finding.reason, 80))
        self.console.print(line, soft_wrap=True)

"""What a run shows while it runs: one line per verdict, and on a terminal where the attack is."""

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

import refute
from refute.finding import demanded
from refute.report.output import Unshown
from refute.report.progress import Advance, Key
from refute.report.words import STYLES, counted, seconds, short
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.trials import Stage


class Live:
    """Lines on a console; on a terminal also a moving one, which nothing that a falsifier prints disturbs.

    Elsewhere a line comes now and then that says how far it is. period: seconds between two of them.
    expected: what each falsifier may take, in seconds; least: those that take that at least.
    """

    def __init__(
        self,
        console: Console,
        *,
        expected: Mapping[Key, float | None] | None = None,
        least: Collection[Key] = (),
        workers: int = 1,
        period: float = 30.0,
    ) -> None:
        self.console = console
        self._status: Status | None = None
        self._expected = expected or {}
        self._least = least
        self._workers = workers
        self._period = period
        self._advance = Advance({}, workers)
        self._total = 0
        self._stage: Stage | None = None
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._status = self.console.status("reading contracts")
            self._status.start()
        else:
            self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._status is not None:
            self._status.stop()
        else:
            self._beating.join()

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

    def plan(self, contracts: Mapping[str, Sequence[str]], taken_over: Sequence["Finding"] = ()) -> None:
        """Say how much there is to do. taken_over: what an earlier run found of it."""
        keys = [(id, falsifier) for id, falsifiers in contracts.items() for falsifier in falsifiers]
        done = {(finding.contract, finding.falsifier) for finding in taken_over}
        self._total = len(keys) - len(done)
        typical = sum(finding.seconds for finding in taken_over) / len(done) if done else None
        expected = {key: self._expected.get(key, typical) for key in keys if key not in done}
        self._advance = Advance(expected, self._workers, self._least)
        told = f"{counted(len(keys), 'falsifier')} of {counted(len(contracts), 'contract')}"
        self.console.print(f"{told}{f', {len(done)} of them taken over' if done else ''}\n")

    def note(self, sentence: str) -> None:
        """Show what the target said when it was opened."""
        self.console.print(Text(sentence, "dim"), soft_wrap=True)

    def stage(self, contract: str, stage: "Stage") -> None:
        """Show where the attack is."""
        self._advance.at((contract, stage.falsifier))
        self._stage = stage
        if self._status is not None:
            number = f"[{len(self._advance.taken) + 1}/{self._total}] [bold]{stage.falsifier}[/bold]"
            spent = seconds(self._advance.on_current)
            self._status.update(f"{number}: {_doing(stage)}, {spent}{self._left()}")

    def heartbeat(self) -> str:
        """Say in a line how far it is."""
        stage, advance = self._stage, self._advance
        at = f", {stage.falsifier}: {_doing(stage)}" if stage is not None else ""
        done = f"{len(advance.taken)}/{self._total} done"
        return f"... {done}{at}, {seconds(advance.elapsed)} since the start{self._left()}"

    def _beat(self) -> None:
        with suppress(Unshown):  # whoever shows the next verdict is told
            while not self._over.wait(self._period):
                if self._total:
                    self.console.print(Text(self.heartbeat()), soft_wrap=True)

    def _left(self) -> str:
        left = self._advance.left()
        if left is None:
            return ""
        return f", {'at least' if self._advance.at_least else 'about'} {seconds(left)} left"

    def finding(self, finding: "Finding", *, faults_only: bool) -> None:
        """Show a verdict; where only faults were planted, how many were caught."""
        self._advance.done((finding.contract, finding.falsifier), finding.seconds)
        self._stage = None
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


def _doing(stage: "Stage") -> str:
    return f"{stage.doing} {stage.done}/{stage.total}" if stage.done else stage.doing

"""`refute run`: a pytest run in this process, with its own display and its own exit codes."""

import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refute.controller import Controller
from refute.interrupts import Interrupts
from refute.ledger import Ledger
from refute.options import OPTIONS
from refute.recordable import Requested
from refute.report.live import Live
from refute.report.output import Unshown
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.finding import Finding
    from refute.takeover import Takeover
    from refute.trials import Stage


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. ledger: None where it never began. notes: what pytest had to say about that."""

    code: Exit
    ledger: Ledger | None
    notes: str


def run(
    files: Sequence[Path],
    arguments: Sequence[str],
    display: Live,
    *,
    takeover: "Takeover | None" = None,
    chosen: Sequence[tuple[Path, str]] | None = None,
    asked: Mapping[str, str | None] | None = None,
) -> Outcome:
    """Attack the falsifiers of these contracts. arguments: pytest's, plugin options included.

    Raises `Unshown` where nobody can be told how it goes; the run is then interrupted, its records sealed.

    takeover: what an interrupted run found; only the rest of its falsifiers is attacked then. chosen: the
    falsifiers that are attacked, with their files; by default all. asked: what else the records say that this
    run was asked for.
    """
    adapter = _Adapter(display, takeover, asked or {})
    own = shlex.join(str(path.absolute()) for path in files)
    chosen = takeover.left if takeover is not None else chosen
    names = [str(path) for path in files]
    if chosen is not None:
        names = [f"{path}::{falsifier}" for path, falsifier in chosen]
    # Rewriting the assertions of every plugin takes longer than loading a small model; no verdict needs it.
    command = [*names, *arguments, "--assert=plain", "-o", f"refute_contracts={own}"]
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        command += ["-p", "refute.plugin"]
    with display, adapter.interrupts.answered():
        try:
            status = int(pytest.main(command, plugins=[adapter]))
        except Exception:
            # pytest fails at showing an interrupt that came between two lines; the records are sealed.
            if not adapter.interrupts.came:
                raise
            status = pytest.ExitCode.INTERRUPTED
        if adapter.unshown is not None:
            raise adapter.unshown
    code = Exit.INTERRUPTED if adapter.interrupts.came else _code(status, adapter.ledger)
    return Outcome(code, adapter.ledger, adapter.notes.getvalue())


def finished(takeover: "Takeover", display: Live) -> Outcome:
    """Close the record of an interrupted run that had found all; nothing is attacked."""
    requested = Requested(**takeover.requested)
    ledger = Ledger(requested.seed or 0, takeover.tree, Path.cwd(), requested=requested)
    with display:
        display.head([takeover.told()])
        takeover.finished(ledger)
    return Outcome(ledger.exit_code(), ledger, "")


def _code(status: int, ledger: Ledger | None) -> Exit:
    if status == pytest.ExitCode.INTERNAL_ERROR:
        return Exit.INTERNAL
    if ledger is not None and ledger.interrupted:
        return Exit.INTERRUPTED
    if status == pytest.ExitCode.USAGE_ERROR or ledger is None:
        return Exit.USAGE
    return ledger.exit_code()


class _Adapter:
    """Gives pytest's own words a buffer, and the plugin's hooks a display."""

    def __init__(self, display: Live, takeover: "Takeover | None", asked: Mapping[str, str | None]) -> None:
        self.display = display
        self.takeover = takeover
        self.asked = asked
        self.ledger: Ledger | None = None
        self.notes = io.StringIO()
        self.interrupts = Interrupts(say=display.say)
        self.unshown: Unshown | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        """Stop before the next falsifier where an interrupt was swallowed."""
        self.interrupts.check()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Let the terminal reporter write aside; options and plugins that count on it go on working."""
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
            config.pluginmanager.register(type(reporter)(config, self.notes), "terminalreporter")
        controller = config.pluginmanager.get_plugin("refute-controller")
        if not isinstance(controller, Controller):
            raise pytest.UsageError("refute: its pytest plugin is switched off (-p no:refute)")
        self.ledger = controller.ledger
        self.interrupts.abandon = controller.abandon
        controller.takeover = self.takeover
        if self.takeover is not None:
            self.asked = {name: self.takeover.requested[name] for name in ("keyword", "markers", "profile")}
        asked: dict[str, Any] = dict(self.asked)
        self.ledger.requested = replace(self.ledger.requested, **asked)
        head = config.stash[OPTIONS].header()
        if self.takeover is not None:
            head.append(self.takeover.told())
        with self._shown():
            self.display.head(head)

    def pytest_refute_plan(self, contracts: dict[str, list[str]]) -> None:
        """Say how much there is to do."""
        with self._shown():
            self.display.plan(contracts, self.ledger.findings if self.ledger is not None else ())

    def pytest_refute_stage(self, contract: str, stage: "Stage") -> None:
        """Show where the attack is; stop between two cases where an interrupt was swallowed."""
        self.interrupts.check()
        with self._shown():
            self.display.stage(contract, stage)

    def pytest_refute_note(self, sentence: str) -> None:
        """Show what the target said when it was opened."""
        self.display.note(sentence)

    def pytest_refute_finding(self, finding: "Finding") -> None:
        """Show a verdict."""
        with self._shown():
            self.display.finding(
                finding, faults_only=self.ledger is not None and self.ledger.evidence is None
            )

    @contextmanager
    def _shown(self) -> Iterator[None]:
        """Interrupt the run where it cannot be shown: a verdict that nobody sees helps nobody."""
        try:
            yield
        except Unshown as error:
            self.unshown = error
            raise KeyboardInterrupt from None

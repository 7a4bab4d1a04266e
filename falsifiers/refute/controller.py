"""The pytest hooks of the process that keeps the records: the only one, or the one above xdist's workers."""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refute.collect import FINDING, NOTE, FalsifierItem
from refute.interrupts import unbroken
from refute.ledger import Ledger
from refute.options import contract_files
from refute.record import RecordError
from refute.scratch import scratch

if TYPE_CHECKING:
    from refute.takeover import Takeover


class Controller:
    """Plans, keeps and shows what one session finds."""

    def __init__(self, config: pytest.Config, ledger: Ledger) -> None:
        self.config = config
        self.ledger = ledger
        self.takeover: Takeover | None = None
        self._notes: list[str] = []
        self._room: Path | None = None
        self._rooms = ExitStack()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Plan before anything is attacked; under xdist no items are here, and the workers tell."""
        stopped = session.testsfailed and not session.config.option.continue_on_collection_errors
        items = [item for item in session.items if isinstance(item, FalsifierItem)]
        if not stopped and not session.config.option.collectonly:
            self._plan([self._key(item.nodeid) for item in items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give every worker the id of the one run, and the room that they share."""
        if not contract_files(self.config):
            return
        node.workerinput["refute_run"] = self.ledger.run
        node.workerinput["refute_controller"] = os.getpid()
        if self._room is None:
            self._room = self._rooms.enter_context(scratch("room"))
            if self.config.option.maxschedchunk is None:
                # Falsifiers take seconds: none is to wait behind another.
                self.config.option.maxschedchunk = 1
        node.workerinput["refute_room"] = str(self._room)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Plan what the first worker collected; the others collected the same."""
        if not self.ledger.contracts:
            self._plan([self._key(id) for id in ids])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Watch the host while a claim is attacked, here or by a worker."""
        self.ledger.attacked(self._key(nodeid)[0])

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Watch it less closely."""
        self.ledger.rested(self._key(nodeid)[0])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Bring a finding to the disk as soon as it is there."""
        for sentence in (str(value) for name, value in report.user_properties if name == NOTE):
            if sentence not in self._notes:
                self._notes.append(sentence)
                self.config.hook.pytest_refute_note(sentence=sentence)
        document = dict(report.user_properties).get(FINDING)
        if document is None:
            return
        try:
            with unbroken():
                finding, record = self.ledger.take(str(document))
        except (RecordError, OSError) as error:
            pytest.exit(
                f"refute: a finding cannot be recorded: {error}", returncode=pytest.ExitCode.INTERNAL_ERROR
            )
        self.config.hook.pytest_refute_finding(finding=finding, record=record)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember that a person stopped the run; `-x` and the like are told otherwise."""
        self.ledger.interrupted |= type(excinfo.value) is KeyboardInterrupt

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Close the records; the workers of an interrupted run have nothing left to do."""
        with unbroken():
            self.ledger.seal()
        if self.ledger.interrupted:
            self._tell_workers(signal.SIGTERM)

    def pytest_unconfigure(self) -> None:
        """Leave nothing on the side."""
        self._rooms.close()

    def abandon(self) -> None:
        """End the workers as this process is going to end: at once. Their files are removed."""
        self._tell_workers(signal.SIGKILL)
        self._rooms.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show every claim, the unobserved too, and where the records lie."""
        if not self.ledger.contracts:
            return
        from refute.report.run import plain_summary  # noqa: PLC0415 (rich is slow to import)

        writer = self.config.get_terminal_writer()
        terminalreporter.section("claims")
        for sentence in self._notes:
            terminalreporter.write_line(f"refute: {sentence}")
        for line in plain_summary(self.ledger, width=writer.fullwidth, color=writer.hasmarkup):
            terminalreporter.write_line(line)

    def _plan(self, keys: Sequence[tuple[str, str]]) -> None:
        """Plan these falsifiers; all that the contracts declare besides is unobserved."""
        from refute.contract import load_contract  # noqa: PLC0415 (start-up time)

        selected: Mapping[str, Sequence[str]]
        if self.takeover is not None:
            contracts, selected = dict(self.takeover.contracts), self.takeover.selected
        else:
            contracts = {path.stem: load_contract(path) for path in contract_files(self.config)}
            selected = {id: [falsifier for stem, falsifier in keys if stem == id] for id in contracts}
        if not any(selected.values()):
            return
        try:
            with unbroken():
                self.ledger.plan(contracts, selected, self.takeover)
        except (RecordError, OSError) as error:
            raise pytest.UsageError(f"refute: no record can be written: {error}") from None
        self.config.hook.pytest_refute_plan(contracts=selected)

    def _tell_workers(self, number: signal.Signals) -> None:
        if self._room is not None:
            from refute.room import tell_workers  # noqa: PLC0415 (its locks are not there on every system)

            tell_workers(self._room, number)

    @staticmethod
    def _key(nodeid: str) -> tuple[str, str]:
        """Contract and falsifier of a node id; a contract's id is the name of its file."""
        file, _, falsifier = nodeid.partition("::")
        return Path(file).stem, falsifier

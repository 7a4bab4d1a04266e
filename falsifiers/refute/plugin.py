"""The pytest plugin: contracts are collected, falsifiers are items, findings become records.

It is loaded into every pytest run of everyone who has refute installed. So it imports nothing heavy,
takes no file but contracts, and says nothing where there are none.
"""

import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refute import hooks
from refute.collect import ATTACKER, FINDING, NOTE, ContractFile, FalsifierItem
from refute.controller import Controller
from refute.interrupts import obeying
from refute.ledger import Ledger
from refute.options import OPTIONS, Options, add_options, contract_files, is_contract, reruns
from refute.redaction import Secrets
from refute.session import Attacker

if TYPE_CHECKING:
    from refute.room import Room


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks that displays implement."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add one group of options, `--refute-*`, and the ini keys `refute_*`."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; choose what is attacked; open the books, except where a controller keeps them."""
    config.addinivalue_line(
        "markers",
        "falsifier(kind, contract, alias): an attack on one claim; "
        "select with -m \"falsifier(kind='tok-floor')\"",
    )
    options = config.stash[OPTIONS] = Options.read(config)
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    evidence = None if options.faults_only else options.evidence
    requested = options.requested(config)
    if options.selection.processes > 1:
        # They share the processors: a thread of OpenMP that spins while it waits takes the others' time.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    ledger = Ledger(
        options.seed,
        evidence,
        config.invocation_params.dir,
        requested=requested,
        secrets=Secrets.of(os.environ, [options.selection.key]),
    )
    if not worker:
        config.pluginmanager.register(Controller(config, ledger), "refute-controller")
    elif worker.get("refute_controller") == os.getppid():
        until_the_end = ExitStack()
        until_the_end.enter_context(obeying(os.getppid()))
        config.add_cleanup(until_the_end.close)
    config.stash[ATTACKER] = Attacker(
        selection=options.selection,
        run=worker.get("refute_run", ledger.run),
        seed=options.seed,
        room=_room(worker),
        evidence=evidence,
        faults_only=options.faults_only,
        every_fault=options.every_fault,
        requested=requested,
        report=lambda contract, stage: config.hook.pytest_refute_stage(contract=contract, stage=stage),
    )


def _room(worker: Mapping[str, Any]) -> "Room | None":
    """The room of the run's workers; None where there is one process."""
    if "refute_room" not in worker:
        return None
    from refute.room import Room  # noqa: PLC0415 (start-up time; its locks are not there on every system)

    return Room.of(Path(worker["refute_room"]))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take contracts, and nothing else."""
    if not is_contract(parent.config, file_path):
        return None
    return ContractFile.from_parent(parent, path=file_path)


def pytest_report_header(config: pytest.Config) -> list[str] | None:
    """Say what is attacked and where the evidence goes, where contracts are to be collected."""
    if not contract_files(config):
        return None
    return [f"refute: {line}" for line in config.stash[OPTIONS].header()]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Refuse reruns: a verdict is not drawn again until it pleases."""
    falsifiers = [item for item in items if isinstance(item, FalsifierItem)]
    if falsifiers and reruns(config, falsifiers):
        raise pytest.UsageError(
            "refute: falsifiers are never run again until they pass; run contracts without --reruns "
            "and without flaky markers"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run no other test beside a claim about time, either."""
    room = item.config.stash[ATTACKER].room
    with nullcontext() if room is None or isinstance(item, FalsifierItem) else room:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the finding to the controller with the report of the attack, as a JSON string; and notes."""
    report = yield
    attacker = item.config.stash[ATTACKER]
    if call.when == "call" and attacker.notes:
        report.user_properties += [(NOTE, note) for note in attacker.notes]
        attacker.notes.clear()
    if isinstance(item, FalsifierItem) and call.when == "call" and item.finding is not None:
        report.user_properties.append((FINDING, json.dumps(item.finding.to_json(), allow_nan=False)))
    return report

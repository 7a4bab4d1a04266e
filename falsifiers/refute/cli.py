"""The `refute` command: its commands, output, exit codes. What a command does lies in the module it calls."""

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from refute.arguments import parser
from refute.select import ENGINES
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.contract import Contract
    from refute.select import Engine, Named, Selection

# Commands import what they need themselves: `refute --help` is not to wait for numpy.
# ruff: noqa: PLC0415


class _Refused(Exception):  # noqa: N818 (an answer to a person)
    """Ends a command with sentences and an exit code."""

    def __init__(self, code: Exit, *sentences: object) -> None:
        super().__init__("\n".join(map(str, sentences)))
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        code = _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except _Refused as refused:
        print(refused, file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.INTERNAL
    except Exception:  # noqa: BLE001 (a bug of ours, with what is needed to report it)
        traceback.print_exc()
        print("refute: internal error, not a verdict; please report the lines above", file=sys.stderr)
        return Exit.INTERNAL
    return code


def _lint(arguments: argparse.Namespace) -> Exit:
    from refute.lint_base import NoBase
    from refute.report.lint import check

    try:
        report = check(arguments.paths, arguments.base)
    except NoBase as error:
        raise _Refused(Exit.USAGE, f"refute: {error}") from None
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
        return report.code
    for line in report.lines():
        print(line)
    if report.problems:
        raise _Refused(report.code, *report.problems)
    return report.code


def _schema(arguments: argparse.Namespace) -> Exit:  # noqa: ARG001 (every command takes them)
    from refute.schemas import contract_schema

    print(contract_schema(), end="")
    return Exit.OK


def _init(arguments: argparse.Namespace) -> Exit:
    from refute.init import CannotWrite, scaffold

    try:
        print(*scaffold(arguments.folder).lines(), sep="\n")
    except CannotWrite as error:
        raise _Refused(Exit.USAGE, f"refute: {error}") from None
    return Exit.OK


def _run(arguments: argparse.Namespace) -> Exit:
    from refute.matrix import Matrix
    from refute.report.live import Live
    from refute.report.run import as_data, show
    from refute.run import run

    if arguments.every and not arguments.faults:
        raise _Refused(
            Exit.USAGE, "refute: --all belongs to --faults; without it every claim is attacked anyway"
        )
    workers = arguments.workers
    if workers not in (None, "auto") and not re.fullmatch(r"0*[1-9][0-9]{0,3}", workers):
        raise _Refused(Exit.USAGE, f"refute: -n {workers}: expected a whole number of at least 1, or auto")
    contracts = _contracts(arguments.paths)
    console = _console(sys.stderr if arguments.json else sys.stdout)
    outcome = run([contract.path for contract in contracts], _pytest_arguments(arguments), Live(console))
    if outcome.ledger is None or not outcome.ledger.contracts:
        raise _Refused(outcome.code, outcome.notes.strip() or "refute: nothing was attacked")
    code = outcome.code
    if arguments.every and code is Exit.OK and Matrix.of(outcome.ledger.findings).holes:
        code = Exit.INVALID
    if arguments.json:
        print(json.dumps(as_data(outcome.ledger, code), indent=2))
    else:
        show(outcome.ledger, console, faults_only=arguments.faults)
    return code


def _replay(arguments: argparse.Namespace) -> Exit:
    from refute.explain import fields
    from refute.replay import CannotReplay, load_counterexample, replay
    from refute.targets.base import TargetError
    from refute.wire.about import Unnamed

    try:
        known = load_counterexample(arguments.file)
        recorded: Engine = next((name for name in ENGINES if name == known.target), "bundled")
        recorded = "openai" if arguments.endpoint else recorded
        selection = _selected(arguments, arguments.target or recorded, _endpoint(arguments))
        print(f"{known.contract}/{known.falsifier} on {selection}")
        again = replay(known, selection.open())
    except (CannotReplay, Unnamed) as error:
        raise _Refused(Exit.USAGE, f"refute: {error}") from None
    except TargetError as error:
        raise _Refused(Exit.MISSING, f"refute: {error}") from None
    print(f"case  {fields(again.observation.case)}")
    print(f"gave  {fields(again.observation.samples)}")
    if not again.same_model:
        print(f"note  the record is of another model: {known.model_name}")
    print("refutes the claim again" if again.refuted else "does not refute the claim now")
    return Exit.FALSIFIED if again.refuted else Exit.OK


def _mutate(arguments: argparse.Namespace) -> Exit:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from refute.mutate import CannotMutate, model_fault, write_mutant

    console = Console(stderr=True)
    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    try:
        fault = model_fault(arguments.fault)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("")
            mutant = write_mutant(
                arguments.model,
                fault,
                arguments.out,
                force=arguments.force,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except CannotMutate as error:
        raise _Refused(Exit.USAGE, f"refute: {error}") from None
    print(f"{arguments.out}: {arguments.model.name} with {fault}")
    print("\n".join(f"  {name}" for name in mutant.changed))
    return Exit.OK


def _serve(arguments: argparse.Namespace) -> Exit:
    from refute_runtime.errors import RuntimeFailure

    try:
        from refute_runtime.serving.main import Options, serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("refute"):
            raise
        raise _Refused(
            Exit.MISSING, f"refute: serving needs {error.name}; install it with: pip install 'refute[serve]'"
        ) from None
    selection = _selected(arguments, "bundled")
    assert selection.model is not None
    options = Options(
        path=selection.model,
        backend=selection.backend,
        device=selection.device,
        host=arguments.host,
        port=arguments.port,
        key=_api_key(arguments),
        active=arguments.active,
        queue=arguments.queue,
        memory=arguments.memory * 2**20,
        grace=arguments.grace,
        max_body=arguments.max_body * 2**10,
        timeout=arguments.timeout,
    )
    try:
        serve(options, lambda line: print(line, flush=True))
    except RuntimeFailure as error:
        raise _Refused(Exit.MISSING, f"refute: {error}") from None
    except OSError as error:
        where = f"{arguments.host}, port {arguments.port}"
        raise _Refused(Exit.USAGE, f"refute: cannot listen on {where}: {error.strerror or error}") from None
    return Exit.OK


def _endpoint(arguments: argparse.Namespace) -> "Named | None":
    from refute.select import named_endpoint

    names = (arguments.endpoint, arguments.model_name, arguments.api_key_env, arguments.dialect)
    given = (each or "" for each in names)
    others = [f"--{name}" for name in ("model", "backend", "device") if getattr(arguments, name)]
    try:
        return named_endpoint(*given, others=others, target=arguments.target, environ=os.environ)
    except ValueError as error:
        raise _Refused(Exit.USAGE, f"refute: {error}") from None


def _selected(
    arguments: argparse.Namespace, engine: "Engine", endpoint: "Named | None" = None
) -> "Selection":
    """The model that the arguments name, for this engine. Raises `_Refused` where it is not there."""
    from refute.select import select

    selection = select(
        engine=engine,
        model=arguments.model,
        backend=arguments.backend or "array",
        device=arguments.device or "auto",
        environ=os.environ,
        endpoint=endpoint,
    )
    if selection.missing:
        raise _Refused(Exit.MISSING, f"refute: {selection.missing}")
    return selection


def _api_key(arguments: argparse.Namespace) -> str | None:
    """The key that clients must show: an empty one would be none, and that is not what was asked for."""
    variable, key = arguments.api_key_env, arguments.api_key
    if variable is not None:
        key = os.environ.get(variable, "")
    if key is None:
        return None
    if not key.strip():
        where = "--api-key" if variable is None else f"--api-key-env {variable}"
        raise _Refused(Exit.USAGE, f"refute: {where}: the key is empty, expected some characters")
    return str(key)


def _status(arguments: argparse.Namespace) -> Exit:
    from refute.report.terminal import show_status
    from refute.status import status

    overview = status(_contracts(arguments.paths, foreign=True), arguments.evidence)
    if arguments.json:
        print(json.dumps(overview.to_json(), indent=2))
    else:
        show_status(overview, _console(sys.stdout))
    return Exit.OK


def _gate(arguments: argparse.Namespace) -> Exit:
    from refute.gate import gate
    from refute.report.terminal import show_decision

    contracts = _contracts(arguments.paths, foreign=True)
    decision = gate(contracts, arguments.evidence, profile=arguments.profile)
    if arguments.json:
        print(json.dumps(decision.to_json(), indent=2))
    else:
        show_decision(decision, _console(sys.stdout))
    return decision.code


def _contracts(paths: Sequence[Path], *, foreign: bool = False) -> "list[Contract]":
    """Load contracts; every fault in them is a sentence.

    foreign: kinds may be missing here, as where records of others are read; their claims are then stale.
    """
    from refute.contract import load_contract
    from refute.contract_files import find_contracts
    from refute.kinds import ANY, INSTALLED
    from refute.lint import lint

    kinds = ANY if foreign else INSTALLED
    problems = lint(paths, root=Path(), kinds=kinds)
    if problems:
        raise _Refused(Exit.USAGE, *problems)
    return [load_contract(path, kinds=kinds) for path in find_contracts(Path(), paths)]


def _pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    """Say to pytest what was said to refute."""
    passed = []
    names = ("model", "backend", "device", "evidence", "seed", "target")
    for name in (*names, "endpoint", "model-name", "api-key-env", "dialect"):
        value = getattr(arguments, name.replace("-", "_"))
        passed += [] if value is None else [f"--refute-{name}={value}"]
    passed += ["--refute-faults"] if arguments.faults else []
    passed += ["--refute-every-fault"] if arguments.every else []
    passed += ["-x"] if arguments.exitfirst else []
    for option, value in (("-k", arguments.keyword), ("-m", arguments.marker), ("-n", arguments.workers)):
        passed += [] if value is None else [option, value]
    return passed


def _console(stream: TextIO) -> "Console":
    """A console on a descriptor of its own, out of reach of pytest's capturing."""
    from rich.console import Console

    own = os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8", errors="replace")
    return Console(file=own, highlight=False, width=None if own.isatty() else 120)


_COMMANDS = {
    "lint": _lint,
    "init": _init,
    "schema": _schema,
    "run": _run,
    "replay": _replay,
    "mutate": _mutate,
    "serve": _serve,
    "status": _status,
    "gate": _gate,
}

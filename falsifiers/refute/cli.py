"""The `refute` command: arguments, output, exit codes. What a command does lies in the module it calls."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import refute
from refute.faults.catalogue import MODEL
from refute.select import ENGINES, ENGINES_HELP
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.contract import Contract
    from refute.select import Engine

# Commands import what they need themselves: `refute --help` is not to wait for numpy.
# ruff: noqa: PLC0415

_DESCRIPTION = "Try to refute what an LLM inference engine claims, and keep proof of the attempt."
_MUTATE = (
    "Write a copy of a model that is sound as a file and wrong as a model, for any engine that reads GGUF: "
    "one key or some tensors differ, as listed, all else is the same byte for byte. Faults"
)
_EXIT_CODES = """\
exit codes: 0 ok, 1 falsified, 2 usage or contract error, 3 inconclusive, 4 invalid or error (a fault was
not caught, the harness broke, a record was tampered with), 5 blocked, unobserved, missing or stale,
70 internal error, 130 interrupted
"""


class _Refused(Exception):  # noqa: N818 (an answer to a person)
    """Ends a command with sentences and an exit code."""

    def __init__(self, code: Exit, *sentences: object) -> None:
        super().__init__("\n".join(map(str, sentences)))
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: Exit = arguments.command(arguments)
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
    from refute.select import select
    from refute.targets.base import TargetError

    try:
        known = load_counterexample(arguments.file)
        recorded: Engine = next((name for name in ENGINES if name == known.target), "bundled")
        selection = select(
            engine=arguments.target or recorded,
            model=arguments.model,
            backend=arguments.backend or "array",
            device=arguments.device or "auto",
            environ=os.environ,
        )
        if selection.missing:
            raise _Refused(Exit.MISSING, f"refute: {selection.missing}")
        print(f"{known.contract}/{known.falsifier} on {selection}")
        again = replay(known, selection.open())
    except CannotReplay as error:
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
    from refute.contract import find_contracts, load_contract
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
    for name in ("model", "backend", "device", "evidence", "seed", "target"):
        value = getattr(arguments, name)
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="refute",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"refute {refute.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add_lint(commands.add_parser("lint", help="check contracts: file:line:col: what, expected, fix"))
    _add_init(commands.add_parser("init", help="write a first contract, a CI workflow and a pre-commit hook"))
    schema = commands.add_parser("schema", help="print the JSON Schema of contracts, for editors")
    schema.set_defaults(command=_schema)

    run = commands.add_parser("run", help="attack the claims of contracts and record what was found")
    _add_paths(run)
    _add_target(run)
    run.add_argument("--evidence", metavar="DIR", help="the tree that records go to (default: evidence)")
    run.add_argument("--seed", metavar="N", help="what every case and sample follows from (default: 0)")
    run.add_argument(
        "--faults",
        action="store_true",
        help="only plant the faults that must be caught; attack nothing, record nothing",
    )
    run.add_argument(
        "--all",
        dest="every",
        action="store_true",
        help="with --faults: every fault for every falsifier (long); one that none catches is exit code 4",
    )
    run.add_argument(
        "--json", action="store_true", help="JSON on standard output, the rest on standard error"
    )
    chosen = run.add_argument_group("as in pytest (what is left out is unobserved: exit code 5)")
    chosen.add_argument("-k", dest="keyword", metavar="EXPR", help="only falsifiers whose names match")
    chosen.add_argument("-m", dest="marker", metavar="EXPR", help="such as \"falsifier(kind='tok-floor')\"")
    chosen.add_argument(
        "-x", dest="exitfirst", action="store_true", help="stop at the first that is not green"
    )
    chosen.add_argument(
        "-n", dest="workers", metavar="N", help="N processes; claims about time come last, alone"
    )
    run.set_defaults(command=_run)

    replay = commands.add_parser("replay", help="run a recorded counterexample again (1 if it refutes)")
    replay.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="evidence/CONTRACT/RUN/FALSIFIER.counterexample.json, or the finding beside it",
    )
    _add_target(replay)
    replay.set_defaults(command=_replay)

    mutate = commands.add_parser("mutate", help="write a copy of a GGUF model with a fault in it")
    mutate.description = f"{_MUTATE}: {', '.join(spec.name for spec in MODEL)}."
    mutate.add_argument(
        "model", type=Path, metavar="IN.gguf", help="a qwen3moe or qwen3 model, left as it is"
    )
    mutate.add_argument("out", type=Path, metavar="OUT.gguf", help="where the copy goes")
    mutate.add_argument("--fault", required=True, metavar="NAME[=DOSE]", help="rope-base=1.01, for example")
    mutate.add_argument("--force", action="store_true", help="replace OUT.gguf if it is there")
    mutate.set_defaults(command=_mutate)

    status = commands.add_parser("status", help="what the records say of every claim")
    _add_paths(status)
    _add_evidence(status)
    status.set_defaults(command=_status)

    gate = commands.add_parser("gate", help="decide on the records whether a change or a release may pass")
    _add_paths(gate)
    _add_evidence(gate)
    gate.add_argument(
        "--profile",
        choices=("pr", "release"),
        required=True,
        help="pr: every claim survived on the embedded model; release: full-model evidence discharges it too",
    )
    gate.set_defaults(command=_gate)
    return parser


def _add_lint(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check contracts. With --base, compare each with its version at a git revision too and demand the "
        "version (SemVer) that the change calls for: patch where only texts changed, minor where the "
        "contract asks for more (tightening) or gains a falsifier (addition), major where it asks for less "
        "(loosening) or for something else (breaking). Exit code 2 where a contract is at fault."
    )
    _add_paths(parser)
    parser.add_argument("--base", metavar="REV", help="a branch, tag or commit, such as origin/main")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(command=_lint)


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write contracts/ with a first contract and the schema for editors, a CI workflow and a pre-commit "
        "hook. What exists is left as it is."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: .")
    parser.set_defaults(command=_init)


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="PATH",
        help="contracts, or folders of them (default: ./contracts, else those that come with refute)",
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("what is attacked")
    target.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a GGUF file (default: $QWEN3_MOE_GGUF_PATH, else the embedded model)",
    )
    target.add_argument("--backend", metavar="NAME", help="the runtime's backend (default: array)")
    target.add_argument("--device", metavar="NAME", help="the backend's device (default: auto)")
    target.add_argument("--target", choices=ENGINES, help=ENGINES_HELP)


def _add_evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--evidence",
        nargs="+",
        type=Path,
        default=[Path("evidence")],
        metavar="TREE",
        help="trees of records (default: evidence)",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")

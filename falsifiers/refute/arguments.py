"""What the `refute` command takes: its commands, their arguments, and what help says of them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import refute
from refute.faults.base import FaultSpec, written_dose
from refute.faults.specs_logits import MODEL
from refute.select import ENGINES, ENGINES_HELP
from refute.verdict import Exit

_DESCRIPTION = "Try to refute what an LLM inference engine claims, and keep proof of the attempt."
_MUTATE = (
    "Write a copy of a model that is sound as a file and wrong as a model, for any engine that\n"
    "reads GGUF: one key or some tensors differ, as listed, all else is the same byte for byte."
)
_EXIT_CODES = """\
exit codes: 0 ok, 1 falsified, 2 usage or contract error, 3 inconclusive, 4 invalid or error (a fault was
not caught, the harness broke, a record was tampered with), 5 blocked, unobserved, missing or stale,
70 internal error, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `command` is the name of the command that was given."""
    whole = _Parser(
        prog="refute",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"refute {refute.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)

    _add_lint(commands.add_parser("lint", help="check contracts: file:line:col: what, expected, fix"))
    _add_init(commands.add_parser("init", help="write a first contract, a CI workflow and a pre-commit hook"))
    commands.add_parser("schema", help="print the JSON Schema of contracts, for editors")

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

    replay = commands.add_parser("replay", help="run a recorded counterexample again (1 if it refutes)")
    replay.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="evidence/CONTRACT/RUN/FALSIFIER.counterexample.json, or the finding beside it",
    )
    _add_target(replay)

    mutate = commands.add_parser("mutate", help="write a copy of a GGUF model with a fault in it")
    mutate.description = _MUTATE
    mutate.epilog = "\n".join(["faults (the dose without =DOSE):", *map(_fault, MODEL)])
    mutate.formatter_class = argparse.RawDescriptionHelpFormatter
    mutate.add_argument(
        "model", type=Path, metavar="IN.gguf", help="a qwen3moe or qwen3 model, left as it is"
    )
    mutate.add_argument("out", type=Path, metavar="OUT.gguf", help="where the copy goes")
    mutate.add_argument("--fault", required=True, metavar="NAME[=DOSE]", help="rope-base=1.01, for example")
    mutate.add_argument("--force", action="store_true", help="replace OUT.gguf if it is there")

    _add_serve(commands.add_parser("serve", help="serve a model over HTTP, as OpenAI's API"))

    status = commands.add_parser("status", help="what the records say of every claim")
    _add_paths(status)
    _add_evidence(status)

    gate = commands.add_parser("gate", help="decide on the records whether a change or a release may pass")
    _add_paths(gate)
    _add_evidence(gate)
    gate.add_argument(
        "--profile",
        choices=("pr", "release"),
        required=True,
        help="pr: every claim survived on the embedded model; release: full-model evidence discharges it too",
    )
    return whole


def _fault(spec: FaultSpec) -> str:
    return f"  {spec.name} ({written_dose(spec.default, spec.unit)}): {spec.breaks}"


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Serve a GGUF model over HTTP as a subset of OpenAI's API, described at /openapi.json. What is not "
        "supported is refused. SIGINT or SIGTERM ends it: new requests are refused, running answers finish."
    )
    _add_model(parser.add_argument_group("what is served"))
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=_count(0, 65535), default=8080, metavar="N", help="0: any that is free (default: 8080)"
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--api-key", metavar="KEY", help="what clients must show; visible to users of the host")
    key.add_argument("--api-key-env", metavar="VAR", help="the environment variable that holds the key")
    limits = parser.add_argument_group("limits")
    for name, default, least, what in (
        ("--active", 16, 1, "requests computed at once, token by token in turns"),
        ("--queue", 64, 0, "requests that wait beside them; one more is refused with 429"),
        ("--memory", 4096, 1, "MiB that KV caches may take together"),
        ("--max-body", 4096, 1, "KiB of a request's body; a larger one is refused with 413"),
        ("--timeout", 600, 1, "seconds for one request and its answer; then 504, or an error in the stream"),
        ("--grace", 30, 0, "seconds for running answers once the server is told to end"),
    ):
        limits.add_argument(
            name, type=_count(least), default=default, metavar="N", help=f"{what} (default: {default})"
        )


def _count(least: int, most: int = 10**9) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isdecimal() or len(text) > 10 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {least} to {most}")
        return int(text)

    return count


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


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write contracts/ with a first contract and the schema for editors, a CI workflow and a pre-commit "
        "hook. What exists is left as it is."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: .")


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
    _add_model(target)
    target.add_argument("--target", choices=ENGINES, help=ENGINES_HELP)
    target.add_argument(
        "--endpoint",
        metavar="URL",
        help="a server of OpenAI's API, such as http://127.0.0.1:8080/v1, instead of a model file",
    )
    target.add_argument(
        "--model-name", metavar="NAME", help="the model at the endpoint (default: the only one it serves)"
    )
    target.add_argument(
        "--api-key-env", metavar="VAR", help="the environment variable that holds the endpoint's key"
    )
    target.add_argument(
        "--dialect",
        metavar="NAME",
        help="what the endpoint speaks, where it does not say so itself: vllm, sglang, llama.cpp, ...",
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a GGUF file (default: $QWEN3_MOE_GGUF_PATH, else the embedded model)",
    )
    group.add_argument("--backend", metavar="NAME", help="the runtime's backend (default: array)")
    group.add_argument("--device", metavar="NAME", help="the backend's device (default: auto)")


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

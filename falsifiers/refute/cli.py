"""The `refute` command: its parser, its exit codes, and what becomes of a command that ends badly."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import refute
from refute.commands import (
    audit,
    doctor,
    gate,
    init,
    lint,
    mutate,
    replay,
    report,
    run,
    schema,
    serve,
    sign,
    status,
)
from refute.commands.shared import Command, Refused
from refute.report.output import Unshown, written
from refute.verdict import Exit

_IN_THE_ORDER_OF_HELP = (
    lint,
    init,
    schema,
    doctor,
    run,
    replay,
    mutate,
    serve,
    status,
    gate,
    audit,
    sign,
    report,
)
_DESCRIPTION = "Try to refute what an LLM inference engine claims, and keep proof of the attempt."
_EXIT_CODES = """\
exit codes: 0 ok, 1 falsified, 2 usage or contract error, 3 inconclusive, 4 invalid or error (a fault was
not caught, the harness broke, a record was tampered with), 5 blocked, unobserved, missing or stale,
70 internal error, or the output could not be written, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(Exit.USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `execute` is what does the command that was given."""
    whole = _Parser(
        prog="refute",
        description=_DESCRIPTION,
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"refute {refute.__version__}")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _IN_THE_ORDER_OF_HELP:
        command.add(commands)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        with written():
            arguments = parser().parse_args(argv)
            execute: Command = arguments.execute
            return execute(arguments)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return refused.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Unshown as unshown:
        if not unshown.unread:  # whoever closed it has seen enough
            print(f"refute: {unshown}", file=sys.stderr)
        return Exit.INTERNAL
    except Exception:  # noqa: BLE001 (a bug of ours, with what is needed to report it)
        traceback.print_exc()
        print("refute: internal error, not a verdict; please report the lines above", file=sys.stderr)
        return Exit.INTERNAL

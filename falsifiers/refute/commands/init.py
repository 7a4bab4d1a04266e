"""`refute init`: what a repository with contracts starts from."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("init", help="write a first contract, a CI workflow and a pre-commit hook")
    parser.description = (
        "Write contracts/ with a first contract and the schema for editors, a CI workflow and a pre-commit "
        "hook. What exists is left as it is."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="default: .")
    parser.set_defaults(execute=_init)


def _init(arguments: argparse.Namespace) -> Exit:
    from refute.init import CannotWrite, scaffold

    try:
        print(*scaffold(arguments.folder).lines(), sep="\n")
    except CannotWrite as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    return Exit.OK

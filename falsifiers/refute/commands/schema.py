"""`refute schema`: the JSON Schema of contracts."""

import argparse
from typing import TYPE_CHECKING

from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("schema", help="print the JSON Schema of contracts, for editors")
    parser.set_defaults(execute=_schema)


def _schema(_arguments: argparse.Namespace) -> Exit:
    from refute.schemas import contract_schema

    print(contract_schema(), end="")
    return Exit.OK

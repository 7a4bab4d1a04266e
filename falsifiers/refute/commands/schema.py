"""`refute schema`: the JSON Schemas of contracts and records."""

import argparse
from typing import TYPE_CHECKING

from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands

_NAMES = ("contract", "finding", "findings", "telemetry", "counterexample")


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "schema", help="print the JSON Schema of contracts, for editors, or of records"
    )
    parser.add_argument(
        "name", nargs="?", choices=_NAMES, default="contract", help="whose schema (default: contract)"
    )
    parser.set_defaults(execute=_schema)


def _schema(arguments: argparse.Namespace) -> Exit:
    from refute.schemas import schema_text

    print(schema_text(arguments.name), end="")
    return Exit.OK

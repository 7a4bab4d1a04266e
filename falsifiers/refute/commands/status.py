"""`refute status`: what the records say of every claim."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from refute.commands.shared import add_paths, add_trees, console_on, contracts_of, policy_of, trees_of
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("status", help="what the records say of every claim")
    add_paths(parser)
    add_trees(parser)
    parser.set_defaults(execute=_status)


def _status(arguments: argparse.Namespace) -> Exit:
    from refute.report.terminal import show_status
    from refute.status import status

    contracts = contracts_of(arguments.paths, foreign=True)
    policy = policy_of(contracts)
    overview = status(contracts, trees_of(arguments, policy), policy=policy)
    if arguments.json:
        print(json.dumps(overview.to_json(), indent=2))
    else:
        show_status(overview, console_on(sys.stdout))
    return Exit.OK

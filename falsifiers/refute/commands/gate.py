"""`refute gate`: may a change or a release pass."""

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
    parser = commands.add_parser("gate", help="decide on the records whether a change or a release may pass")
    add_paths(parser)
    add_trees(parser)
    parser.add_argument(
        "--profile",
        choices=("pr", "release"),
        required=True,
        help="pr: every claim survived on the embedded model; release: full-model evidence discharges it too",
    )
    parser.set_defaults(execute=_gate)


def _gate(arguments: argparse.Namespace) -> Exit:
    from refute.gate import gate
    from refute.report.terminal import show_decision

    contracts = contracts_of(arguments.paths, foreign=True)
    policy = policy_of(contracts)
    trees = trees_of(arguments, policy)
    decision = gate(contracts, trees, profile=arguments.profile, policy=policy)
    if arguments.json:
        print(json.dumps(decision.to_json(), indent=2))
    else:
        show_decision(decision, console_on(sys.stdout))
    return decision.code

"""`refute status`: what the records say of every claim, or all about one."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, add_trees, contracts_of, policy_of, trees_of
from refute.report.output import console_on
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("status", help="what the records say of every claim, or all about one")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="CLAIM|PATH",
        help="claims: CONTRACT/FALSIFIER, an alias or a falsifier (default: all, in a table); contracts by "
        "id or file, or folders of them (default: ./contracts, else those that come with refute)",
    )
    add_trees(parser)
    parser.set_defaults(execute=_status)


def _status(arguments: argparse.Namespace) -> Exit:
    from refute.detail import UnknownClaim, claim_named, details
    from refute.report.claim import show_claim
    from refute.report.terminal import show_status
    from refute.status import status

    paths = [Path(name) for name in arguments.names if Path(name).exists()]
    names = [name for name in arguments.names if not Path(name).exists()]
    contracts = contracts_of(paths, foreign=True)
    policy = policy_of(contracts)
    trees = trees_of(arguments, policy)
    chosen = {contract.id for contract in contracts if contract.id in names}
    names = [name for name in names if name not in chosen]
    if names and chosen:
        told = f"{', '.join(sorted(chosen))} is a contract and {names[0]} is not; ask for them one by one"
        raise Refused(Exit.USAGE, f"refute: {told}")
    if not names:
        overview = status(contracts, trees, policy=policy)
        if chosen:
            overview = overview.of(chosen)
        if arguments.json:
            print(json.dumps(overview.to_json(), indent=2))
        else:
            show_status(overview, console_on(sys.stdout))
        return Exit.OK
    try:
        keys = [claim_named(contracts, name) for name in names]
    except UnknownClaim as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    found = details(contracts, trees, dict.fromkeys(keys), policy=policy)
    if arguments.json:
        whole = [each.to_json() for each in found]
        print(json.dumps(whole[0] if len(whole) == 1 else whole, indent=2))
    else:
        console = console_on(sys.stdout)
        for place, each in enumerate(found):
            if place:
                console.print()
            show_claim(each, console)
    return Exit.OK

"""`refute audit`: whether records are what they say, from the records alone."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.commands.shared import Refused
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.audit.rule import Rule
    from refute.audit.subject import Here
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("audit", help="check that records are what they say; needs no model")
    parser.add_argument(
        "trees",
        nargs="*",
        type=Path,
        default=[Path("evidence")],
        metavar="TREE",
        help="trees of records (default: evidence)",
    )
    parser.add_argument(
        "--contracts",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="the contracts of today, which stale records differ from (default: ./contracts, where it is)",
    )
    parser.add_argument("--rules", action="store_true", help="only list the rules")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(execute=_audit)


def _audit(arguments: argparse.Namespace) -> Exit:
    from rich.console import Console

    from refute.audit.examine import audit
    from refute.audit.rules import OF_RUNS, OF_TREES
    from refute.report.audit import Progress, rules_as_data, show_audit, show_rules

    console = Console(highlight=False)
    if arguments.rules:
        rules: list[Rule[Any]] = [*OF_RUNS, *OF_TREES]
        if arguments.json:
            print(json.dumps(rules_as_data(rules), indent=2))
        else:
            show_rules(rules, console)
        return Exit.OK
    with Progress(Console(stderr=True)) as progress:
        report = audit(arguments.trees, _here(arguments), progress=progress)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        show_audit(report, console)
    return report.code


def _here(arguments: argparse.Namespace) -> "Here":
    """What is here to compare records with."""
    from refute.attempts import Present
    from refute.audit.subject import Here
    from refute.contract import load_contract
    from refute.contract_files import find_contracts
    from refute.kinds import ANY
    from refute.marked_yaml import ContractError
    from refute.provenance import package_digest

    named = arguments.contracts or ([Path("contracts")] if Path("contracts").is_dir() else [])
    contracts = None
    if named:
        try:
            loaded = [load_contract(path, kinds=ANY) for path in find_contracts(Path(), named)]
        except ContractError as error:
            raise Refused(Exit.USAGE, error) from None
        contracts = {contract.id: contract for contract in loaded}
    harness = package_digest("refute", suffixes=(".py", ".json"))
    return Here(Present.here(), contracts=contracts, harness=harness)

"""`refute audit`: whether records are what they say, from the records alone; with a model, computed again."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.commands.shared import DEFAULT_TREES, Refused, add_model, choose, count, keys_of, policy_of
from refute.verdict import Exit, worst_exit

if TYPE_CHECKING:
    from refute.audit.computed import Computed
    from refute.audit.rule import Rule
    from refute.audit.subject import Here
    from refute.commands.shared import Commands
    from refute.policy import Policy
    from refute.select import Selection


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("audit", help="check that records are what they say; needs no model")
    parser.add_argument(
        "trees",
        nargs="*",
        type=Path,
        default=DEFAULT_TREES,
        metavar="TREE",
        help="trees of records (default: those of [tool.refute] in ./pyproject.toml, else evidence)",
    )
    parser.add_argument(
        "--contracts",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="the contracts of today, which stale records differ from (default: ./contracts, where it is)",
    )
    parser.add_argument(
        "--keys",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="public keys (of refute keygen); every sealed run must be signed by one of them (default, where "
        "no TREE is named: [tool.refute.keys], and what is signed must be by one of those)",
    )
    parser.add_argument("--rules", action="store_true", help="only list the rules")
    parser.add_argument("--json", action="store_true", help="as JSON")
    engine = parser.add_argument_group("with the model, on the engine of this package")
    engine.add_argument(
        "--challenge",
        type=_nonce,
        metavar="NONCE",
        help="compute some cases again; which ones, your nonce says: make it up now, and tell nobody before. "
        "Where the backend of a record, cpu or cuda, cannot run here, mirror computes the same bits",
    )
    engine.add_argument(
        "--cases", type=count(1), default=20, metavar="N", help="how many cases (default: 20)"
    )
    engine.add_argument(
        "--reproduce",
        action="append",
        default=[],
        metavar="CLAIM",
        help="attack CONTRACT/FALSIFIER again, as its newest record says, and compare; may be given again",
    )
    engine.add_argument(
        "--margin",
        type=_percent,
        default=0.02,
        metavar="PERCENT",
        help="by how much a figure may differ (default: 2)",
    )
    add_model(engine)
    parser.set_defaults(execute=_audit)


def _audit(arguments: argparse.Namespace) -> Exit:
    from rich.console import Console

    from refute.audit.examine import audit
    from refute.audit.rules import OF_RUNS, OF_TREES
    from refute.policy import no_policy
    from refute.report.audit import Progress, rules_as_data, show_audit, show_engine, show_rules

    console = Console(highlight=False)
    if arguments.rules:
        rules: list[Rule[Any]] = [*OF_RUNS, *OF_TREES]
        if arguments.json:
            print(json.dumps(rules_as_data(rules), indent=2))
        else:
            show_rules(rules, console)
        return Exit.OK
    own = arguments.trees is DEFAULT_TREES  # whoever names trees may be anywhere
    policy = policy_of([]) if own else no_policy()
    if own:
        arguments.trees = policy.evidence
    selection = choose(arguments, "bundled")
    here = _here(arguments, policy)
    with Progress(Console(stderr=True)) as progress:
        report = audit(arguments.trees, here, progress=progress)
    wanted = arguments.challenge is not None or arguments.reproduce
    engine = _with_engine(arguments, here, selection) if wanted else None
    if arguments.json:
        print(json.dumps({**report.to_json(), **({} if engine is None else engine.to_json())}, indent=2))
    else:
        show_audit(report, console)
        if engine is not None:
            show_engine(engine, console)
    return worst_exit([report.code, *([] if engine is None else [engine.code])])


def _with_engine(arguments: argparse.Namespace, here: "Here", selection: "Selection") -> "Computed":
    """What is computed again. Raises `Refused` where the model is not here, or nothing is to be repeated."""
    from rich.console import Console

    from refute.audit.computed import Engine, compute
    from refute.audit.examine import subjects_in
    from refute.audit.reproduction import CannotReproduce
    from refute.report.audit import Progress
    from refute.targets.base import TargetError

    if selection.missing:
        raise Refused(Exit.MISSING, f"refute: {selection.missing}; nothing can be computed again without it")
    with Progress(Console(stderr=True)) as progress:
        try:
            return compute(
                list(subjects_in(arguments.trees, here)),
                Engine(selection, arguments.backend),
                nonce=arguments.challenge,
                cases=arguments.cases,
                claims=arguments.reproduce,
                margin=arguments.margin,
                progress=progress,
            )
        except (CannotReproduce, TargetError) as error:
            raise Refused(Exit.MISSING, f"refute: {error}") from None


def _nonce(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(
            "the nonce is empty; expected one that nobody could know before, such as of: openssl rand -hex 16"
        )
    return text


def _percent(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of percent, such as 2")
    return value / 100


def _here(arguments: argparse.Namespace, policy: "Policy") -> "Here":
    """What is here to compare records with."""
    from refute.attempts import Present
    from refute.audit.subject import Here
    from refute.contract import load_contract
    from refute.contract_files import find_contracts
    from refute.kinds import ANY
    from refute.marked_yaml import ContractError
    from refute.provenance import harness_digest

    named = arguments.contracts or ([Path("contracts")] if Path("contracts").is_dir() else [])
    contracts = None
    if named:
        try:
            loaded = [load_contract(path, kinds=ANY) for path in find_contracts(Path(), named)]
        except ContractError as error:
            raise Refused(Exit.USAGE, error) from None
        contracts = {contract.id: contract for contract in loaded}
    keys = keys_of(arguments.keys or policy.keys.values())
    unsigned = not arguments.keys
    return Here(Present.here(), contracts=contracts, harness=harness_digest(), keys=keys, unsigned=unsigned)

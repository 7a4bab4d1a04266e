"""`refute run`: attack claims and record what was found."""

import argparse
import json
import re
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.choosing import (
    decided,
    expected_of,
    least_of,
    planned,
    processes,
    refuse_together,
    resumed,
)
from refute.commands.preparing import prepare
from refute.commands.shared import (
    HOME_HELP,
    Refused,
    add_paths,
    add_target,
    contracts_of,
    home_of,
    policy_of,
)
from refute.commands.sign import signed_by, signer_of
from refute.policy import PROFILES
from refute.report.output import console_on
from refute.verdict import Exit, worst_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from refute.commands.shared import Commands
    from refute.contract import Contract
    from refute.gate import Decision
    from refute.plan import Plan
    from refute.run import Outcome


def add(commands: "Commands") -> None:
    """Add the command."""
    run = commands.add_parser("run", help="attack the claims of contracts and record what was found")
    add_paths(run)
    add_target(run)
    run.add_argument("--evidence", metavar="DIR", help=HOME_HELP)
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
    run.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with an interrupted run: its id, the beginning of it, or a path (default: the newest); "
        "what it finished is taken over, the rest is attacked, as it was asked for then",
    )
    run.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign the records with this private key (refute keygen)"
    )
    run.add_argument(
        "--profile",
        choices=PROFILES,
        help="attack what this gate profile lacks and the target can give: the plan first, then what is "
        "discharged and what is open; the exit code is the gate's, or a worse one of this run",
    )
    run.add_argument(
        "--plan", "--dry-run", dest="plan", action="store_true", help="with --profile: only print the plan"
    )
    chosen = run.add_argument_group("as in pytest (what is left out is unobserved: exit code 5)")
    chosen.add_argument("-k", dest="keyword", metavar="EXPR", help="only falsifiers whose names match")
    chosen.add_argument("-m", dest="marker", metavar="EXPR", help="such as \"falsifier(kind='tok-floor')\"")
    chosen.add_argument(
        "-x", dest="exitfirst", action="store_true", help="stop at the first that is not green"
    )
    chosen.add_argument(
        "-n", dest="workers", metavar="N", help="N processes; a claim about time has the host alone meanwhile"
    )
    run.set_defaults(execute=_run)


def _run(arguments: argparse.Namespace) -> Exit:
    with ExitStack() as until_the_end:
        return _attack(arguments, until_the_end)


def _attack(arguments: argparse.Namespace, until_the_end: ExitStack) -> Exit:
    from refute.matrix import Matrix
    from refute.report.live import Live
    from refute.report.plan import show_outcome
    from refute.report.run import as_data, show
    from refute.run import finished, run

    if arguments.every and not arguments.faults:
        raise Refused(
            Exit.USAGE, "refute: --all belongs to --faults; without it every claim is attacked anyway"
        )
    refuse_together(arguments)
    workers = arguments.workers
    if workers not in (None, "auto") and not re.fullmatch(r"0*[1-9][0-9]{0,3}", workers):
        raise Refused(Exit.USAGE, f"refute: -n {workers}: expected a whole number of at least 1, or auto")
    if arguments.sign is not None and arguments.faults:
        raise Refused(Exit.USAGE, "refute: --sign signs records, and --faults keeps none")
    signer = None if arguments.sign is None else signer_of(arguments.sign)
    contracts = contracts_of(arguments.paths)
    console = console_on(sys.stderr if arguments.json else sys.stdout)
    takeover = plan = before = None
    if arguments.resume is not None:
        arguments, takeover = resumed(arguments, contracts, console, until_the_end)
        arguments.profile = takeover.requested["profile"]
    if arguments.profile is not None:
        before = decided(arguments, contracts)
        plan = None if takeover is not None else planned(arguments, contracts, before, console)
    if plan is not None and (arguments.plan or not plan.planned):
        return _only_planned(arguments, plan, before, console)
    files = [contract.path for contract in contracts]
    live = Live(console, expected=expected_of(plan), least=least_of(plan), workers=processes(workers))
    if takeover is not None and not takeover.left:
        outcome = finished(takeover, live)
    else:
        prepare(arguments, console)
        outcome = run(
            files,
            _pytest_arguments(arguments, contracts),
            live,
            takeover=takeover,
            chosen=None if plan is None else plan.chosen,
            asked={"profile": arguments.profile, "keyword": arguments.keyword},
        )
    if outcome.ledger is None or not outcome.ledger.contracts:
        raise Refused(outcome.code, _why_nothing(outcome, arguments))
    code = outcome.code
    if arguments.every and code is Exit.OK and Matrix.of(outcome.ledger.findings).holes:
        code = Exit.INVALID
    after = None if before is None else decided(arguments, contracts)
    if after is not None:
        # What other runs observed, and what was never asked for, is the gate's business here.
        ended = (code,) if code in (Exit.INTERRUPTED, Exit.INTERNAL, Exit.USAGE) else ()
        code = worst_exit((after.code, *ended, *outcome.ledger.codes()))
    if arguments.json:
        print(json.dumps(as_data(outcome.ledger, code, after), indent=2))
    else:
        show(outcome.ledger, console, faults_only=arguments.faults)
    if outcome.code is Exit.INTERRUPTED and outcome.ledger.folders:
        console.print(f"interrupted; to go on: {_to_go_on(arguments)}", soft_wrap=True, markup=False)
    if before is not None and after is not None:
        show_outcome(before, after, console)
    if signer is not None:
        ids = {signed_by(folder, signer) for folder in outcome.ledger.folders}
        console.print(f"signed  by {', '.join(ids)}")
    return code


def _why_nothing(outcome: "Outcome", arguments: argparse.Namespace) -> str:
    """Why no claim was attacked. Pytest's own summary says it in words of tests, and only once more."""
    if outcome.code is Exit.INTERRUPTED:
        return "refute: interrupted before anything was attacked"
    if outcome.code is Exit.USAGE and "error" not in outcome.notes.lower():
        return "refute: nothing was attacked"  # why, pytest has said on standard error
    if outcome.code is Exit.MISSING and (arguments.keyword is not None or arguments.marker is not None):
        given = [("-k", arguments.keyword), ("-m", arguments.marker)]
        told = " ".join(shlex.join([option, value]) for option, value in given if value is not None)
        return f"refute: no falsifier matches {told}; expected one of those that `pytest --co` lists"
    return outcome.notes.strip() or "refute: nothing was attacked"


def _to_go_on(arguments: argparse.Namespace) -> str:
    paths = [str(path) for path in arguments.paths]
    tree = [] if arguments.evidence is None else ["--evidence", arguments.evidence]
    return shlex.join(["refute", "run", *paths, *tree, "--resume"])


def _only_planned(
    arguments: argparse.Namespace, plan: "Plan", decision: "Decision | None", console: "Console"
) -> Exit:
    """Answer with the plan: nothing else was asked for, or there is nothing to attack."""
    from refute.report.plan import show_outcome

    if arguments.json:
        decided = {} if arguments.plan or decision is None else {"decision": decision.to_json()}
        print(json.dumps({**plan.to_json(), **decided}, indent=2))
    if arguments.plan or decision is None:
        return Exit.OK
    show_outcome(decision, decision, console)
    return decision.code


def _pytest_arguments(arguments: argparse.Namespace, contracts: "Sequence[Contract]") -> list[str]:
    """Say to pytest what was said to refute.

    Where records go it is always told: its own default counts from its root, which may be far above.
    """
    passed = [] if arguments.faults else [f"--refute-evidence={home_of(arguments, policy_of(contracts))}"]
    names = ("model", "backend", "device", "seed", "target")
    for name in (*names, "endpoint", "model-name", "api-key-env", "dialect"):
        value = getattr(arguments, name.replace("-", "_"))
        passed += [] if value is None else [f"--refute-{name}={value}"]
    passed += [] if arguments.mmap is None else ["--refute-mmap" if arguments.mmap else "--refute-no-mmap"]
    passed += ["--refute-faults"] if arguments.faults else []
    passed += ["--refute-every-fault"] if arguments.every else []
    passed += ["-x"] if arguments.exitfirst else []
    keyword = arguments.keyword if arguments.profile is None else None  # its plan has chosen already
    for option, value in (("-k", keyword), ("-m", arguments.marker), ("-n", arguments.workers)):
        passed += [] if value is None else [option, value]
    return passed

"""`refute run`: attack claims and record what was found."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import (
    Refused,
    add_paths,
    add_target,
    choose,
    console_on,
    contracts_of,
    endpoint_of,
    policy_of,
)
from refute.commands.sign import signed_by, signer_of
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.commands.shared import Commands
    from refute.contract import Contract
    from refute.takeover import Takeover


def add(commands: "Commands") -> None:
    """Add the command."""
    run = commands.add_parser("run", help="attack the claims of contracts and record what was found")
    add_paths(run)
    add_target(run)
    run.add_argument("--evidence", metavar="DIR", help="the tree that records go to (default: evidence)")
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
    from refute.matrix import Matrix
    from refute.report.live import Live
    from refute.report.run import as_data, show
    from refute.run import finished, run

    if arguments.every and not arguments.faults:
        raise Refused(
            Exit.USAGE, "refute: --all belongs to --faults; without it every claim is attacked anyway"
        )
    workers = arguments.workers
    if workers not in (None, "auto") and not re.fullmatch(r"0*[1-9][0-9]{0,3}", workers):
        raise Refused(Exit.USAGE, f"refute: -n {workers}: expected a whole number of at least 1, or auto")
    if arguments.sign is not None and arguments.faults:
        raise Refused(Exit.USAGE, "refute: --sign signs records, and --faults keeps none")
    signer = None if arguments.sign is None else signer_of(arguments.sign)
    contracts = contracts_of(arguments.paths)
    console = console_on(sys.stderr if arguments.json else sys.stdout)
    takeover = None
    if arguments.resume is not None:
        arguments, takeover = _resumed(arguments, contracts, console)
    files = [contract.path for contract in contracts]
    if takeover is not None and not takeover.left:
        outcome = finished(takeover, Live(console))
    else:
        outcome = run(files, _pytest_arguments(arguments), Live(console), takeover)
    if outcome.ledger is None or not outcome.ledger.contracts:
        raise Refused(outcome.code, outcome.notes.strip() or "refute: nothing was attacked")
    code = outcome.code
    if arguments.every and code is Exit.OK and Matrix.of(outcome.ledger.findings).holes:
        code = Exit.INVALID
    if arguments.json:
        print(json.dumps(as_data(outcome.ledger, code), indent=2))
    else:
        show(outcome.ledger, console, faults_only=arguments.faults)
    if signer is not None:
        ids = {signed_by(folder, signer) for folder in outcome.ledger.folders}
        console.print(f"signed  by {', '.join(ids)}")
    return code


def _resumed(
    arguments: argparse.Namespace, contracts: "Sequence[Contract]", console: "Console"
) -> "tuple[argparse.Namespace, Takeover]":
    """What the interrupted run was asked for, and what is taken over from it. Raises `Refused`."""
    from refute.host import facts, testbed
    from refute.provenance import package_digest
    from refute.report.progress import hashing
    from refute.resume import CannotResume, find, options_of
    from refute.takeover import take_over

    for option, given in (
        ("-k", arguments.keyword),
        ("-m", arguments.marker),
        ("--faults", arguments.faults or None),
    ):
        if given is not None:
            raise Refused(
                Exit.USAGE, f"refute: {option} does not go with --resume: the rest of a run is known"
            )
    trees = policy_of(contracts).evidence if arguments.evidence is None else [Path(arguments.evidence)]
    try:
        interrupted = find(trees, arguments.resume)
        arguments = options_of(interrupted, arguments, os.environ)
        named = endpoint_of(arguments)
        selection = choose(arguments, arguments.target or ("bundled" if named is None else "openai"), named)
        with hashing(console) as progress:
            takeover = take_over(
                interrupted,
                contracts,
                selection,
                testbed=testbed(facts()),
                harness=package_digest("refute", suffixes=(".py", ".json")),
                progress=progress,
            )
    except CannotResume as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    return arguments, takeover


def _pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    """Say to pytest what was said to refute."""
    passed = []
    names = ("model", "backend", "device", "evidence", "seed", "target")
    for name in (*names, "endpoint", "model-name", "api-key-env", "dialect"):
        value = getattr(arguments, name.replace("-", "_"))
        passed += [] if value is None else [f"--refute-{name}={value}"]
    passed += ["--refute-faults"] if arguments.faults else []
    passed += ["--refute-every-fault"] if arguments.every else []
    passed += ["-x"] if arguments.exitfirst else []
    for option, value in (("-k", arguments.keyword), ("-m", arguments.marker), ("-n", arguments.workers)):
        passed += [] if value is None else [option, value]
    return passed

"""What `refute run` attacks where it is not all: the rest of an interrupted run, what a profile lacks."""

import argparse
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, choose, endpoint_of, policy_of
from refute.verdict import Exit

if TYPE_CHECKING:
    from contextlib import ExitStack

    from rich.console import Console

    from refute.contract import Contract
    from refute.gate import Decision
    from refute.plan import Plan
    from refute.takeover import Takeover


def refuse_together(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go with each other. Raises `Refused`."""
    resume, profile = arguments.resume is not None, arguments.profile is not None
    given = {"-k": arguments.keyword, "-m": arguments.marker, "--faults": arguments.faults or None}
    for option in (each for each, value in given.items() if value is not None):
        if resume:
            why = f"{option} does not go with --resume: the rest of a run is known"
            raise Refused(Exit.USAGE, f"refute: {why}")
        if profile and option != "-k":
            why = f"{option} does not go with --profile, which chooses itself; -k does"
            raise Refused(Exit.USAGE, f"refute: {why}")
    if resume and profile:
        raise Refused(Exit.USAGE, "refute: --profile does not go with --resume: a run keeps its profile")
    if arguments.plan and not profile:
        raise Refused(Exit.USAGE, "refute: --plan belongs to --profile; to list falsifiers: pytest --co")


def resumed(
    arguments: argparse.Namespace,
    contracts: "Sequence[Contract]",
    console: "Console",
    until_the_end: "ExitStack",
) -> "tuple[argparse.Namespace, Takeover]":
    """What the interrupted run was asked for, and what is taken over from it. Raises `Refused`.

    until_the_end: no other process can go on with that run before it is closed.
    """
    from refute.host import facts, testbed
    from refute.provenance import harness_digest
    from refute.report.progress import hashing
    from refute.resume import CannotResume, alone, find, options_of
    from refute.takeover import take_over

    trees = policy_of(contracts).evidence if arguments.evidence is None else [Path(arguments.evidence)]
    try:
        interrupted = until_the_end.enter_context(alone(find(trees, arguments.resume)))
        arguments = options_of(interrupted, arguments, os.environ)
        named = endpoint_of(arguments)
        selection = choose(arguments, arguments.target or ("bundled" if named is None else "openai"), named)
        with hashing(console) as progress:
            takeover = take_over(
                interrupted,
                contracts,
                selection,
                testbed=testbed(facts()),
                harness=harness_digest(),
                progress=progress,
            )
    except CannotResume as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    return arguments, takeover


def decided(arguments: argparse.Namespace, contracts: "Sequence[Contract]") -> "Decision":
    """What the gate says now, on the trees of the policy and the one that this run writes to."""
    from refute.gate import gate

    policy = policy_of(contracts)
    return gate(contracts, _trees(arguments, policy.evidence), profile=arguments.profile, policy=policy)


def planned(
    arguments: argparse.Namespace, contracts: "Sequence[Contract]", decision: "Decision", console: "Console"
) -> "Plan":
    """Choose what the profile lacks, estimate it and show the plan. Raises `Refused`."""
    from datetime import UTC, datetime

    from refute.attempts import Present
    from refute.commands.estimating import Estimates
    from refute.contract import declared
    from refute.counting import Counting
    from refute.plan import matches, plan
    from refute.report.plan import show_plan

    named = endpoint_of(arguments)
    selection = choose(arguments, arguments.target or ("bundled" if named is None else "openai"), named)
    if selection.missing:
        raise Refused(Exit.MISSING, f"refute: {selection.missing}")
    try:
        wanted = matches(arguments.keyword) if arguments.keyword is not None else lambda *_: True
    except ValueError as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    known = declared(contracts)
    claims = [(each.claim, known[each.claim.contract, each.claim.falsifier][1]) for each in decision.rulings]
    estimates = Estimates(selection, claims, console)
    made = plan(
        decision,
        contracts,
        estimates.subject,
        counting=Counting(decision.profile, policy_of(contracts), datetime.now(UTC)),
        present=Present.here(),
        estimate=estimates,
        wanted=wanted,
    )
    show_plan(made, console)
    return made


def expected_of(plan: "Plan | None") -> Mapping[tuple[str, str], float | None]:
    """What each falsifier may take, where it was estimated."""
    if plan is None:
        return {}
    return {(each.contract, each.falsifier): each.estimate.seconds for each in plan.planned}


def least_of(plan: "Plan | None") -> Collection[tuple[str, str]]:
    """Those of which only what they take at least is known."""
    planned = () if plan is None else plan.planned
    return {(each.contract, each.falsifier) for each in planned if each.estimate.least}


def processes(workers: str | None) -> int:
    """How many falsifiers are attacked at once."""
    if workers == "auto":
        return os.cpu_count() or 1
    return 1 if workers is None else int(workers)


def _trees(arguments: argparse.Namespace, policy: Sequence[Path]) -> list[Path]:
    named = [] if arguments.evidence is None else [Path(arguments.evidence)]
    return [*dict.fromkeys([*named, *policy])]

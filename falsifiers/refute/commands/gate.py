"""`refute gate`: may a change or a release pass."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import (
    Refused,
    add_paths,
    add_trees,
    contracts_of,
    policy_of,
    trees_of,
)
from refute.policy import PROFILES
from refute.report.output import console_on
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands

_DESCRIPTION = (
    "Decide on the records, and on [tool.refute] in ./pyproject.toml, whether a change (pr) or a release may "
    "pass. In GitHub Actions the decision is also written to the job's summary, and what blocks to "
    "annotations on standard error."
)


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("gate", help="decide on the records whether a change or a release may pass")
    parser.description = _DESCRIPTION
    add_paths(parser)
    add_trees(parser)
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        required=True,
        help="pr: every claim survived on the embedded model; release: full-model evidence discharges it too",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the rulings as JUnit XML")
    parser.add_argument(
        "--summary", type=Path, metavar="FILE", help="write a summary in Markdown, instead of the job's"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="decide and tell as ever, and end with exit code 0"
    )
    parser.set_defaults(execute=_gate)


def _gate(arguments: argparse.Namespace) -> Exit:
    from refute.gate import gate
    from refute.report.annotations import annotations
    from refute.report.job_summary import LIMIT, job_summary
    from refute.report.junit import junit
    from refute.report.terminal import show_decision

    contracts = contracts_of(arguments.paths, foreign=True)
    policy = policy_of(contracts)
    decision = gate(contracts, trees_of(arguments, policy), profile=arguments.profile, policy=policy)
    if arguments.json:
        print(json.dumps(decision.to_json(), indent=2))
    else:
        show_decision(decision, console_on(sys.stdout))
    if arguments.junit is not None:
        _write(arguments.junit, lambda: arguments.junit.write_bytes(junit(decision)))
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if arguments.summary is not None:
        text = job_summary(decision)
        _write(arguments.summary, lambda: arguments.summary.write_text(text, encoding="utf-8"))
    elif step:
        _write(Path(step), lambda: _append(Path(step), lambda room: job_summary(decision, room), LIMIT))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        root = Path(os.environ.get("GITHUB_WORKSPACE") or Path())
        for line in annotations(decision, contracts, root):
            print(line, file=sys.stderr)
    return Exit.OK if arguments.dry_run else decision.code


def _append(path: Path, summary: Callable[[int], str], limit: int) -> None:
    """Add to what the step has in its summary already, within what a step may have there in all."""
    there = path.stat().st_size if path.exists() else 0
    with path.open("ab") as file:
        file.write(summary(max(limit - there, 0)).encode())


def _write(path: Path, write: Callable[[], object]) -> None:
    try:
        write()
    except OSError as error:
        raise Refused(Exit.USAGE, f"refute: {path} cannot be written: {error.strerror or error}") from None

"""`refute report`: what the records say, as one file that a reviewer reads."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, add_paths, add_trees, contracts_of, policy_of, trees_of
from refute.report.words import counted
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="write what the records say as one HTML file")
    parser.description = (
        "Write every claim with its samples against the bound, the faults that it caught, its attempts and "
        "where they come from: one HTML file that needs no network."
    )
    add_paths(parser)
    add_trees(parser, as_json=False)
    parser.add_argument(
        "--format",
        choices=("html", "markdown"),
        default="html",
        help="markdown: for pull requests, bounded in size (default: html)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where it is written (default: report.html; Markdown goes to standard output)",
    )
    parser.set_defaults(execute=_report)


def _report(arguments: argparse.Namespace) -> Exit:
    from refute.attempts import Present
    from refute.audit.examine import audit
    from refute.audit.subject import Here
    from refute.provenance import package_digest
    from refute.report.page.gather import gather
    from refute.report.page.markdown import markdown
    from refute.report.page.render import page

    contracts = contracts_of(arguments.paths, foreign=True)
    policy = policy_of(contracts)
    trees, present = trees_of(arguments, policy), Present.here()
    harness = package_digest("refute", suffixes=(".py", ".json"))
    here = Here(present, contracts={each.id: each for each in contracts}, harness=harness)
    found = audit([tree for tree in trees if tree.exists()], here)
    report = gather(contracts, trees, policy=policy, audit=found, present=present)
    if arguments.format == "markdown" and arguments.out is None:
        print(markdown(report), end="")
        return Exit.OK
    out: Path = arguments.out or Path("report.html")
    data = page(report) if arguments.format == "html" else markdown(report).encode()
    try:
        out.write_bytes(data)
    except OSError as error:
        raise Refused(Exit.USAGE, f"refute: {out}: {error.strerror or error}") from None
    told = ", ".join(f"{count} {status}" for status, count in report.counts) or "no claims"
    print(f"{out}: {counted(report.claims, 'claim')} ({told}), {len(data) / 1024:.0f} KiB")
    return Exit.OK

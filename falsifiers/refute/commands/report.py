"""`refute report`: what the records say, as one file that a reviewer reads."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import (
    DEFAULT_TREES,
    Refused,
    add_paths,
    add_trees,
    contracts_of,
    keys_of,
    policy_of,
    trees_of,
)
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
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("RUN", "RUN"),
        help="two runs side by side instead: ids, or folders of runs",
    )
    parser.set_defaults(execute=_report)


def _report(arguments: argparse.Namespace) -> Exit:
    if arguments.compare is not None and arguments.paths:
        raise Refused(Exit.USAGE, "refute: --compare takes no PATH: runs are judged by their own contracts")
    made = _comparison(arguments) if arguments.compare is not None else _whole(arguments)
    if arguments.format == "markdown" and arguments.out is None:
        encoding = sys.stdout.encoding or "utf-8"
        print(made.data.decode().encode(encoding, "xmlcharrefreplace").decode(encoding), end="")
        return Exit.OK
    out: Path = arguments.out or Path("report.html")
    try:
        out.write_bytes(made.data)
    except OSError as error:
        raise Refused(Exit.USAGE, f"refute: {out}: {error.strerror or error}") from None
    print(f"{out}: {made.told}, {len(made.data) / 1024:.0f} KiB")
    return Exit.OK


@dataclass(frozen=True, slots=True)
class _Made:
    """What is written, and what is said of it."""

    data: bytes
    told: str


def _whole(arguments: argparse.Namespace) -> _Made:
    from refute.attempts import Present
    from refute.audit.examine import audit
    from refute.audit.subject import Here
    from refute.provenance import harness_digest
    from refute.report.page.gather import gather
    from refute.report.page.markdown import markdown
    from refute.report.page.render import page

    contracts = contracts_of(arguments.paths, foreign=True)
    policy = policy_of(contracts)
    trees, present = trees_of(arguments, policy), Present.here()
    here = Here(
        present,
        contracts={each.id: each for each in contracts},
        harness=harness_digest(),
        keys=keys_of(policy.keys.values() if arguments.evidence is DEFAULT_TREES else ()),
        unsigned=True,
    )
    found = audit([tree for tree in trees if tree.exists()], here)
    report = gather(contracts, trees, policy=policy, audit=found, present=present)
    data = page(report) if arguments.format == "html" else markdown(report).encode()
    told = ", ".join(f"{count} {status}" for status, count in report.counts) or "no claims"
    return _Made(data, f"{counted(report.claims, 'claim')} ({told})")


def _comparison(arguments: argparse.Namespace) -> _Made:
    import refute
    from refute.finding import timestamp
    from refute.kinds import kind_named
    from refute.report.page.compare import NoSuchRun, compare, find_run
    from refute.report.page.compared_markdown import compared_markdown
    from refute.report.page.render import compared

    try:
        trees = trees_of(arguments, policy_of([]))
        before, after = (find_run(name, trees) for name in arguments.compare)
    except NoSuchRun as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    both = compare(before, after, kinds=kind_named, made=timestamp(), version=refute.__version__)
    data = compared(both) if arguments.format == "html" else compared_markdown(both).encode()
    told = ", ".join(f"{count} {change}" for change, count in both.counts) or "no claims"
    return _Made(data, f"{both.before.run} and {both.after.run} ({told})")

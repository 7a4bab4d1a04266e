"""`refute lint`: check contracts."""

import argparse
import json
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, add_paths
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    parser = commands.add_parser("lint", help="check contracts: file:line:col: what, expected, fix")
    parser.description = (
        "Check contracts. With --base, compare each with its version at a git revision too and demand the "
        "version (SemVer) that the change calls for: patch where only texts changed, minor where the "
        "contract asks for more (tightening) or gains a falsifier (addition), major where it asks for less "
        "(loosening) or for something else (breaking). Exit code 2 where a contract is at fault."
    )
    add_paths(parser)
    parser.add_argument("--base", metavar="REV", help="a branch, tag or commit, such as origin/main")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(execute=_lint)


def _lint(arguments: argparse.Namespace) -> Exit:
    from refute.lint_base import NoBase
    from refute.report.lint import check

    try:
        report = check(arguments.paths, arguments.base)
    except NoBase as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
        return report.code
    for line in report.lines():
        print(line)
    if report.problems:
        raise Refused(report.code, *report.problems)
    return report.code

"""`refute replay`: a recorded counterexample again."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused, add_target, endpoint_of, selected
from refute.select import ENGINES
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands
    from refute.select import Engine


def add(commands: "Commands") -> None:
    """Add the command."""
    replay = commands.add_parser("replay", help="run a recorded counterexample again (1 if it refutes)")
    replay.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="evidence/CONTRACT/RUN/FALSIFIER.counterexample.json, or the finding beside it",
    )
    add_target(replay)
    replay.set_defaults(execute=_replay)


def _replay(arguments: argparse.Namespace) -> Exit:
    from refute.explain import fields
    from refute.replay import CannotReplay, load_counterexample, replay
    from refute.targets.base import TargetError
    from refute.wire.about import Unnamed

    try:
        known = load_counterexample(arguments.file)
        recorded: Engine = next((name for name in ENGINES if name == known.target), "bundled")
        recorded = "openai" if arguments.endpoint else recorded
        selection = selected(arguments, arguments.target or recorded, endpoint_of(arguments))
        print(f"{known.contract}/{known.falsifier} on {selection}")
        again = replay(known, selection.open())
    except (CannotReplay, Unnamed) as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    except TargetError as error:
        raise Refused(Exit.MISSING, f"refute: {error}") from None
    print(f"case  {fields(again.observation.case)}")
    print(f"gave  {fields(again.observation.samples)}")
    if not again.same_model:
        print(f"note  the record is of another model: {known.model_name}")
    print("refutes the claim again" if again.refuted else "does not refute the claim now")
    return Exit.FALSIFIED if again.refuted else Exit.OK

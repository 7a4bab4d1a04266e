"""What the bundled runtime has to do once on a machine, done before a run and shown."""

import argparse
from typing import TYPE_CHECKING

from refute.commands.shared import choose

if TYPE_CHECKING:
    from rich.console import Console


def prepare(arguments: argparse.Namespace, console: "Console") -> None:
    """Compile the kernels that the run will need, if nobody did yet: its processes would do so unseen.

    What is wrong with model or backend the run itself says.
    """
    if arguments.endpoint is not None or arguments.target not in (None, "bundled"):
        return
    selection = choose(arguments, "bundled")
    if selection.missing or selection.model is None or selection.backend == "array":
        return
    from refute.report.progress import loading
    from refute_runtime.backends.choice import compiled
    from refute_runtime.errors import RuntimeFailure

    if selection.device == "gpu" or compiled():
        return
    console.print("compiling kernels for this processor, once: this takes about half a minute")
    try:
        from refute_runtime.engine import Engine

        with loading(console) as progress:
            model = (selection.model, selection.backend, selection.device)
            Engine.load(*model, mmap=True, progress=progress).close()
    except (RuntimeFailure, OSError):
        return

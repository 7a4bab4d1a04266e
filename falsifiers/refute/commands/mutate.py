"""`refute mutate`: a model file with a fault in it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused
from refute.faults.base import FaultSpec, written_dose
from refute.faults.specs_logits import MODEL
from refute.verdict import Exit

if TYPE_CHECKING:
    from refute.commands.shared import Commands


def add(commands: "Commands") -> None:
    """Add the command."""
    mutate = commands.add_parser("mutate", help="write a copy of a GGUF model with a fault in it")
    mutate.description = (
        "Write a copy of a model that is sound as a file and wrong as a model, for any engine that\n"
        "reads GGUF: one key or some tensors differ, as listed, all else is the same byte for byte."
    )
    mutate.epilog = "\n".join(["faults (the dose without =DOSE):", *map(_fault, MODEL)])
    mutate.formatter_class = argparse.RawDescriptionHelpFormatter
    mutate.add_argument(
        "model", type=Path, metavar="IN.gguf", help="a qwen3moe or qwen3 model, left as it is"
    )
    mutate.add_argument("out", type=Path, metavar="OUT.gguf", help="where the copy goes")
    mutate.add_argument("--fault", required=True, metavar="NAME[=DOSE]", help="rope-base=1.01, for example")
    mutate.add_argument("--force", action="store_true", help="replace OUT.gguf if it is there")
    mutate.set_defaults(execute=_mutate)


def _fault(spec: FaultSpec) -> str:
    return f"  {spec.name} ({written_dose(spec.default, spec.unit)}): {spec.breaks}"


def _mutate(arguments: argparse.Namespace) -> Exit:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from refute.mutate import CannotMutate, model_fault, write_mutant

    console = Console(stderr=True)
    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    try:
        fault = model_fault(arguments.fault)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("")
            mutant = write_mutant(
                arguments.model,
                fault,
                arguments.out,
                force=arguments.force,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except CannotMutate as error:
        raise Refused(Exit.USAGE, f"refute: {error}") from None
    print(f"{arguments.out}: {arguments.model.name} with {fault}")
    print("\n".join(f"  {name}" for name in mutant.changed))
    return Exit.OK

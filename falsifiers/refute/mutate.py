"""Copies of a model file with one fault in them, for `refute mutate` and for targets that read files."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from refute.faults import FAULTS
from refute.faults.base import Fault, UnknownFault, parse_fault
from refute.faults.gguf_parts import GgufParts, NotGguf
from refute.faults.model import Mutant, mutate
from refute.faults.specs_logits import MODEL
from refute.marked_yaml import did_you_mean
from refute.scratch import scratch
from refute.targets.base import CannotPlant

_NAMES = f"expected one of the model: {', '.join(spec.name for spec in MODEL)}"


class CannotMutate(Exception):  # noqa: N818 (an answer to a person)
    """The copy cannot be made; the message is one sentence."""


def model_fault(text: str) -> Fault:
    """Read `name` or `name=dose` of a fault of the model. Raises `CannotMutate` with a sentence."""
    try:
        fault = parse_fault(text, FAULTS)
    except UnknownFault as error:
        near = did_you_mean(error.args[0], [spec.name for spec in MODEL])
        raise CannotMutate(f"{error.args[0]!r} is no fault; {near}") from None
    except ValueError:
        raise CannotMutate(f"{text}: the dose is not a number; expected NAME or NAME=DOSE") from None
    seam = FAULTS[fault.name].seam
    if seam != "model":
        raise CannotMutate(f"{fault.name} is a fault of the {seam}, which is in no file; {_NAMES}")
    return fault


def write_mutant(
    source: Path,
    fault: Fault,
    out: Path,
    *,
    force: bool = False,
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> Mutant:
    """Write a copy of a model with this fault; `out` is whole or absent.

    force: replace a file that is there. progress: told the bytes that are written, and of how many.
    Raises `CannotMutate` with a sentence.
    """
    if out.exists() and source.exists() and out.samefile(source):
        raise CannotMutate(f"{out}: is the model itself; expected another file for the copy")
    if out.exists() and not out.is_file() and not out.is_dir():
        raise CannotMutate(f"{out}: is no regular file; expected a new file")
    if out.is_dir() or (out.exists() and not force):
        kind = "a folder" if out.is_dir() else "there already (--force replaces it)"
        raise CannotMutate(f"{out}: is {kind}; expected a new file")
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        mutant = mutate(fault, GgufParts.open(source))
        done, total = 0, mutant.parts.nbytes

        def more(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        try:
            with beside.open("xb") as stream:
                mutant.parts.write(stream, more)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
    except (CannotPlant, NotGguf) as error:
        raise CannotMutate(str(error)) from None
    except OSError as error:
        raise CannotMutate(f"{out}: cannot be written ({error.strerror})") from None
    return mutant


@contextmanager
def mutant_of(source: Path, fault: Fault) -> Iterator[Path]:
    """Give a temporary copy of a model with this fault. Raises `CannotPlant`, also where it finds no room."""
    with scratch("mutant") as folder:
        copy = folder / source.name
        try:
            write_mutant(source, fault, copy)
        except CannotMutate as error:
            raise CannotPlant(str(error)) from None
        yield copy

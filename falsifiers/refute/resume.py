"""Which run `refute run --resume` goes on with, and with which options: those that it was started with."""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.locks import locked
from refute.reader import CONTRACT, Run, folders_by_run, read_run
from refute.report.words import shown

_FROM_RECORD = ("target", "backend", "device", "endpoint", "model_name", "dialect", "seed")


class CannotResume(Exception):  # noqa: N818 (an answer to a person)
    """A run that cannot be gone on with; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A run that was interrupted: its parts, one for each contract, in one tree."""

    run: str
    tree: Path
    parts: tuple[Run, ...]

    @property
    def requested(self) -> Mapping[str, Any]:
        """What it was asked for."""
        found: Mapping[str, Any] = self.parts[0].summary["requested"]
        return found


def find(trees: Sequence[Path], name: str) -> Interrupted:
    """Return the run of this id, unique prefix or path; of no name, the newest that was interrupted.

    Raises `CannotResume`: there is none, it is not over, or it is complete.
    """
    if name and (Path(name) / "findings.json").is_file():
        path = Path(name)
        trees, name = [path.absolute().parents[1]], path.absolute().name
    runs = folders_by_run(trees)
    if not name:
        return _newest(runs, trees)
    found = [run for run in runs if run.startswith(name)]
    if not found:
        where = ", ".join(str(shown(tree)) for tree in trees)
        raise CannotResume(f"{name}: no run of this name in {where}; expected an id, its beginning or a path")
    if len(found) > 1 and name not in found:
        raise CannotResume(f"{name}: begins {len(found)} runs, {found[-1]} and {found[-2]} for example")
    run = name if name in found else found[0]
    parts = _parts(runs[run])
    _refuse_living(parts)
    if not any(part.state == "interrupted" for part in parts):
        raise CannotResume(f"{run} is complete: nothing to resume")
    for later in (each for each in runs if each > run):
        if any((part.summary.get("resumes") or {}).get("run") == run for part in _parts(runs[later])):
            raise CannotResume(f"{run} was resumed already, by {later}: if that is not complete, resume it")
    return _interrupted(run, parts)


@contextmanager
def alone(interrupted: Interrupted) -> Iterator[Interrupted]:
    """Be the only process that goes on with a run, in here; gives it as it is by now.

    Raises `CannotResume` where another does, or has done so meanwhile.
    """
    with ExitStack() as stack:
        # Never replaced, as the listing is; the folder itself is locked by whoever seals it.
        for file in filter(Path.is_file, (part.path / CONTRACT for part in interrupted.parts)):
            if not stack.enter_context(locked(file, wait=False)):
                raise CannotResume(f"{interrupted.run} is being resumed by another process at this moment")
        yield find([interrupted.tree], interrupted.run)


def options_of(
    interrupted: Interrupted, arguments: argparse.Namespace, environ: Mapping[str, str]
) -> argparse.Namespace:
    """Return the arguments with what the run was started with. Raises `CannotResume` for what differs."""
    asked = interrupted.requested
    merged = argparse.Namespace(**vars(arguments))
    merged.evidence = str(interrupted.tree)
    for name in _FROM_RECORD:
        given, recorded = getattr(arguments, name), asked[name]
        if given is not None and str(given) != str(recorded):
            option = f"--{name.replace('_', '-')}"
            raise CannotResume(
                f"{interrupted.run} was started with {option} {recorded}, not {given}: a run that goes on "
                "cannot be of something else; start a new one without --resume"
            )
        setattr(merged, name, None if recorded is None else str(recorded))
    if merged.backend is None:  # `auto` chose it then, and may choose another one now
        merged.backend = _backend(interrupted)
    if asked["model_origin"] == "named" and arguments.model is None:
        merged.model = _named_model(interrupted)
    if asked["model_origin"] not in ("named", "embedded", "simulated") and merged.model is None:
        variable = str(asked["model_origin"])
        if not environ.get(variable):
            raise CannotResume(f"{interrupted.run} attacked the model of ${variable}, which is not set")
    return merged


def _backend(interrupted: Interrupted) -> str | None:
    """The backend of the bundled runtime that the findings were made on; None where there are none."""
    for part in interrupted.parts:
        for record in part.records:
            target = record.finding.target
            if target.get("name") == "bundled":
                return str(target["settings"]["backend"])
    return None


def _named_model(interrupted: Interrupted) -> Path | None:
    """The model that was named then, from the recorded command line; it is compared by its digest later."""
    if interrupted.requested["model"] is None:
        return None
    for summary in _chain(interrupted.parts[0]):
        argv = summary["provenance"]["argv"]
        paths = [after for before, after in itertools.pairwise(argv) if before == "--model"]
        paths += [each.removeprefix("--model=") for each in argv if each.startswith("--model=")]
        for path in map(Path, paths):
            if path.expanduser().is_file():
                return path.expanduser()
    name = interrupted.requested["model"]
    raise CannotResume(f"{interrupted.run} attacked {name}: say where it is, with --model FILE")


def _chain(part: Run) -> Iterator[Mapping[str, Any]]:
    """The summaries of a run and of those that it goes on with."""
    seen = set[str]()
    while part.summary and part.run not in seen:
        seen.add(part.run)
        yield part.summary
        if part.summary["resumes"] is None:
            return
        before = part.path.with_name(part.summary["resumes"]["run"])
        if not before.is_dir():
            return
        part = read_run(before)


def _newest(runs: dict[str, list[Path]], trees: Sequence[Path]) -> Interrupted:
    resumed: set[str] = set()
    for run in reversed(runs):
        parts = _parts(runs[run])
        if any(part.state == "interrupted" for part in parts) and run not in resumed:
            _refuse_living(parts)
            return _interrupted(run, parts)
        resumed.update(part.summary["resumes"]["run"] for part in parts if part.summary.get("resumes"))
    where = ", ".join(str(shown(tree)) for tree in trees)
    raise CannotResume(f"nothing to resume: no run in {where} was interrupted and not resumed yet")


def _interrupted(run: str, parts: Sequence[Run]) -> Interrupted:
    begun = tuple(part for part in parts if part.summary)
    if not begun:
        raise CannotResume(f"{run} was killed before it began: nothing to resume")
    return Interrupted(run, begun[0].path.parents[1], begun)


def _refuse_living(parts: Iterable[Run]) -> None:
    for part in parts:
        if part.state == "running":
            process = part.summary["provenance"]["process"]["pid"]
            raise CannotResume(
                f"{part.run} still runs, as process {process}: it can be resumed once it is over"
            )


def _parts(paths: Iterable[Path]) -> list[Run]:
    return [read_run(path) for path in paths]

"""Closes the record of a run whose process is gone, so that another run can cite it.

What the process finished is listed as it lies there. When it ended nobody knows: the last time in its files
is written down. Half-written files were never part of the record, and are removed.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from refute.locks import locked
from refute.reader import CONTRACT, SIGNATURE, SUMMARY, TELEMETRY, Run, listing, read_run
from refute.record import FileSystem, place
from refute.strict_json import dump_strict, load_strict


class CannotSeal(Exception):  # noqa: N818 (an answer to a person)
    """A run that cannot be closed; the message says why."""


def seal_interrupted(path: Path, files: FileSystem | None = None) -> Run:
    """Seal a dead run as interrupted and read it again; one that is sealed stays as it is.

    Raises `CannotSeal` where it lives, has no list, or is not as it was written; OSError.
    """
    files = files or FileSystem()
    with locked(path):
        run = read_run(path)
        if run.problems:
            raise CannotSeal(f"{run.problems[0]}")
        if not run.summary:
            raise CannotSeal(f"{path}: has no {SUMMARY}: it was killed before it began")
        if run.state == "running":
            raise CannotSeal(f"{path}: process {run.summary['provenance']['process']['pid']} still runs it")
        if run.summary["state"] != "running":
            return run
        for half in path.glob(".*.tmp"):
            half.unlink()
        _cut_to_lines(path / TELEMETRY)
        place(files, path / SUMMARY, dump_strict(_closed(run)))
        return read_run(path)


def _closed(run: Run) -> dict[str, Any]:
    summary = load_strict((run.path / SUMMARY).read_bytes())
    listed = {entry["falsifier"] for entry in summary["findings"]}
    for record in run.records:
        finding = record.finding
        if finding.falsifier not in listed:
            entry = {"falsifier": finding.falsifier, "verdict": finding.verdict.value}
            own = {} if finding.run == run.run else {"run": finding.run}
            data = (run.path / record.file).read_bytes()
            summary["findings"].append({**entry, **listing(record.file, data), **own})
    known = {SUMMARY, SIGNATURE, CONTRACT} | {
        entry["file"] for entry in (*summary["findings"], *summary["files"])
    }
    for name in sorted(entry.name for entry in run.path.iterdir() if entry.name not in known):
        summary["files"].append(listing(name, (run.path / name).read_bytes()))
    summary["state"] = "interrupted"
    summary["time"]["ended"] = max(_times(run), key=datetime.fromisoformat)
    return dict(summary)


def _times(run: Run) -> Iterator[str]:
    yield run.summary["time"]["started"]
    yield from (record.finding.ended for record in run.records if record.finding.run == run.run)
    with suppress(OSError, ValueError, KeyError, TypeError):
        last = (run.path / TELEMETRY).read_bytes().splitlines()[-1:]
        yield from (load_strict(line)["at"] for line in last)


def _cut_to_lines(path: Path) -> None:
    """Drop a line that was not written to its end."""
    with suppress(FileNotFoundError), path.open("r+b") as stream:
        data = stream.read()
        stream.truncate(data.rfind(b"\n") + 1)

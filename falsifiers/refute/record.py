"""The record of one run of one contract: `evidence/<contract>/<run>/`, written so that no kill can spoil it.

A run holds `contract.yaml` verbatim, one file per finding, `run.log`, and `findings.json`, which lists
them with their digests. Every file is whole or absent (temporary file, fsync, rename, fsync of the
directory); `findings.json` is rewritten after each finding and says `running` until it is sealed. A
running run whose process is gone reads as interrupted; a finding that was finished but not yet listed
counts.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.finding import RUN_ID, Finding, timestamp
from refute.provenance import process_identity
from refute.reader import APPENDED, CONTRACT, LOG, SCHEMA, SIGNATURE, SUMMARY, State, listing, schema_faults
from refute.recordable import NOTHING, Requested
from refute.redaction import Secrets, sentence
from refute.strict_json import StrictJsonError, load_strict

if TYPE_CHECKING:
    from refute.contract import Contract


_NONE = Secrets()


class RecordError(Exception):
    """A record that cannot be written; the message says what, where and what was expected."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A run as others cite it. sha256: of its findings.json, which is not written again."""

    run: str
    sha256: str


class FileSystem:
    """What a writer does to the disk, one method per step; tests stop a run at each of them."""

    def mkdir(self, path: Path) -> None:
        """Make one directory, which must not be there."""
        path.mkdir()

    def write(self, path: Path, data: bytes) -> int:
        """Write a file from its start; return its open descriptor.

        An interrupted write of the same process may have left it behind.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            _write_all(descriptor, data)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _write_all(descriptor, data)
        finally:
            os.close(descriptor)

    def fsync(self, descriptor: int) -> None:
        """Bring a file to the disk."""
        os.fsync(descriptor)

    def replace(self, source: Path, destination: Path) -> None:
        """Rename over the destination, atomically."""
        source.replace(destination)

    def fsync_directory(self, path: Path) -> None:
        """Bring a directory's entries to the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_run_id() -> str:
    """Return an id that sorts by time: UTC to the millisecond, then eight random hex digits."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}Z-{uuid.uuid4().hex[:8]}"


class RunWriter:
    """Writes one run. Not safe for threads; any number of writers may share a tree.

    began_ns: when it was opened, on the monotonic clock.
    """

    def __init__(
        self, path: Path, summary: dict[str, Any], files: FileSystem, secrets: Secrets = _NONE
    ) -> None:
        self.path = path
        self._secrets = secrets
        self._summary = summary
        self._fs = files
        self.began_ns = time.monotonic_ns()

    @classmethod
    def open(
        cls,
        tree: Path,
        contract: "Contract",
        *,
        selected: Sequence[str],
        provenance: Mapping[str, Any],
        requested: Requested = NOTHING,
        resumes: Sealed | None = None,
        secrets: Secrets = _NONE,
        run: str | None = None,
        files: FileSystem | None = None,
    ) -> "RunWriter":
        """Start a run and bring its plan to the disk. Raises `RecordError` where the run is there already.

        selected: the falsifiers that are going to be attacked, of all that the contract declares.
        resumes: the interrupted run whose findings are taken over. secrets: what is taken out of all files.
        """
        declared = [falsifier.id for falsifier in contract.falsifiers]
        refused = sorted(set(selected) - set(declared) or {Path(SUMMARY).stem} & set(declared))
        if refused:
            raise RecordError(
                f"{contract.id}: {', '.join(refused)} cannot be recorded, expected its falsifiers"
            )
        files = files or FileSystem()
        run = run or new_run_id()
        path = tree / contract.id / run
        path.parent.mkdir(parents=True, exist_ok=True)
        previous = newest_sealed(path.parent)
        try:
            files.mkdir(path)
        except FileExistsError:
            raise RecordError(f"{path}: this run is there already; records are never written again") from None
        summary: dict[str, Any] = {
            "schema": SCHEMA,
            "run": run,
            "state": "running",
            "contract": {
                "id": contract.id,
                "version": contract.version,
                "bytes_sha256": contract.bytes_sha256,
                "semantic_sha256": contract.semantic_sha256,
            },
            "requested": requested.to_json(),
            "previous": None if previous is None else asdict(previous),
            "resumes": None if resumes is None else asdict(resumes),
            "plan": _plan_of(contract, set(selected)),
            "time": {"started": timestamp(), "ended": None, "monotonic_ns": None},
            "findings": [],
            "files": [],
            "provenance": {**provenance, "process": process_identity()},
        }
        writer = cls(path, summary, files, secrets)
        writer._attach(CONTRACT, contract.source)
        writer._publish()
        return writer

    @property
    def run(self) -> str:
        """The run's id, as findings name it."""
        return str(self._summary["run"])

    @property
    def pending(self) -> tuple[str, ...]:
        """The falsifiers that are selected and have no finding yet."""
        done = {entry["falsifier"] for entry in self._summary["findings"]}
        return tuple(each for each in self._summary["plan"]["selected"] if each not in done)

    def log(self, message: str) -> None:
        """Append lines to the run's log, each with the time."""
        now = timestamp()
        told = self._secrets.text(sentence(message))
        lines = "".join(f"{now} {line}\n" for line in told.splitlines())
        self._fs.append(self.path / LOG, lines.encode(errors="backslashreplace"))

    def attach(self, name: str, data: bytes) -> Path:
        """Keep one more file, such as a replay; it is listed at once. Raises `RecordError`."""
        self._refuse_sealed()
        if (
            not _plain(name)
            or name in (SUMMARY, SIGNATURE, CONTRACT, *APPENDED)
            or (self.path / name).exists()
        ):
            raise RecordError(f"{self.path / name}: cannot be attached, expected a new plain file name")
        self._attach(name, self._secrets.file(data))
        self._publish()
        return self.path / name

    def write(self, finding: Finding) -> Path:
        """Bring one finding to the disk, then list it. Raises `RecordError` for one not planned, or twice."""
        self._refuse_sealed()
        where = f"{self.path.parent.name}/{finding.falsifier}"
        if (finding.run, finding.contract) != (self.run, self.path.parent.name):
            raise RecordError(f"{where}: belongs to run {finding.run}, expected {self.run}")
        if finding.falsifier not in self.pending:
            raise RecordError(f"{where}: not selected, or written before; a verdict is never written again")
        data = _encode(finding.to_json(), "finding", where, self._secrets)
        return self._list(finding, data)

    def take_over(self, data: bytes) -> Path:
        """Keep the finding of an earlier run, byte for byte, as its file held it. Raises `RecordError`."""
        self._refuse_sealed()
        if self._summary["resumes"] is None:
            raise RecordError(f"{self.path}: resumes no run, so that there is nothing to take over")
        where = f"{self.path.parent.name}, taken over"
        try:
            document = load_strict(data)
            faults = next(schema_faults(document, "finding"), None)
        except StrictJsonError as error:
            raise RecordError(f"{where}: {error}") from None
        if faults:
            raise RecordError(f"{where}#{faults[0]}: {faults[1]}")
        finding = Finding.from_json(document)
        own = self._summary["contract"]
        for found, expected, what in (
            (finding.contract, own["id"], "contract"),
            (finding.contract_version, own["version"], "version"),
            (finding.contract_semantic_sha256, own["semantic_sha256"], "meaning"),
        ):
            if found != expected:
                raise RecordError(
                    f"{where}: {finding.falsifier} was judged by {what} {found}, expected {expected}"
                )
        if finding.falsifier not in self.pending or finding.run == self.run:
            raise RecordError(f"{where}: {finding.falsifier} is not open in this run, or is its own")
        return self._list(finding, data, run=finding.run)

    def _list(self, finding: Finding, data: bytes, **more: str) -> Path:
        name = f"{finding.falsifier}.json"
        self._replace(name, data)
        entry = {
            "falsifier": finding.falsifier,
            "verdict": finding.verdict.value,
            **listing(name, data),
            **more,
        }
        self._summary["findings"].append(entry)
        self._publish()
        return self.path / name

    def seal(self, *, interrupted: bool = False) -> State:
        """Close the run: complete if every selected falsifier has a finding, else interrupted."""
        self._refuse_sealed()
        for name in APPENDED:
            if (self.path / name).exists():
                self._sync(self.path / name)
                self._summary["files"].append(listing(name, (self.path / name).read_bytes()))
        state: State = "interrupted" if interrupted or self.pending else "complete"
        self._summary["state"] = state
        self._summary["time"].update(ended=timestamp(), monotonic_ns=time.monotonic_ns() - self.began_ns)
        self._publish()
        return state

    def _sync(self, path: Path) -> None:
        """Bring a file that grew to the disk before its digest is listed."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._fs.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _refuse_sealed(self) -> None:
        if self._summary["state"] != "running":
            raise RecordError(f"{self.path}: sealed as {self._summary['state']}; open a new run")

    def _attach(self, name: str, data: bytes) -> None:
        self._replace(name, data)
        self._summary["files"].append(listing(name, data))

    def _publish(self) -> None:
        self._replace(SUMMARY, _encode(self._summary, "findings", str(self.path), self._secrets))

    def _replace(self, name: str, data: bytes) -> None:
        place(self._fs, self.path / name, data)


def place(files: FileSystem, path: Path, data: bytes) -> None:
    """Leave the old file or the new one, whole, whenever the process or the host dies."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = files.write(temporary, data)
    try:
        files.fsync(descriptor)
    finally:
        os.close(descriptor)
    files.replace(temporary, path)
    files.fsync_directory(path.parent)


def newest_sealed(contract: Path) -> Sealed | None:
    """Return the newest sealed run in the folder of a contract: what the next run cites."""
    if not contract.is_dir():
        return None
    for path in sorted((entry for entry in contract.iterdir() if entry.is_dir()), reverse=True):
        try:
            data = (path / SUMMARY).read_bytes()
            state = load_strict(data)["state"]
        except (OSError, StrictJsonError, TypeError, KeyError):
            continue  # never begun, or spoilt: whoever reads the tree is told
        if state in ("complete", "interrupted") and RUN_ID.fullmatch(path.name):
            return Sealed(path.name, hashlib.sha256(data).hexdigest())
    return None


def _plan_of(contract: "Contract", selected: set[str]) -> dict[str, Any]:
    planned = [each for each in contract.falsifiers if each.id in selected]
    return {
        "falsifiers": [each.id for each in contract.falsifiers],
        "selected": [each.id for each in planned],
        "sizes": {each.id: each.bound.cases or each.bound.runs or 0 for each in planned},
        "faults": {each.id: len(each.must_catch) for each in planned},
    }


def _encode(document: Mapping[str, Any], schema: str, where: str, hidden: Secrets) -> bytes:
    """Write strict JSON that passes the schema when it is read again."""
    try:
        data = hidden.document(document)
        faults = next(schema_faults(load_strict(data), schema), None)
    except StrictJsonError as error:
        raise RecordError(f"{where}: {error}") from None
    if faults:
        raise RecordError(f"{where}#{faults[0]}: {faults[1]}")
    return data


def _plain(name: str) -> bool:
    return name not in ("", ".", "..") and not name.startswith(".") and Path(name).name == name


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]

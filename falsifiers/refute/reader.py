"""Records as they are read: every run under a tree, with all that is wrong with it as problems.

Nothing in a record is believed: JSON is strict, schemas are checked, digests and listings are compared,
links and files that nobody listed are problems. Whether the verdicts follow from the samples is for
`refute.rejudge`.
"""

import functools
import hashlib
import importlib.resources
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refute.finding import Finding
from refute.material import Materials
from refute.provenance import process_alive
from refute.strict_json import StrictJsonError, escaped, load_strict

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from jsonschema_rs import Draft202012Validator as Decides

VERSION = "1"
SCHEMA = f"urn:refute:schema:findings:{VERSION}"
SUMMARY = "findings.json"
CONTRACT = "contract.yaml"
LOG = "run.log"
TELEMETRY = "telemetry.jsonl"
SIGNATURE = "findings.dsse.json"  # over findings.json, which therefore cannot list it
APPENDED = (LOG, TELEMETRY)  # grow while a run goes on, and are listed when it is sealed
State = Literal["running", "complete", "interrupted"]


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """Something in a record that is not as it was written, or cannot have been.

    falsifier: whose finding it spoils; None is the whole run.
    """

    where: str
    pointer: str
    found: str
    expected: str
    falsifier: str | None = None

    def __str__(self) -> str:
        return f"{self.where}#{self.pointer}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Record:
    """One finding as it lies in a run. data: its JSON, as read.

    material: what its samples are, where that could be told. whole: they are here, and were not left unread.
    """

    finding: Finding
    data: Mapping[str, Any]
    file: str
    sha256: str
    material: bytes | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """One run as read. summary: `findings.json`, empty where it is unreadable or was never written.

    sha256: of `findings.json`, which has the digests of all else; empty where there is none.
    """

    path: Path
    contract: str
    run: str
    state: State
    summary: Mapping[str, Any]
    source: bytes
    records: tuple[Record, ...]
    problems: tuple[Discrepancy, ...]
    sha256: str


Take = Callable[[Run, Record], None]


def run_paths(tree: Path) -> list[Path]:
    """List every run under a tree, in the order of their ids; a tree that is not there has none."""
    if not tree.is_dir():
        return []
    contracts = sorted(entry for entry in tree.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    runs = [entry for contract in contracts for entry in contract.iterdir() if entry.is_dir()]
    return sorted(runs, key=lambda path: (path.name, path.parent.name))


def folders_by_run(trees: Iterable[Path]) -> dict[str, list[Path]]:
    """List the folders of every run under some trees, one for each contract, by its id, the oldest first."""
    folders = [path for tree in trees for path in tree.glob("*/*") if path.is_dir()]
    found: dict[str, list[Path]] = {}
    for path in sorted(folders, key=lambda path: (path.name, path.parent.name)):
        if not path.name.startswith("."):
            found.setdefault(path.name, []).append(path)
    return found


def read_runs(tree: Path) -> list[Run]:
    """Read every run under a tree, in the order of their ids."""
    return [read_run(path) for path in run_paths(tree)]


def read_run(path: Path, materials: Materials | None = None, take: Take | None = None) -> Run:
    """Read one run; whatever is wrong with it becomes one of its problems, never an exception.

    materials: those that were met in other runs; the samples of findings that are made of them stay unread.
    take: is given each finding as it is read, and the run with all that is wrong with it as a whole; the run
    then keeps none, so that memory and caches hold one at a time.
    """
    return _Reader(path, materials, take).read()


class _Reader:
    """One pass over one run directory."""

    def __init__(self, path: Path, materials: Materials | None, take: Take | None) -> None:
        self.path = path
        self.materials = materials
        self.take = take
        self.where = str(path)
        self.problems: list[Discrepancy] = []
        self._sha256 = ""

    def read(self) -> Run:
        if self.path.is_symlink() or self.path.parent.is_symlink():
            self._note("", "", "a symbolic link", "a directory")
            return self._run("interrupted", {}, b"", [])
        entries = {entry.name: entry for entry in os.scandir(self.path)}
        for entry in entries.values():
            if entry.is_symlink() or not entry.is_file(follow_symlinks=False):
                self._note(entry.name, "", "a link or a folder", "a plain file")
        names = {name for name, entry in entries.items() if entry.is_file(follow_symlinks=False)}
        if SUMMARY not in names:
            # A run killed while it was opened has nothing else; with findings, someone took the list away.
            if any(name.endswith(".json") and not name.startswith(".") for name in names):
                self._note(SUMMARY, "", "no file", "the list of findings")
            return self._run("interrupted", {}, b"", [])
        data = (self.path / SUMMARY).read_bytes()
        self._sha256 = hashlib.sha256(data).hexdigest()
        summary = self._document(SUMMARY, "findings", None, data)
        if summary is None:
            return self._run("interrupted", {}, b"", [])
        state = self._state(summary)
        source = self._identity(summary, names)
        listed = self._list(summary)
        opened, records = self._run(state, summary, source, []), []
        for record in self._records(summary, listed, names):
            if self.take is None:
                records.append(record)
            else:
                self.take(opened, record)
            del record  # so that it is freed before the next one is read
        return self._run(state, summary, source, records)

    def _run(self, state: State, summary: Mapping[str, Any], source: bytes, records: list[Record]) -> Run:
        contract, run = self.path.parent.name, self.path.name
        problems = tuple(self.problems)
        return Run(self.path, contract, run, state, summary, source, tuple(records), problems, self._sha256)

    def _state(self, summary: Mapping[str, Any]) -> State:
        if summary["state"] != "running":
            state: State = summary["state"]
            return state
        return "running" if process_alive(summary["provenance"]["process"]) else "interrupted"

    def _identity(self, summary: Mapping[str, Any], names: set[str]) -> bytes:
        """Check the run's own names and its other files; return the contract's bytes."""
        if summary["run"] != self.path.name:
            self._note(SUMMARY, "/run", summary["run"], self.path.name)
        if summary["contract"]["id"] != self.path.parent.name:
            self._note(SUMMARY, "/contract/id", summary["contract"]["id"], self.path.parent.name)
        source = b""
        listed = {SUMMARY, SIGNATURE}
        for index, entry in enumerate(summary["files"]):
            listed.add(entry["file"])
            data, _ = self._listed(entry, f"/files/{index}", None, names)
            if entry["file"] == CONTRACT:
                source = data
        digest = hashlib.sha256(source).hexdigest()
        if digest != summary["contract"]["bytes_sha256"]:
            self._note(CONTRACT, "", digest, f"sha256 {summary['contract']['bytes_sha256']}")
        listed.update(entry["file"] for entry in summary["findings"])
        if summary["state"] == "running":  # killed between a rename and the next list
            others = set(summary["plan"]["falsifiers"]) - set(summary["plan"]["selected"])
            listed.update(names - {f"{falsifier}.json" for falsifier in others})
        for name in sorted(names - listed):
            falsifier = name.removesuffix(".json")
            planned = falsifier in summary["plan"]["falsifiers"]
            self._note(name, "", "a file", "nothing: it is not listed", falsifier if planned else None)
        return source

    def _list(self, summary: Mapping[str, Any]) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """The listing, by falsifier; with it, whatever is wrong with the run as a whole has been noted."""
        listed = {entry["falsifier"]: (index, entry) for index, entry in enumerate(summary["findings"])}
        if len(listed) != len(summary["findings"]):
            self._note(SUMMARY, "/findings", "a falsifier twice", "each once")
        if summary["state"] == "complete" and set(listed) != set(summary["plan"]["selected"]):
            missing = sorted(set(summary["plan"]["selected"]) ^ set(listed))
            self._note(SUMMARY, "/findings", f"a difference in {missing}", "the selected falsifiers")
        return listed

    def _records(
        self, summary: Mapping[str, Any], listed: Mapping[str, tuple[int, Mapping[str, Any]]], names: set[str]
    ) -> Iterator[Record]:
        """Read each finding; what is wrong with it concerns its falsifier only."""
        for falsifier, (index, entry) in listed.items():
            if entry["file"] != f"{falsifier}.json":
                pointer = f"/findings/{index}/file"
                self._note(SUMMARY, pointer, entry["file"], f"{falsifier}.json", falsifier)
            data, digest = self._listed(entry, f"/findings/{index}", falsifier, names)
            owner = self._owner(summary, index, entry)
            record = (
                self._record(entry["file"], falsifier, summary, data, owner=owner, digest=digest)
                if data
                else None
            )
            if record is not None:
                if record.finding.verdict != entry["verdict"]:
                    expected = f"{entry['verdict']}, as listed"
                    self._note(record.file, "/verdict", record.finding.verdict, expected, falsifier)
                yield record
            del record
        if summary["state"] == "running":
            for falsifier in summary["plan"]["selected"]:
                name = f"{falsifier}.json"
                if falsifier not in listed and name in names:
                    data = (self.path / name).read_bytes()
                    digest = hashlib.sha256(data).hexdigest()
                    record = self._record(name, falsifier, summary, data, owner=None, digest=digest)
                    if record is not None:
                        yield record

    def _owner(self, summary: Mapping[str, Any], index: int, entry: Mapping[str, Any]) -> str:
        """Whose finding it is: this run's, or that of the run it was taken over from."""
        if "run" in entry and summary["resumes"] is None:
            expected = "nothing: this run resumes none"
            self._note(SUMMARY, f"/findings/{index}/run", entry["run"], expected, entry["falsifier"])
        return str(entry.get("run", self.path.name))

    def _record(
        self,
        name: str,
        falsifier: str,
        summary: Mapping[str, Any],
        data: bytes,
        *,
        owner: str | None,
        digest: str,
    ) -> Record | None:
        """owner: the run that it names; None where it is not listed yet, and may be an older one."""
        look = None if self.materials is None else self.materials.look(data)
        known = None if look is None else look.known
        document = self._document(name, "finding", falsifier, data) if known is None else known.document
        if document is None:
            return None
        for key, expected in (
            ("run", owner or (document["run"] if summary["resumes"] else self.path.name)),
            ("contract", self.path.parent.name),
            ("falsifier", falsifier),
            ("contract_version", summary["contract"]["version"]),
            ("contract_semantic_sha256", summary["contract"]["semantic_sha256"]),
        ):
            if document[key] != expected:
                self._note(name, f"/{key}", document[key], expected, falsifier)
        finding = Finding.from_json(document) if known is None else known.finding
        material = None if look is None else look.material
        if look is not None and known is None and self.materials is not None:
            material = self.materials.learn(look, document, finding)
        return Record(finding, document, name, digest, material, known is None)

    def _listed(
        self, entry: Mapping[str, Any], pointer: str, falsifier: str | None, names: set[str]
    ) -> tuple[bytes, str]:
        """Read a listed file and its digest, and compare them with the listing; both empty without one."""
        if entry["file"] not in names:
            self._note(entry["file"], "", "no file", f"{entry['bytes']} bytes, as listed", falsifier)
            return b"", ""
        data: bytes = (self.path / entry["file"]).read_bytes()
        expected = listing(entry["file"], data)
        for key in ("bytes", "sha256", "rows"):
            if entry.get(key) != expected.get(key):
                found = f"{expected.get(key)} of {entry['file']}"
                self._note(SUMMARY, f"{pointer}/{key}", found, f"{entry.get(key)}, as listed", falsifier)
        return data, str(expected["sha256"])

    def _document(self, name: str, schema: str, falsifier: str | None, data: bytes) -> dict[str, Any] | None:
        try:
            document: dict[str, Any] = load_strict(data)
        except StrictJsonError as error:
            self._note(name, "", str(error), "strict JSON", falsifier)
            return None
        faults = _other_version(document, schema) or list(schema_faults(document, schema))
        for pointer, message in faults[:5]:
            self._note(name, pointer, message, f"what the {schema} schema says", falsifier)
        return None if faults else document

    def _note(self, name: str, pointer: str, found: str, expected: str, falsifier: str | None = None) -> None:
        where = f"{self.where}/{name}" if name else self.where
        self.problems.append(Discrepancy(where, pointer, found, expected, falsifier))


def _other_version(document: Any, schema: str) -> list[tuple[str, str]]:
    """Say of a record of another version that it is one, and nothing else."""
    named = document.get("schema") if isinstance(document, dict) else None
    found = re.fullmatch(r"urn:refute:schema:([a-z]+):([0-9]+)", named) if isinstance(named, str) else None
    if found is None or found[1] != schema or found[2] == VERSION:
        return []
    told = f"version {found[2]} of the {schema} format; this refute reads version {VERSION} only"
    return [("/schema", f"{told}: read it with a refute that knows it")]


def schema_faults(document: Any, schema: str) -> Iterator[tuple[str, str]]:
    """Yield where a document departs from its schema: JSON pointer, message.

    schema: the name of its file, `finding` for example.
    """
    decides, explains = _validators(schema)
    if decides.is_valid(document):
        return
    told = False
    for error in explains().iter_errors(document):
        told = True
        yield _pointer(error.absolute_path), _cut(error.message)
    if not told:  # where the two differ, the one that decides is the stricter one
        for fault in decides.iter_errors(document):
            yield _pointer(fault.instance_path), _cut(fault.message)


def _pointer(steps: Iterable[str | int]) -> str:
    return "".join(f"/{escaped(str(step))}" for step in steps)


def _cut(message: str) -> str:
    return message if len(message) < 200 else message[:200] + " …"


@functools.cache
def _validators(schema: str) -> tuple["Decides", Callable[[], "Validator"]]:
    """What decides about every record, two hundred times as fast as what says in sentences what is wrong."""
    # Imported here, and the second one only when it is needed: they take longer than all else.
    from jsonschema_rs import Draft202012Validator  # noqa: PLC0415

    source = importlib.resources.files("refute").joinpath(f"schemas/{schema}.schema.json").read_bytes()
    content = load_strict(source)

    @functools.cache
    def explains() -> "Validator":
        from jsonschema import Draft202012Validator  # noqa: PLC0415

        return Draft202012Validator(content, format_checker=Draft202012Validator.FORMAT_CHECKER)

    return Draft202012Validator(content, validate_formats=True), explains


def listing(name: str, data: bytes) -> dict[str, Any]:
    """Return how `findings.json` lists a file: its name, sha256 and size in bytes; of lines, how many."""
    rows = {"rows": data.count(b"\n")} if name.endswith(".jsonl") else {}
    return {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), **rows}

"""One run as a rule sees it: its files as bytes, what they parse to, and what is known here.

Nothing here judges. What cannot be read is kept as the sentence that says why, for a rule to yield.
"""

import functools
import hashlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from refute.attempts import Present
from refute.contract import Contract, ContractError, Falsifier, load_contract
from refute.finding import Finding
from refute.kinds import ANY, kind_named
from refute.reader import CONTRACT, SUMMARY, TELEMETRY, VERSION, Record, schema_faults
from refute.rejudge import Kinds, Rejudge, Rejudged
from refute.strict_json import StrictJsonError, load_strict

if TYPE_CHECKING:
    from refute.signing import PublicKey

# Of one file. Logits of a large vocabulary take a hundred megabytes, but few values: they are text. What has
# more values than that would take minutes and gigabytes to parse.
MOST_BYTES, MOST_VALUES = 2**29, 2_000_000
_KEPT = 256  # documents that are remembered, for audits that read the same bytes again


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a folder. data: None where it was not read; `error` says why."""

    kind: Literal["file", "link", "other"]
    data: bytes | None = None
    sha256: str = ""
    error: str = ""

    @classmethod
    def of(cls, data: bytes) -> "Entry":
        """A plain file that was read."""
        return cls("file", data, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one run. path: as messages name it. link: it, or its contract's folder, is a link."""

    path: str
    contract: str
    run: str
    entries: Mapping[str, Entry]
    link: bool = False
    error: str = ""

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """Read every plain file in it, and follow no link.

        The listing comes first: what it names was written before it, also while the run goes on.
        """
        if path.is_symlink() or path.parent.is_symlink():
            return cls(str(path), path.parent.name, path.name, {}, link=True)
        listing = _entry(path / SUMMARY)
        try:
            names = sorted(each.name for each in path.iterdir())
        except OSError as error:
            return cls(str(path), path.parent.name, path.name, {}, error=error.strerror or str(error))
        entries = {name: listing if name == SUMMARY else _entry(path / name) for name in names}
        return cls(str(path), path.parent.name, path.name, entries)

    def file(self, name: str) -> bytes | None:
        """The bytes of a plain file; None where there is none that can be read."""
        entry = self.entries.get(name)
        return None if entry is None else entry.data


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON file. broken: why it is no strict JSON. faults: where it departs from its schema, and how."""

    data: Any
    broken: str = ""
    faults: tuple[tuple[str, str], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether rules may read it by the names of its schema."""
        return not self.broken and not self.faults


class Library:
    """Parses files, and judges findings again; the same bytes are parsed once."""

    def __init__(self, kinds: Kinds = kind_named) -> None:
        self.rejudge = Rejudge(kinds)
        self.document = functools.lru_cache(_KEPT)(_document)
        self._contracts: dict[bytes, Contract | str] = {}

    def contract(self, source: bytes, path: str) -> Contract | str:
        """The contract that these bytes are, or why they are none that this version can read."""
        if source not in self._contracts:
            try:
                self._contracts[source] = load_contract(Path(path), kinds=ANY, source=source)
            except ContractError as error:
                self._contracts[source] = str(error).splitlines()[0]
        return self._contracts[source]


@dataclass(frozen=True, slots=True)
class Here:
    """What is known where the audit is made. contracts: those of today, by id; None: none to ask.

    keys: whose signatures count. unsigned: runs need none, as long as those that are there hold.
    """

    present: Present
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    contracts: Mapping[str, Contract] | None = None
    harness: str | None = None
    keys: Sequence["PublicKey"] = ()
    unsigned: bool = False


@dataclass(frozen=True, slots=True)
class Filed:
    """One finding as it lies in a run. finding: None where it cannot be read.

    index: its place in the listing; None of a finding that a killed run could not list any more. rejudged:
    what came out when it was judged again; None where its contract cannot be read.
    """

    index: int | None
    entry: Mapping[str, Any]
    document: Document | None
    finding: Finding | None
    falsifier: Falsifier | None
    rejudged: Rejudged | None

    @property
    def file(self) -> str:
        """Its name in the folder of its run."""
        return str(self.entry["file"])

    @property
    def taken_over(self) -> bool:
        """Whether it was made in an interrupted run that this one goes on with."""
        return "run" in self.entry


@dataclass(frozen=True, slots=True)
class Subject:
    """One run. summary: its listing; None where that is missing or not sound. contract: the one in it.

    telemetry: what each line reads as, or why it cannot be read.
    """

    folder: Folder
    here: Here
    listing: Document | None
    summary: Mapping[str, Any] | None
    contract: Contract | None
    contract_error: str
    filed: tuple[Filed, ...]
    telemetry: tuple[Any, ...]

    @classmethod
    def of(cls, folder: Folder, here: Here, library: Library) -> "Subject":
        """Parse a folder and judge its findings again."""
        data = folder.file(SUMMARY)
        listing = None if data is None else library.document(data, "findings")
        source = folder.file(CONTRACT)
        read = "" if source is None else library.contract(source, f"{folder.path}/{CONTRACT}")
        contract = read if isinstance(read, Contract) else None
        error = read if isinstance(read, str) else ""
        told = tuple(map(_line, (folder.file(TELEMETRY) or b"").splitlines()))
        if listing is None or not listing.sound:
            return cls(folder, here, listing, None, contract, error, (), told)
        filed = _filed(listing.data, folder, contract, library)
        return cls(folder, here, listing, listing.data, contract, error, tuple(filed), told)

    @property
    def unfinished(self) -> Finding | None:
        """The finding after which a killed run may not have come to its log and its counterexample's file."""
        whole = self.summary is None or self.summary["state"] == "complete"
        return None if whole else next((each for _, each in reversed(self.findings)), None)

    @property
    def findings(self) -> Sequence[tuple[Filed, Finding]]:
        """Those that can be read."""
        return [(each, each.finding) for each in self.filed if each.finding is not None]


def _entry(path: Path) -> Entry:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return Entry("link")
        if not stat.S_ISREG(status.st_mode):
            return Entry("other")
        if status.st_size > MOST_BYTES:
            return Entry("file", error=f"{status.st_size} bytes, more than an honest file has")
        return Entry.of(path.read_bytes())
    except OSError as error:
        return Entry("file", error=error.strerror or str(error))


def _document(data: bytes, schema: str) -> Document:
    values = data.count(b",")
    if values > MOST_VALUES:
        return Document(None, f"{values} values, more than an honest document has")
    try:
        read = load_strict(data)
    except StrictJsonError as error:
        return Document(None, str(error))
    version = read.get("schema") if isinstance(read, dict) else None
    if isinstance(version, str) and version != f"urn:refute:schema:{schema}:{VERSION}":
        return Document(read, faults=(("/schema", version),))
    return Document(read, faults=tuple(schema_faults(read, schema)))


def _line(line: bytes) -> Any:
    try:
        return load_strict(line)
    except StrictJsonError as error:
        return error


def _filed(
    summary: Mapping[str, Any], folder: Folder, contract: Contract | None, library: Library
) -> Iterable[Filed]:
    declared = {} if contract is None else {each.id: each for each in contract.falsifiers}
    entries: list[tuple[int | None, Mapping[str, Any]]] = [*enumerate(summary["findings"])]
    if summary["state"] == "running":  # killed between a rename and the next list
        seen = {entry["falsifier"] for entry in summary["findings"]}
        late = [name for name in summary["plan"]["selected"] if name not in seen]
        entries += [
            (None, {"falsifier": name, "file": f"{name}.json"})
            for name in late
            if folder.file(f"{name}.json") is not None
        ]
    for index, entry in entries:
        data = folder.file(entry["file"])
        document = None if data is None else library.document(data, "finding")
        finding = None if document is None or not document.sound else _finding(document)
        falsifier = declared.get(entry["falsifier"])
        rejudged = None
        if document is not None and finding is not None and contract is not None:
            record = Record(finding, document.data, entry["file"], folder.entries[entry["file"]].sha256)
            rejudged = library.rejudge(record, folder.path, contract)
        yield Filed(index, entry, document, finding, falsifier, rejudged)


def _finding(document: Document) -> Finding | None:
    try:
        return Finding.from_json(document.data)
    except (
        KeyError,
        TypeError,
        ValueError,
    ):  # the schema and the class disagree: not a record of this version
        return None

"""A counterexample as a file of its own: small, strict, replayed by one command, tried first next time.

The evidence tree is the database. What lies there may be edited, broken or of another version: a file that
does not fit is passed over, and a case from one proves nothing until the engine has run it again.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from refute.finding import Finding
from refute.strict_json import StrictJsonError, dump_strict, load_strict

if TYPE_CHECKING:
    from refute.contract import Falsifier
    from refute.kinds.base import Case

SCHEMA = "urn:refute:schema:counterexample:1"
SUFFIX = ".counterexample.json"
NEWEST = 3  # known cases that are tried before a search
_READ_AT_MOST = 50  # files of one falsifier
_LARGEST = 2**20  # bytes of one file


@dataclass(frozen=True, slots=True)
class Counterexample:
    """One case that refuted a claim.

    target: the name of what was attacked, such as `bundled`. samples: what it gave. replays: whether it
    refuted once more.
    """

    run: str
    contract: str
    falsifier: str
    kind: str
    parameters: Mapping[str, Any]
    model_name: str
    model_sha256: str | None
    target: str
    case: Mapping[str, Any]
    samples: Mapping[str, Any]
    replays: bool | None

    @classmethod
    def of(cls, finding: Finding) -> Self | None:
        """Take it out of a finding; None where the finding has none."""
        found, target = finding.counterexample, finding.target
        if found is None:
            return None
        return cls(
            run=finding.run,
            contract=finding.contract,
            falsifier=finding.falsifier,
            kind=finding.kind,
            parameters=finding.parameters,
            model_name=str(target.get("model_name", "")),
            model_sha256=target.get("model_sha256"),
            target=str(target.get("name", "")),
            case=found.case,
            samples=found.samples,
            replays=finding.replays,
        )

    @property
    def file(self) -> str:
        """The name of its file, in the folder of its run."""
        return f"{self.falsifier}{SUFFIX}"

    def to_bytes(self) -> bytes:
        """Write it; `read` gives the same again."""
        return dump_strict({"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, document: object) -> Self:
        """Read a JSON document. Raises ValueError with a sentence for one that the schema refuses."""
        from refute.reader import schema_faults  # noqa: PLC0415 (the schema validator is slow to import)

        fault = next(schema_faults(document, "counterexample"), None)
        if fault is not None:
            raise ValueError(f"{fault[0] or '/'}: {fault[1]}")
        assert isinstance(document, dict)
        return cls(**{name: value for name, value in document.items() if name != "schema"})


def known_cases(tree: Path, contract: str, falsifier: "Falsifier") -> list["Case"]:
    """The newest different cases under a tree that refuted this falsifier, kind and parameters unchanged."""
    wanted = json.dumps([falsifier.kind, falsifier.parameters], sort_keys=True)
    cases: dict[str, Case] = {}
    for found in _newest_first(tree / contract, falsifier.id):
        if json.dumps([found.kind, found.parameters], sort_keys=True) == wanted:
            cases.setdefault(json.dumps(found.case, sort_keys=True), found.case)
        if len(cases) == NEWEST:
            break
    return list(cases.values())


def _newest_first(folder: Path, falsifier: str) -> Iterator[Counterexample]:
    """Read what can be read; names of runs sort by time."""
    try:
        runs = sorted((run for run in folder.iterdir() if not run.is_symlink()), reverse=True)
    except OSError:
        return
    paths = [run / f"{falsifier}{SUFFIX}" for run in runs]
    for path in [path for path in paths if path.is_file() and not path.is_symlink()][:_READ_AT_MOST]:
        try:
            if path.stat().st_size > _LARGEST:
                continue
            found = Counterexample.read(load_strict(path.read_bytes()))
        except (OSError, ValueError, StrictJsonError):
            continue
        if (found.contract, found.falsifier) == (folder.name, falsifier):
            yield found

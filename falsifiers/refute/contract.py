"""A contract as the rest of the framework sees it: frozen, complete, and with the line of every falsifier.

    ContractError            a contract cannot be used; `problems` holds one Problem for each reason

Reading is strict: YAML (`marked_yaml`), schema (`schemas/contract.schema.json`), then what a schema cannot
say about one falsifier (quantities, faults, kinds). What concerns parameters of a kind, or several
contracts, is `lint`'s. Importing this module is cheap; reading a contract imports jsonschema.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.faults import FAULTS
from refute.faults.base import Fault, FaultSpec, UnknownFault, parse_fault
from refute.marked_yaml import ContractError, Document, Pointer, Problem, did_you_mean, read_yaml
from refute.meaning import semantic_sha256
from refute.schemas import contract_faults
from refute.units import HOST_UNITS, Quantity, parse_quantity
from refute.verdict import Level

__all__ = [
    "Bound",
    "Change",
    "Contract",
    "ContractError",
    "Falsifier",
    "ModelClaim",
    "Problem",
    "Reading",
    "Scope",
    "load_contract",
    "read_contract",
]

_THRESHOLDS = ("above", "below", "within")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a claim is held to; a field is None where the contract does not give it.

    above, below, within: the threshold in `unit`, a base unit of `refute.units`. confidence: of every
    bound that is derived, one-sided. runs, cases: how often to try. testbeds: where a bound that depends
    on the host holds.
    """

    confidence: float
    of: str | None = None
    statistic: str | None = None
    above: float | None = None
    below: float | None = None
    within: float | None = None
    unit: str | None = None
    runs: int | None = None
    cases: int | None = None
    testbeds: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Falsifier:
    """One claim, how it is attacked, and where in the file it stands."""

    id: str
    alias: str | None
    claim: str
    kind: str
    requires: tuple[str, ...]
    parameters: Mapping[str, object]
    bound: Bound
    must_catch: tuple[Fault, ...]
    needs: tuple[str, ...]
    discharge: Level
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ModelClaim:
    """The model that full-model evidence must be about; sha256 lists the files that count."""

    name: str
    architecture: str
    sha256: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the contract is about, and what it leaves out."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history; `date` is ISO 8601."""

    version: str
    date: str
    change: str


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract file.

    bytes_sha256 is of the file, semantic_sha256 of its meaning: it stays when prose, references, history
    or the order of anything changes.
    """

    id: str
    version: str
    title: str
    description: str
    model: ModelClaim
    references: tuple[str, ...]
    scope: Scope
    falsifiers: tuple[Falsifier, ...]
    history: tuple[Change, ...]
    path: Path
    source: bytes
    bytes_sha256: str
    semantic_sha256: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of a contract, faults and all.

    falsifiers: by their place in the file, those without a fault of their own. contract: None where
    there are problems.
    """

    document: Document
    falsifiers: Mapping[int, Falsifier]
    contract: Contract | None
    problems: tuple[Problem, ...]


def declared(contracts: Iterable[Contract]) -> dict[tuple[str, str], tuple[Contract, Falsifier]]:
    """Return every falsifier with its contract, by their ids, in the order of the contracts."""
    return {(each.id, own.id): (each, own) for each in contracts for own in each.falsifiers}


def load_contract(
    path: Path,
    *,
    kinds: Collection[str] | None = None,
    faults: Mapping[str, FaultSpec] | None = None,
    source: bytes | None = None,
) -> Contract:
    """Read a contract. Raises `ContractError` with every problem that was found.

    kinds, faults: the names that exist; those that are installed where not given. source: the file's bytes,
    where they were read before.
    """
    reading = read_contract(path, kinds=kinds, faults=faults, source=source)
    if reading.contract is None:
        raise ContractError(list(reading.problems))
    return reading.contract


def read_contract(
    path: Path,
    *,
    kinds: Collection[str] | None = None,
    faults: Mapping[str, FaultSpec] | None = None,
    source: bytes | None = None,
) -> Reading:
    """Read as much of a contract as can be read. Raises `ContractError` where it is no YAML."""
    kinds = _kind_names() if kinds is None else kinds
    faults = FAULTS if faults is None else faults
    document = read_yaml(path, source)
    misfits = list(contract_faults(document))
    problems = [*document.problems, *(problem for _, problem in misfits)]
    broken = {pointer[1] for pointer, _ in misfits if pointer[:1] == ("falsifiers",) and len(pointer) > 1}
    entries = document.data.get("falsifiers") if isinstance(document.data, dict) else None
    falsifiers: dict[int, Falsifier] = {}
    for index in range(len(entries) if isinstance(entries, list) else 0):
        if index not in broken:
            falsifier, faulty = _falsifier(document, index, kinds, faults)
            problems += faulty
            if falsifier is not None:
                falsifiers[index] = falsifier
    problems += _repeated(document, entries)
    contract = None if problems else _contract(document, tuple(falsifiers.values()))
    return Reading(document, falsifiers, contract, tuple(sorted(problems)))


def _kind_names() -> Collection[str]:
    from refute.kinds import INSTALLED  # noqa: PLC0415 (kinds know of contracts too)

    return INSTALLED


def _contract(document: Document, falsifiers: tuple[Falsifier, ...]) -> Contract:
    data = document.data
    model = ModelClaim(data["model"]["name"], data["model"]["architecture"], tuple(data["model"]["sha256"]))
    return Contract(
        id=data["id"],
        version=data["version"],
        title=data["title"],
        description=data["description"],
        model=model,
        references=tuple(data["references"]),
        scope=Scope(tuple(data["scope"]["in"]), tuple(data["scope"]["out"])),
        falsifiers=falsifiers,
        history=tuple(Change(**change) for change in data["history"]),
        path=document.path,
        source=document.source,
        bytes_sha256=hashlib.sha256(document.source).hexdigest(),
        semantic_sha256=semantic_sha256(data["id"], model, falsifiers),
    )


def _falsifier(
    document: Document, index: int, kinds: Collection[str], faults: Mapping[str, FaultSpec]
) -> tuple[Falsifier | None, list[Problem]]:
    at: Pointer = ("falsifiers", index)
    entry = document.data["falsifiers"][index]
    bound, problems = _bound(document, (*at, "bound"), entry["bound"])
    if entry["kind"] not in kinds:
        what, fix = f"no kind is called {entry['kind']!r}", did_you_mean(entry["kind"], tuple(kinds))
        problems.append(document.problem("kind-unknown", (*at, "kind"), what, "", fix))
    caught = []
    for place, text in enumerate(entry["must_catch"]):
        fault = _fault(document, (*at, "must_catch", place), text, faults)
        if isinstance(fault, Problem):
            problems.append(fault)
        else:
            caught.append(fault)
    if bound is None or problems:
        return None, problems
    mark = document.at(at)
    falsifier = Falsifier(
        id=entry["id"],
        alias=entry.get("alias"),
        claim=entry["claim"],
        kind=entry["kind"],
        requires=tuple(entry["requires"]),
        parameters=entry.get("with", {}),
        bound=bound,
        must_catch=tuple(caught),
        needs=tuple(entry.get("needs", ())),
        discharge=Level(entry["discharge"]),
        line=mark.line,
        column=mark.column,
    )
    return falsifier, problems


def _bound(document: Document, at: Pointer, given: Mapping[str, Any]) -> tuple[Bound | None, list[Problem]]:
    problems = []
    quantities: dict[str, Quantity] = {}
    for name in filter(given.__contains__, _THRESHOLDS):
        try:
            quantities[name] = parse_quantity(given[name])
        except ValueError as error:
            fix = f"such as {name}: 5 tok/s"
            problems.append(document.problem("quantity", (*at, name), f"{name}: {error}", "", fix))
    thresholds = [name for name in _THRESHOLDS if name in given]
    if len(thresholds) > 1:
        what = f"{' and '.join(thresholds)} in one bound"
        problems.append(document.problem("bound-thresholds", at, what, "one threshold", "remove one"))
    elif bool(thresholds) == ("cases" in given):
        what = "threshold and cases in one bound" if thresholds else "the bound bounds nothing"
        expected = "cases, or one of above, below, within"
        fix = "remove one of them" if thresholds else "add cases: or a threshold"
        problems.append(document.problem("bound-either", at, what, expected, fix))
    elif thresholds and "runs" not in given:
        expected = "how many independent runs"
        problems.append(document.problem("bound-runs", at, "'runs' is missing", expected, "add runs:"))
    unit = next((quantity.unit for quantity in quantities.values()), None)
    if unit in HOST_UNITS and "testbeds" not in given:
        what = f"a bound in {unit} depends on the host and names no testbeds"
        expected, fix = "hosts on which it holds", "add testbeds: [any]"
        problems.append(document.problem("testbeds-missing", at, what, expected, fix))
    elif unit not in HOST_UNITS and "testbeds" in given and not problems:
        what = "testbeds for a bound that does not depend on the host"
        problems.append(
            document.key_problem("testbeds-needless", (*at, "testbeds"), what, "", "remove testbeds")
        )
    if problems:
        return None, problems
    values = {**given, **{name: quantity.value for name, quantity in quantities.items()}}
    values |= {name: int(given[name]) for name in ("runs", "cases") if name in given}
    if "testbeds" in given:
        values["testbeds"] = tuple(given["testbeds"])
    return Bound(**values, unit=unit), []


def _fault(document: Document, at: Pointer, text: str, known: Mapping[str, FaultSpec]) -> Fault | Problem:
    name, equals, dose = text.partition("=")
    try:
        fault = parse_fault(text, known)
    except UnknownFault:
        what, fix = f"no fault is called {name!r}", did_you_mean(name, tuple(known))
        return document.problem("fault-unknown", at, what, "", fix)
    except ValueError:
        what = f"dose {dose!r} of fault {name} is no number"
        return document.problem(
            "dose-number", at, what, f"a number of {known[name].unit}", _dose(known[name])
        )
    if not 0 < fault.dose < float("inf") or (equals and not dose):
        what = f"dose {dose!r} of fault {name} is not above zero and finite"
        return document.problem("dose-positive", at, what, "", _dose(known[name]))
    return fault


def _dose(spec: FaultSpec) -> str:
    return f"write {spec.name} for {spec.default:g} {spec.unit}, or {spec.name}=DOSE"


def _repeated(document: Document, entries: object) -> list[Problem]:
    """Ids that two falsifiers of one contract share; they are the keys of records."""
    first: dict[str, int] = {}
    problems = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        name = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            line = document.at(("falsifiers", first[name], "id")).line
            what = f"duplicate id {name!r}, first on line {line}"
            at = ("falsifiers", index, "id")
            problems.append(document.problem("id-twice", at, what, "an id of its own", "rename one"))
        else:
            first[name] = index
    return problems

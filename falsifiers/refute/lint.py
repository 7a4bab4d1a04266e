"""Every fault of contracts as `file:line:col: what; expected …; fix`.

`read_contract` finds what one falsifier shows by itself. This module adds what needs the kind's code (its
parameters and the bound it can use), the file's name, the history, and the other contracts.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from refute.contract import ContractError, Falsifier, Problem, Reading, find_contracts, read_contract
from refute.faults.base import FaultSpec
from refute.kinds import BUILT_IN, INSTALLED, UnknownKind, UnusableKind
from refute.kinds.base import Kind
from refute.kinds.plugins import shadowing
from refute.marked_yaml import Pointer, did_you_mean
from refute.statistics import minimum_runs, quantile_of
from refute.targets.base import CAPABILITIES

Kinds = Mapping[str, type[Kind[Any]]]
_BOUND_NAMES = ("of", "statistic", "above", "below", "within", "confidence", "runs", "cases", "testbeds")
# What a kind can do without: either threshold will do, and the unit decides whether testbeds are named.
_OPTIONAL = {"above", "below", "testbeds"}


def lint(
    paths: Sequence[Path] = (),
    *,
    root: Path | None = None,
    kinds: Kinds | None = None,
    faults: Mapping[str, FaultSpec] | None = None,
) -> list[Problem]:
    """Return every fault of these contracts (files or folders; those of `find_contracts` if none), sorted.

    root: where contracts are looked for, the working directory if not given. kinds, faults: what
    contracts may name; those of this package where not given.
    """
    kinds = INSTALLED if kinds is None else kinds
    problems: set[Problem] = set()
    files: dict[Path, None] = {}
    for chosen in [[path] for path in paths] or [[]]:
        try:
            files.update(dict.fromkeys(find_contracts(root or Path.cwd(), chosen)))
        except ContractError as error:
            problems.update(error.problems)
    readings: list[Reading] = []
    for path in files:
        try:
            readings.append(read_contract(path, kinds=kinds, faults=faults))
        except ContractError as error:
            problems.update(error.problems)
    for reading in readings:
        problems.update(reading.problems)
        problems.update(_name(reading))
        problems.update(_history(reading))
        for index, falsifier in reading.falsifiers.items():
            at = ("falsifiers", index)
            problems.update(_of_kind(reading, at, falsifier, kinds))
    problems.update(_shared(readings))
    beside = {path for file in files for path in file.parent.glob("*.yaml")} - files.keys()
    problems.update(_needs(readings, [*readings, *_readable(beside, kinds, faults)]))
    return sorted(problems)


def _readable(
    paths: Iterable[Path], kinds: Kinds, faults: Mapping[str, FaultSpec] | None
) -> Iterator[Reading]:
    for path in sorted(paths):
        try:
            yield read_contract(path, kinds=kinds, faults=faults)
        except ContractError:
            continue  # its own lint says why


def _name(reading: Reading) -> Iterator[Problem]:
    path, name = reading.document.path, _text(reading, "id")
    if path.suffix != ".yaml":
        yield Problem(path, 1, 1, f"the file's name ends in {path.suffix!r}", ".yaml", "rename it")
    if name is not None and name != path.stem:
        fix = f"rename the file to {name}.yaml, or the id"
        what = f"id {name!r} is not the file's name"
        yield reading.document.problem(("id",), what, repr(path.stem), fix)


def _history(reading: Reading) -> Iterator[Problem]:
    changes = _list(reading.document.data, "history")
    versions: list[tuple[int, ...]] = []
    dates: list[date] = []
    for index, change in enumerate(changes):
        at = ("history", index)
        version = _version(change.get("version") if isinstance(change, dict) else None)
        day = change.get("date") if isinstance(change, dict) else None
        if version is not None:
            if versions and version <= versions[-1]:
                before = ".".join(map(str, versions[-1]))
                what = f"version {change['version']} does not follow {before}"
                yield reading.document.problem((*at, "version"), what, "a higher version", "oldest first")
            versions.append(version)
        if isinstance(day, str):
            try:
                parsed = date.fromisoformat(day)
            except ValueError:
                yield reading.document.problem(
                    (*at, "date"), f"{day!r} is no date", "a day such as 2026-11-23"
                )
                continue
            if dates and parsed < dates[-1]:
                what = f"date {day} is before {dates[-1]}"
                yield reading.document.problem((*at, "date"), what, "", "oldest first")
            dates.append(parsed)
    current = _version(_text(reading, "version"))
    if versions and current is not None and current != versions[-1]:
        last = ".".join(map(str, versions[-1]))
        what = f"version {_text(reading, 'version')} is not the last of the history, {last}"
        yield reading.document.problem(("version",), what, "", "add an entry to history")


def _of_kind(reading: Reading, at: Pointer, falsifier: Falsifier, kinds: Kinds) -> Iterator[Problem]:
    try:
        kind = kinds[falsifier.kind]
    except UnusableKind as why:
        yield reading.document.problem((*at, "kind"), str(why), "", "mend or uninstall that distribution")
        return
    except UnknownKind:  # of a record's contract, whose kind may be anywhere
        return
    whose = shadowing(falsifier.kind) if falsifier.kind in BUILT_IN else ""
    if whose:
        what = f"{whose} registers another kind {falsifier.kind!r}, but that one is built in"
        yield reading.document.problem((*at, "kind"), what, "", "rename its entry point, or uninstall it")
    for index, capability in enumerate(falsifier.requires):
        known = CAPABILITIES | kind.requires
        if capability not in known:
            what = f"no target has a capability {capability!r}"
            yield reading.document.problem(
                (*at, "requires", index), what, "", did_you_mean(capability, known)
            )
    if falsifier.id == "findings":
        what = "a falsifier called 'findings' would have the file of the run's own findings.json"
        yield reading.document.problem((*at, "id"), what, "", "give it another id")
    yield from _bound(reading, (*at, "bound"), falsifier, kind)
    yield from _parameters(reading, at, falsifier, kind)


def _bound(reading: Reading, at: Pointer, falsifier: Falsifier, kind: type[Kind[Any]]) -> Iterator[Problem]:
    bound, usable = falsifier.bound, kind.bound_fields
    given = {name for name in _BOUND_NAMES if getattr(bound, name) is not None}
    for name in given - usable:
        what = f"{kind.name} cannot use {name!r} in its bound"
        yield reading.document.key_problem((*at, name), what, f"{', '.join(sorted(usable))}", "remove it")
    for name in usable - given - _OPTIONAL:
        what = f"{kind.name} needs {name!r} in its bound"
        yield reading.document.problem(at, what, "", f"add {name}:")
    for name in given & {"above", "below", "within"} if kind.unit is not None else ():
        if bound.unit != kind.unit:
            what = f"{kind.name} measures in {kind.unit}, and this threshold is in {bound.unit}"
            yield reading.document.problem((*at, name), what, f"a quantity in {kind.unit}")
    if bound.statistic is not None and bound.runs is not None:
        least = minimum_runs(quantile_of(bound.statistic), bound.confidence)
        if bound.runs < least:
            what = f"{bound.runs} runs cannot bound a {bound.statistic} at confidence {bound.confidence}"
            yield reading.document.problem((*at, "runs"), what, f"at least {least}", f"runs: {least}")


def _parameters(
    reading: Reading, at: Pointer, falsifier: Falsifier, kind: type[Kind[Any]]
) -> Iterator[Problem]:
    fields = {each.name: each for each in dataclasses.fields(kind.parameters_type)}
    inside = (*at, "with")
    unknown = [name for name in falsifier.parameters if name not in fields]
    for name in unknown:
        what = f"{kind.name} has no parameter {name!r}"
        yield reading.document.key_problem((*inside, name), what, "", did_you_mean(name, fields))
    absent = [
        name
        for name, each in fields.items()
        if name not in falsifier.parameters
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    for name in absent:
        what = f"{kind.name} needs parameter {name!r}"
        yield reading.document.problem(
            inside, what, inspect.formatannotation(fields[name].type), f"add {name}: to with:"
        )
    if unknown or absent:
        return
    try:
        kind.parameters_type(**falsifier.parameters)
    except Exception as error:  # noqa: BLE001 (a constructor may refuse in any way it likes)
        sentence = str(error)
        named = next((name for name in falsifier.parameters if name in sentence.split()), None)
        where = inside if named is None else (*inside, named)
        yield reading.document.problem(where, f"{kind.name} refuses its parameters: {sentence}")


def _shared(readings: Sequence[Reading]) -> Iterator[Problem]:
    """Ids of contracts, and aliases of claims, that stand in two places."""
    ids: dict[str, Path] = {}
    aliases: dict[str, str] = {}
    for reading in readings:
        name = _text(reading, "id")
        if name is not None:
            if name in ids:
                what = f"contract id {name!r} is taken by {ids[name]}"
                yield reading.document.problem(("id",), what, "an id of its own")
            ids.setdefault(name, reading.document.path)
        for index, entry in enumerate(_list(reading.document.data, "falsifiers")):
            alias = entry.get("alias") if isinstance(entry, dict) else None
            if isinstance(alias, str):
                at: Pointer = ("falsifiers", index, "alias")
                if alias in aliases:
                    what = f"alias {alias!r} is taken at {aliases[alias]}"
                    yield reading.document.problem(at, what, "an alias of its own")
                here = f"{reading.document.path}:{reading.document.at(at).line}"
                aliases.setdefault(alias, here)


def _needs(linted: Sequence[Reading], readings: Sequence[Reading]) -> Iterator[Problem]:
    """Needs that name nothing, and needs that lead back to where they start."""
    needs: dict[str, list[str]] = {}
    for reading in readings:
        for entry in _list(reading.document.data, "falsifiers"):
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                listed = [need for need in _list(entry, "needs") if isinstance(need, str)]
                needs.setdefault(f"{_text(reading, 'id')}/{entry['id']}", listed)
    seen: set[frozenset[str]] = set()
    for reading in linted:
        for index, falsifier in reading.falsifiers.items():
            start = f"{_text(reading, 'id')}/{falsifier.id}"
            for place, need in enumerate(falsifier.needs):
                at: Pointer = ("falsifiers", index, "needs", place)
                if need not in needs:
                    fix = did_you_mean(need, needs)
                    yield reading.document.problem(at, f"no falsifier {need!r}", "contract/falsifier", fix)
                circle = _circle(start, need, needs)
                if circle and frozenset(circle) not in seen:
                    seen.add(frozenset(circle))
                    what = f"needs go round in a circle: {' -> '.join((*circle, start))}"
                    yield reading.document.problem(at, what, "", "remove one of them")


def _circle(start: str, need: str, needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the way from start over need back to start, or nothing; each node is visited once."""
    came: dict[str, str] = {need: start}
    queue = [need]
    for node in queue:
        if node == start:
            way = [came[node]]
            while way[-1] != start:
                way.append(came[way[-1]])
            return way[::-1]
        for following in needs.get(node, ()):
            if following not in came:
                came[following] = node
                queue.append(following)
    return []


def _text(reading: Reading, key: str) -> str | None:
    value = reading.document.data.get(key) if isinstance(reading.document.data, dict) else None
    return value if isinstance(value, str) else None


def _list(data: object, key: str) -> list[Any]:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, list) else []


def _version(text: object) -> tuple[int, ...] | None:
    """Order versions; what is no version is the schema's business."""
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        return None
    return tuple(map(int, parts))

"""Every fault of contracts as `file:line:col: what; expected …; fix`.

`read_contract` finds what one falsifier shows by itself, `lint_falsifier` what its kind's code and its faults
tell. This module adds the file's name, its prose, model and history, and the other contracts.

Left alone on purpose: a date in the future (what is said of a file must not depend on a clock), and
capabilities beyond those that the kind needs (they are how a contract promises less than its kind can test).
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from refute.contract import ContractError, Problem, Reading, read_contract
from refute.contract_files import find_contracts
from refute.faults import FAULTS
from refute.faults.base import FaultSpec
from refute.kinds import INSTALLED
from refute.lint_falsifier import Kinds, falsifier_problems
from refute.marked_yaml import Pointer, did_you_mean
from refute.select import embedded_model
from refute.verdict import Level

_ENDS = (".", "!", "?")


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
    faults = FAULTS if faults is None else faults
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
        problems.update(_prose(reading))
        problems.update(_model(reading))
        for index, falsifier in reading.falsifiers.items():
            at = ("falsifiers", index)
            problems.update(falsifier_problems(reading.document, at, falsifier, kinds, faults))
    problems.update(_shared(readings))
    beside = {path for file in files for path in file.parent.glob("*.yaml")} - files.keys()
    problems.update(_needs(readings, [*readings, *_readable(beside, kinds, faults)], kinds))
    return sorted(problems)


def _readable(paths: Iterable[Path], kinds: Kinds, faults: Mapping[str, FaultSpec]) -> Iterator[Reading]:
    for path in sorted(paths):
        try:
            yield read_contract(path, kinds=kinds, faults=faults)
        except ContractError:
            continue  # its own lint says why


def _name(reading: Reading) -> Iterator[Problem]:
    path, name = reading.document.path, _text(reading, "id")
    if path.suffix != ".yaml":
        what = f"the file's name ends in {path.suffix!r}"
        yield Problem(path, 1, 1, "file-suffix", what, ".yaml", "rename it")
    if name is not None and name != path.stem:
        fix = f"rename the file to {name}.yaml, or the id"
        what = f"id {name!r} is not the file's name"
        yield reading.document.problem("id-file", ("id",), what, repr(path.stem), fix)


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
                expected, fix = "a higher version", "write the history oldest first"
                yield reading.document.problem("history-order", (*at, "version"), what, expected, fix)
            versions.append(version)
        if isinstance(day, str):
            try:
                parsed = date.fromisoformat(day)
            except ValueError:
                what, expected = f"{day!r} is no date", "a day such as 2026-11-23"
                yield reading.document.problem("date", (*at, "date"), what, expected, "write one that exists")
                continue
            if dates and parsed < dates[-1]:
                what = f"date {day} is before {dates[-1]}"
                fix = "write the history oldest first"
                yield reading.document.problem("date-order", (*at, "date"), what, "", fix)
            dates.append(parsed)
    current = _version(_text(reading, "version"))
    if versions and current is not None and current != versions[-1]:
        last = ".".join(map(str, versions[-1]))
        what = f"version {_text(reading, 'version')} is not the last of the history, {last}"
        yield reading.document.problem("version-history", ("version",), what, "", "add an entry to history")


def _prose(reading: Reading) -> Iterator[Problem]:
    """Texts that YAML has cut short, and scopes that contradict themselves."""
    entries = _list(reading.document.data, "falsifiers")
    sentences: list[tuple[Pointer, object]] = [(("description",), _text(reading, "description"))]
    sentences += [
        (("falsifiers", index, "claim"), entry.get("claim"))
        for index, entry in enumerate(entries)
        if isinstance(entry, dict)
    ]
    for at, text in sentences:
        if isinstance(text, str) and text.strip() and not text.rstrip(" \n\"')").endswith(_ENDS):
            what = f"the {at[-1]} ends without a full stop, at {text.rstrip()[-20:]!r}"
            fix = "end it with one, or quote the text: YAML cuts a plain one at ' #'"
            yield reading.document.problem("sentence-cut", at, what, "a whole sentence", fix)
    scope = reading.document.data.get("scope") if isinstance(reading.document.data, dict) else None
    included = [text for text in _list(scope, "in") if isinstance(text, str)]
    for index, text in enumerate(_list(scope, "out")):
        if text in included:
            what = f"{text!r} is both in the scope and out of it"
            yield reading.document.problem("scope-both", ("scope", "out", index), what, "", "remove one")


def _model(reading: Reading) -> Iterator[Problem]:
    """Evidence of the full model that could never be had, or that the embedded model would give."""
    model = reading.document.data.get("model") if isinstance(reading.document.data, dict) else None
    digests = _list(model, "sha256")
    for index, digest in enumerate(digests):
        if digest == _embedded_sha256():
            what = "this is the embedded model, whose evidence would then count as that of the full one"
            fix = "remove it, and write discharge: embedded where the embedded model is enough"
            yield reading.document.problem("model-embedded", ("model", "sha256", index), what, "", fix)
    if isinstance(model, dict) and model.get("sha256") == []:
        for index, falsifier in reading.falsifiers.items():
            if falsifier.discharge is Level.FULL_MODEL:
                what = "nothing can discharge this claim: model.sha256 lists no file that counts"
                fix = "add the file's digest there, or write discharge: embedded"
                at: Pointer = ("falsifiers", index, "discharge")
                yield reading.document.problem("discharge-never", at, what, "", fix)


@functools.cache
def _embedded_sha256() -> str | None:
    try:
        with embedded_model().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _shared(readings: Sequence[Reading]) -> Iterator[Problem]:
    """Ids of contracts, aliases and sentences of claims, that stand in two places."""
    ids: dict[str, Path] = {}
    aliases: dict[str, str] = {}
    for reading in readings:
        name = _text(reading, "id")
        if name is not None:
            if name in ids:
                what = f"contract id {name!r} is taken by {ids[name]}"
                fix = "rename one, file and id"
                yield reading.document.problem("contract-id-twice", ("id",), what, "an id of its own", fix)
            ids.setdefault(name, reading.document.path)
        claims: dict[str, int] = {}
        for index, entry in enumerate(_list(reading.document.data, "falsifiers")):
            alias = entry.get("alias") if isinstance(entry, dict) else None
            if isinstance(alias, str):
                at: Pointer = ("falsifiers", index, "alias")
                if alias.casefold() in aliases:
                    what = f"alias {alias!r} is taken at {aliases[alias.casefold()]}"
                    expected = "an alias of its own, by more than its case"
                    yield reading.document.problem("alias-twice", at, what, expected, "rename one")
                here = f"{reading.document.path}:{reading.document.at(at).line}"
                aliases.setdefault(alias.casefold(), here)
            claim = entry.get("claim") if isinstance(entry, dict) else None
            if isinstance(claim, str) and claim.strip():
                at = ("falsifiers", index, "claim")
                words = " ".join(claim.casefold().split())
                if words in claims:
                    what = f"the same claim as on line {claims[words]}"
                    fix = "say what this falsifier attacks and the other does not"
                    yield reading.document.problem("claim-twice", at, what, "a claim of its own", fix)
                claims.setdefault(words, reading.document.at(at).line)


def _needs(linted: Sequence[Reading], readings: Sequence[Reading], kinds: Kinds) -> Iterator[Problem]:
    """Needs that name nothing, needs that lead back to where they start, and speed without correctness."""
    needs: dict[str, list[str]] = {}
    timed: dict[str, bool] = {}
    for reading in readings:
        for entry in _list(reading.document.data, "falsifiers"):
            if isinstance(entry, dict) and isinstance(entry.get("id"), str):
                name = f"{_text(reading, 'id')}/{entry['id']}"
                needs.setdefault(name, [need for need in _list(entry, "needs") if isinstance(need, str)])
                kind = kinds.get(entry["kind"]) if isinstance(entry.get("kind"), str) else None
                timed[name] = kind is not None and kind.timing
    seen: set[frozenset[str]] = set()
    for reading in linted:
        for index, falsifier in reading.falsifiers.items():
            start = f"{_text(reading, 'id')}/{falsifier.id}"
            if timed.get(start) and all(timed.get(need, False) for need in falsifier.needs):
                what = "a claim about time that needs no claim about what is computed"
                fix = "add needs: with a claim about correctness: a wrong answer is no fast one"
                at: Pointer = ("falsifiers", index)
                yield reading.document.problem("needs-correctness", at, what, "correct before fast", fix)
            for place, need in enumerate(falsifier.needs):
                at = ("falsifiers", index, "needs", place)
                if need == start:
                    what = "a claim that needs itself can never be discharged"
                    yield reading.document.problem("needs-itself", at, what, "another claim", "remove it")
                    continue
                if need not in needs:
                    what, fix = f"no falsifier {need!r}", did_you_mean(need, needs)
                    yield reading.document.problem("need-unknown", at, what, "contract/falsifier", fix)
                circle = _circle(start, need, needs)
                if circle and frozenset(circle) not in seen:
                    seen.add(frozenset(circle))
                    what = f"needs go round in a circle: {' -> '.join((*circle, start))}"
                    yield reading.document.problem("needs-circle", at, what, "", "remove one of them")


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

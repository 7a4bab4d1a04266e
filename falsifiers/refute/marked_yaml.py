"""Read a small YAML file strictly: plain data, and the line and column where every key and value stands.

Stricter than YAML where YAML surprises: no anchors, aliases, tags or second documents (so nothing can
expand or run), no duplicate keys, no `on`, `off`, `yes` and `no` that are booleans to one reader and text
to the next. Plain scalars follow YAML 1.2's core schema: `2026-11-23` and `1:30` are text.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

SIZE_LIMIT = 1 << 18
DEPTH_LIMIT = 16

Pointer = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_CONSTANTS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_SURPRISES = {"yes", "no", "on", "off"}
_NOT_FINITE = {".inf", "+.inf", "-.inf", ".nan"}
_EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault in one file; line and column count from 1. rule: its stable name, for programs."""

    path: Path
    line: int
    column: int
    rule: str
    what: str
    expected: str = ""
    fix: str = ""

    def __str__(self) -> str:
        parts = [self.what, f"expected {self.expected}" if self.expected else "", self.fix]
        return f"{self.path}:{self.line}:{self.column}: {'; '.join(filter(None, parts))}"


class ContractError(Exception):
    """A contract cannot be used; `problems` says why, the message is one line for each."""

    def __init__(self, problems: "list[Problem]") -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Mark(NamedTuple):
    """Where something stands, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: its bytes, its data, and where values and keys stand, by their path in the data.

    problems: what is no plain data (duplicate keys, anchors, ...); `data` is then the rest of it.
    """

    path: Path
    source: bytes
    data: Any
    values: Mapping[Pointer, Mark]
    keys: Mapping[Pointer, Mark]
    problems: tuple[Problem, ...]

    def at(self, pointer: Pointer) -> Mark:
        """Where a value stands, or the nearest thing that holds it."""
        while pointer not in self.values:
            pointer = pointer[:-1]
        return self.values[pointer]

    def problem(self, rule: str, pointer: Pointer, what: str, expected: str = "", fix: str = "") -> Problem:
        """Make a problem of the value at `pointer`."""
        line, column = self.at(pointer)
        return Problem(self.path, line, column, rule, what, expected, fix)

    def key_problem(
        self, rule: str, pointer: Pointer, what: str, expected: str = "", fix: str = ""
    ) -> Problem:
        """Make a problem of the key at `pointer`."""
        line, column = self.keys[pointer] if pointer in self.keys else self.at(pointer)
        return Problem(self.path, line, column, rule, what, expected, fix)


def read_yaml(path: Path, source: bytes | None = None) -> Document:
    """Read one document. Raises `ContractError` where it cannot be read to its end.

    source: its bytes, where they were read before.
    """
    source = _read(path) if source is None else source
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = source[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        expected, fix = "a text file in UTF-8", "save it as UTF-8"
        problem = Problem(path, line, column, "file-encoding", "not UTF-8", expected, fix)
        raise ContractError([problem]) from None
    builder = _Builder(path)
    try:
        data = builder.document(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except (yaml.YAMLError, ValueError) as error:
        raise ContractError(sorted([*builder.problems, _syntax(path, text, error)])) from None
    if data is None and not builder.problems:
        fix = "refute init writes one to begin with"
        raise ContractError([Problem(path, 1, 1, "file-empty", "the file is empty", "a contract", fix)])
    return Document(path, source, data, builder.values, builder.keys, tuple(builder.problems))


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Say `did you mean 'x'?`, or which words exist where they are few."""
    words = sorted(known)
    near = get_close_matches(str(word), words, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"use one of {', '.join(words)}" if 0 < len(words) <= 20 else ""


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise FileNotFoundError(2, "not a file" if path.exists() else "no such file")
        with path.open("rb") as file:
            source = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        why = error.strerror or str(error)
        what, fix = f"cannot be read: {why}", "check the path and its permissions"
        problem = Problem(path, 1, 1, "file-unreadable", what, "a readable YAML file", fix)
        raise ContractError([problem]) from None
    if len(source) > SIZE_LIMIT:
        expected = f"at most {SIZE_LIMIT} bytes"
        what = "too large for a contract"
        raise ContractError([Problem(path, 1, 1, "file-size", what, expected, "split it")])
    return source


def _syntax(path: Path, text: str, error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        line, column = mark.line + 1, mark.column + 1
    else:  # a character that YAML does not allow is reported by its offset
        before = text[: getattr(error, "position", 0) or 0]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    why = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
    if "nesting depth" in str(why):  # PyYAML 6.0.4 and later refuse it before we can
        return _too_deep(path, line, column)
    fix = "look at this line and the one before it"
    return Problem(path, line, column, "yaml-syntax", f"not YAML: {why}", "", fix)


def _too_deep(path: Path, line: int, column: int) -> Problem:
    expected, fix = f"at most {DEPTH_LIMIT} levels", "a contract needs 6: close a bracket before this one"
    return Problem(path, line, column, "yaml-depth", "nested too deeply", expected, fix)


def _mark(event: Event) -> Mark:
    assert event.start_mark is not None  # a parser marks every event
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


@dataclass(slots=True)
class _Builder:
    path: Path
    problems: list[Problem] = field(default_factory=list)
    values: dict[Pointer, Mark] = field(default_factory=dict)
    keys: dict[Pointer, Mark] = field(default_factory=dict)

    def document(self, events: Iterator[Event]) -> Any:
        data, documents = None, 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    fix = "move it to its own file"
                    self.add(event, "yaml-documents", "a second document", "one contract in one file", fix)
                    break
            elif isinstance(event, NodeEvent):
                data = self.node(event, events, ())
        return data

    def node(self, event: NodeEvent, events: Iterator[Event], pointer: Pointer) -> Any:
        self.values[pointer] = _mark(event)
        if len(pointer) > DEPTH_LIMIT:
            # nothing deeper is worth reading
            raise ContractError([*self.problems, _too_deep(self.path, *_mark(event))])
        if isinstance(event, AliasEvent):
            self.add(event, "yaml-alias", f"an alias *{event.anchor}", "plain values", "write the value out")
            return None
        if event.anchor is not None:
            self.add(event, "yaml-anchor", f"an anchor &{event.anchor}", "plain values", "remove it")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            self.add(event, "yaml-tag", f"a tag {event.tag!r}", "plain values", "remove it")
        if isinstance(event, MappingStartEvent):
            return self.mapping(events, pointer)
        if isinstance(event, SequenceStartEvent):
            return self.sequence(events, pointer)
        assert isinstance(event, ScalarEvent)
        return self.scalar(event)

    def value(self, events: Iterator[Event], pointer: Pointer) -> Any:
        event = next(events)
        assert isinstance(event, NodeEvent)  # a parser gives every key a value
        return self.node(event, events, pointer)

    def sequence(self, events: Iterator[Event], pointer: Pointer) -> list[Any]:
        items: list[Any] = []
        while isinstance(event := next(events), NodeEvent):
            items.append(self.node(event, events, (*pointer, len(items))))
        return items

    def mapping(self, events: Iterator[Event], pointer: Pointer) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while isinstance(event := next(events), NodeEvent):
            if not isinstance(event, ScalarEvent):
                self.add(event, "yaml-key", "a key that is not a word", "plain keys", "write a word")
                self.node(event, events, (*pointer, "?"))
                self.value(events, (*pointer, "?"))
                continue
            key, mark = event.value, _mark(event)
            child = (*pointer, key)
            if event.anchor is not None or event.tag is not None:
                what = f"an anchor or a tag on key {key!r}"
                self.add(event, "yaml-key-anchor", what, "plain keys", "remove it")
            if key in found:
                first = self.keys[child]
                what = f"duplicate key {key!r}, first on line {first.line}"
                self.add(event, "yaml-key-twice", what, "every key once", "remove one of them")
            else:
                self.keys[child] = mark
            found[key] = self.value(events, child)
        return found

    def scalar(self, event: ScalarEvent) -> str | float | bool | None:
        text = event.value
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self.add(event, "yaml-surrogate", "half a surrogate pair", "whole characters", "remove it")
            return None
        if not event.implicit[0]:  # quoted or a block
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text.lower() in _SURPRISES:
            what = f"{text!r} is a boolean to some YAML readers and text to others"
            self.add(event, "yaml-boolean", what, "", f"write true or false, or quote it: '{text}'")
            return text
        if _INTEGER.fullmatch(text):
            return self.integer(event)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if not math.isfinite(number):
                what = f"{text[:20]} is too large"
                self.add(event, "yaml-float-size", what, "a number that a double can hold", "lower it")
                return None
            return number
        if text.lower() in _NOT_FINITE:
            self.add(event, "yaml-not-finite", f"{text} is no finite number", "a finite number", "write one")
            return None
        return text

    def integer(self, event: ScalarEvent) -> int | None:
        text = event.value
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            what = f"{text} is octal to some YAML readers and decimal to others"
            self.add(event, "yaml-octal", what, "no leading zero", f"remove it, or quote the text: '{text}'")
            return None
        if len(digits) > 16 or abs(int(text)) > _EXACT:
            what, expected = f"{text[:20]} is too large", f"a whole number up to {_EXACT}"
            self.add(event, "yaml-integer-size", what, expected, "lower it, or quote it if text is meant")
            return None
        return int(text)

    def add(self, event: Event, rule: str, what: str, expected: str, fix: str) -> None:
        self.problems.append(Problem(self.path, *_mark(event), rule, what, expected, fix))

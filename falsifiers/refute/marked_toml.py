"""Read a TOML file: its data as `tomllib` has it, and the line and column where every key and value stands.

`tomllib` refuses what is no TOML; the scan for positions then goes over text that is known to be sound, so
it only has to find where things begin and end.
"""

import re
import tomllib
from pathlib import Path

from refute.marked_yaml import ContractError, Document, Mark, Pointer, Problem

SIZE_LIMIT = 1 << 20
_WHERE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def read_toml(path: Path) -> Document:
    """Read one document. Raises `ContractError` where it cannot be read to its end."""
    try:
        with path.open("rb") as file:
            source = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise ContractError([_problem(path, 1, 1, "file-unreadable", what)]) from None
    if len(source) > SIZE_LIMIT:
        what = f"larger than {SIZE_LIMIT} bytes"
        raise ContractError([_problem(path, 1, 1, "file-size", what)])
    try:
        text = source.decode("utf-8-sig").replace("\r\n", "\n")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        before = source[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise ContractError([_problem(path, line, column, "file-encoding", "not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ContractError([_syntax(path, text, str(error))]) from None
    except RecursionError:
        raise ContractError([_problem(path, 1, 1, "toml-depth", "nested too deeply")]) from None
    scan = _Scan(text)
    scan.document()
    return Document(path, source, data, scan.values, scan.keys, ())


def _problem(path: Path, line: int, column: int, rule: str, what: str) -> Problem:
    return Problem(path, line, column, rule, what, "a readable TOML file in UTF-8", "check this place")


def _syntax(path: Path, text: str, message: str) -> Problem:
    found = _WHERE.search(message)
    line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    if found and found[1]:
        line, column = int(found[1]), int(found[2])
    return _problem(path, line, column, "toml-syntax", f"not TOML: {_WHERE.sub('', message)}")


class _Scan:
    """One pass over a sound document."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.values: dict[Pointer, Mark] = {(): Mark(1, 1)}
        self.keys: dict[Pointer, Mark] = {}
        self._counts: dict[Pointer, int] = {}  # of arrays of tables
        self._line, self._line_start, self._marked = 1, 0, 0

    def document(self) -> None:
        table: Pointer = ()
        while self._skip(_SPACE) < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._assignment(table)

    def _header(self) -> Pointer:
        mark = self._mark()
        many = self.text.startswith("[[", self.at)
        self.at += 2 if many else 1
        keys = self._dotted()
        self._skip(_BLANK)
        self.at += 2 if many else 1
        table: Pointer = ()
        for place, (key, where) in enumerate(keys):
            table = (*table, key)
            self.keys.setdefault(table, where)
            self.values.setdefault(table, mark)
            last = place == len(keys) - 1
            if last and many:
                self._counts[table] = self._counts.get(table, -1) + 1
            if table in self._counts:
                table = (*table, self._counts[table])
                self.values.setdefault(table, mark)
        return table

    def _assignment(self, table: Pointer) -> None:
        pointer = table
        for key, where in self._dotted():
            pointer = (*pointer, key)
            self.keys.setdefault(pointer, where)
            self.values.setdefault(pointer, where)
        self._skip(_BLANK)
        self.at += 1  # =
        self._skip(_BLANK)
        self.values[pointer] = self._mark()
        self._value(pointer)

    def _dotted(self) -> list[tuple[str, Mark]]:
        keys = []
        while True:
            self._skip(_BLANK)
            mark = self._mark()
            keys.append((self._key(), mark))
            self._skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _key(self) -> str:
        bare = _BARE.match(self.text, self.at)
        if bare is None:
            return self._string()
        self.at = bare.end()
        return bare[0]

    def _value(self, pointer: Pointer) -> None:
        first = self.text[self.at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(pointer)
        elif first == "{":
            self._inline(pointer)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def _array(self, pointer: Pointer) -> None:
        self.at += 1
        index = 0
        while self.text[self._skip(_SPACE)] != "]":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self.values[*pointer, index] = self._mark()
            self._value((*pointer, index))
            index += 1
        self.at += 1

    def _inline(self, pointer: Pointer) -> None:
        self.at += 1
        while self.text[self._skip(_SPACE)] != "}":
            if self.text[self.at] == ",":
                self.at += 1
                continue
            self._assignment(pointer)
        self.at += 1

    def _string(self) -> str:
        """Step over a string of any of the four forms; return what a key of that form says."""
        quote = self.text[self.at]
        many = self.text.startswith(quote * 3, self.at)
        close = quote * 3 if many else quote
        start = self.at = self.at + len(close)
        while not self.text.startswith(close, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
        end = self.at
        self.at += len(close)
        while many and self.text.startswith(quote, self.at):  # up to two more belong to the text
            self.at += 1
        inside = self.text[start:end]
        return _ESCAPE.sub(_unescaped, inside) if quote == '"' else inside

    def _skip(self, what: re.Pattern[str]) -> int:
        found = what.match(self.text, self.at)
        assert found is not None  # both patterns match nothing, too
        self.at = found.end()
        return self.at

    def _mark(self) -> Mark:
        """Where the scan stands; it only ever goes on, so lines are counted once."""
        before = self.text.count("\n", self._marked, self.at)
        if before:
            self._line += before
            self._line_start = self.text.rfind("\n", 0, self.at) + 1
        self._marked = self.at
        return Mark(self._line, self.at - self._line_start + 1)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if code[0] in "uU" else _ESCAPED.get(code, code)

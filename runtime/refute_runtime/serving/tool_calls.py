"""Tool calls in the text of an answer, found while it streams.

Models are told by their chat template how to write a call: as XML (Qwen3-Coder) or as JSON (Qwen3).

    <tool_call>                          <tool_call>
    <function=NAME>                      {"name": "NAME", "arguments": {"ARG": VALUE}}
    <parameter=ARG>                      </tool_call>
    VALUE
    </parameter>
    </function>
    </tool_call>

A parser takes one character at a time, so how the text was cut cannot matter, and reads none more than twice.
What it decides, and why:

- A call is given out whole or not at all. Half a call, cut by a token limit, would be read by a client as a
  call with fewer arguments, and run. What never becomes a call (prose that mentions a tag, broken JSON, a
  call that the text ends in) is content, unchanged: nothing is lost, and `finish_reason` tells of the limit.
- A call ends where `</tool_call>`, the next call or the end of the text follows its own closing tag or
  bracket. Models drop `</tool_call>`; Coder models drop `<tool_call>` too, so `<function=` opens as well.
- A parameter ends at a `</parameter>` that the next parameter or the end of the call follows; any other is
  part of the value, and so is a `<parameter=` whose name was given before. Values may hold code that holds
  tags; one that holds the end of a whole call cannot be told from that end.
- Of a value's line breaks, the first and the last one belong to the layout. So do those between content
  and call, between calls and after the last one.
- An open value may hold anything, so a call that never ends is not searched for other calls.
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from refute_runtime.errors import RequestError
from refute_runtime.messages import normalize_tools
from refute_runtime.serving.tool_format import ToolFormat
from refute_runtime.serving.tool_values import Kinds, parameter_kinds, strict_json, typed

_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER, _PARAMETER_END = "<parameter=", "</parameter>"

_T = TypeVar("_T")
_Reading = Generator[None, str, _T]  # is sent one character after the other, "" at the end


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer outside calls."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call, complete. index: counts the answer's calls from 0. arguments: the text of a JSON object."""

    index: int
    id: str
    name: str
    arguments: str


Event = Content | Call


def parser_for(
    tool_format: ToolFormat, tools: Sequence[Mapping[str, object]], call_id: Callable[[int], str]
) -> "CallParser":
    """Start a parser for one answer.

    tools: as the request has them; their schemas give the types of XML's values. A call of another function
    is a call too: the client knows best how to tell the model. call_id: makes the id of the call of an index.
    Raises RequestError for tools of another form, naming the tool.
    """
    if tool_format is ToolFormat.JSON:
        return _JsonParser(call_id)
    return _XmlParser(call_id, tools)


class CallParser:
    """Reads one answer; the formats differ in what may open a call and in what follows."""

    _openings: tuple[str, ...]

    def __init__(self, call_id: Callable[[int], str]) -> None:
        self._call_id = call_id
        self._calls = 0
        self._held: list[str] = []  # characters that were read and are neither content nor call yet
        self._again: list[str] = []  # characters to read once more, the next one last
        self._ended = False
        self._only_calls = False  # no content since the last call
        self._content: list[str] = []
        self._events: list[Event] = []
        self._reading = self._read()
        next(self._reading)

    def push(self, text: str) -> list[Event]:
        """Take more text; return what is certain now."""
        for character in text:
            self._reading.send(character)
        return self._taken()

    def finish(self) -> list[Event]:
        """End the text; return what was held back. Nothing can be pushed after it."""
        with suppress(StopIteration):
            self._reading.send("")
        return self._taken()

    def _taken(self) -> list[Event]:
        if self._content:
            self._events.append(Content("".join(self._content)))
            self._content = []
        events, self._events = self._events, []
        return events

    def _read(self) -> _Reading[None]:
        try:
            while True:
                opening = yield from self._until_opening()
                call = yield from self._call(opening)
                if call is None:
                    self._reject()
                else:
                    self._accept(*call)
        except _EndError:
            if not self._only_calls or "".join(self._held).strip("\n"):
                self._release(len(self._held))

    def _call(self, opening: str) -> _Reading[tuple[str, Mapping[str, object]] | None]:
        """Read what follows an opening tag: the name and the arguments, or None as soon as it is no call."""
        raise NotImplementedError

    def _accept(self, name: str, arguments: Mapping[str, object]) -> None:
        self._events = self._taken()
        written = json.dumps(arguments, ensure_ascii=False)
        self._events.append(Call(self._calls, self._call_id(self._calls), name, written))
        self._calls += 1
        self._only_calls = True
        self._held.clear()

    def _reject(self) -> None:
        """Give out what is held, but for a tag that may have begun in the end, and the line breaks before."""
        text = "".join(self._held)
        start = text.rfind("<")
        if not any(tag.startswith(text[start:]) for tag in self._openings):
            start = len(text)
        kept = len(text) - len(text[:start].rstrip("\n"))
        self._unread(kept)
        self._release(len(self._held))

    def _release(self, count: int) -> None:
        if count:
            self._content += self._held[:count]
            del self._held[:count]
            self._only_calls = False

    def _unread(self, count: int) -> None:
        start = len(self._held) - count
        self._again += reversed(self._held[start:])
        del self._held[start:]

    def _next(self) -> _Reading[str]:
        """Read a character, held from here on. Raises _EndError at the end, every time."""
        if self._again:
            self._held.append(self._again.pop())
            return self._held[-1]
        character = "" if self._ended else (yield)
        if not character:
            self._ended = True
            raise _EndError
        self._held.append(character)
        return character

    def _until_opening(self) -> _Reading[str]:
        """Give out text until an opening tag is read; it is held then, with the line breaks before it."""
        tag = ""
        while True:
            character = yield from self._next()
            if any(opening.startswith(tag + character) for opening in self._openings):
                tag += character
                if tag in self._openings:
                    return tag
            elif character == "\n":
                self._release(len(self._held) - 1 if tag else 0)
                tag = ""
            elif character == "<":
                self._release(len(self._held) - 1)
                tag = "<"
            else:
                self._release(len(self._held))
                tag = ""

    def _tag(self, *tags: str) -> _Reading[str | None]:
        """Read blanks and one of these tags; None as soon as it can be none of them."""
        tag = ""
        while True:
            character = yield from self._next()
            if not tag and character.isspace():
                continue
            tag += character
            if tag in tags:
                return tag
            if not any(known.startswith(tag) for known in tags):
                return None

    def _closed(self) -> _Reading[bool]:
        """Read what must follow a call; the beginning of another one is left to be read."""
        try:
            tag = yield from self._tag(_CALL_END, *self._openings)
        except _EndError:
            text = "".join(self._held[-len(_CALL_END) :])
            cut = text[text.rfind("<") :]
            if any(known.startswith(cut) for known in self._openings) and not _CALL_END.startswith(cut):
                self._unread(len(cut))
            return True
        if tag in self._openings:
            self._unread(len(tag))
        return tag is not None


class _EndError(Exception):
    """The text has ended."""


class _JsonParser(CallParser):
    _openings = (_CALL,)

    def _call(self, opening: str) -> _Reading[tuple[str, Mapping[str, object]] | None]:  # noqa: ARG002
        if (yield from self._tag("{")) is None:
            return None
        start = len(self._held) - 1
        if not (yield from self._object()):
            return None
        try:
            called = strict_json("".join(self._held[start:]))
        except (ValueError, RecursionError, RequestError):
            return None
        name, arguments = called.get("name"), called.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return (name, arguments) if (yield from self._closed()) else None

    def _object(self) -> _Reading[bool]:
        """Read to the bracket that closes an open one; False as soon as this cannot be JSON."""
        depth, quoted, escaped = 1, False, False
        while depth:
            character = yield from self._next()
            if quoted and character < " ":
                return False
            if escaped:
                escaped = False
            elif character == '"':
                quoted = not quoted
            elif quoted:
                escaped = character == "\\"
            elif character == "<":  # a tag: what was read is prose, and a call may begin here
                return False
            elif character in "{[":
                depth += 1
            elif character in "}]":
                depth -= 1
        return True


class _XmlParser(CallParser):
    _openings = (_CALL, _FUNCTION)

    def __init__(self, call_id: Callable[[int], str], tools: Sequence[Mapping[str, object]]) -> None:
        super().__init__(call_id)
        functions = (tool.get("function", tool) for tool in normalize_tools(tools))
        self._kinds: dict[str, Mapping[str, Kinds]] = {
            function["name"]: parameter_kinds(function["parameters"]) for function in functions
        }

    def _call(self, opening: str) -> _Reading[tuple[str, Mapping[str, object]] | None]:
        if opening == _CALL and (yield from self._tag(_FUNCTION)) is None:
            return None
        name = yield from self._name()
        tag = (yield from self._tag(_PARAMETER, _FUNCTION_END)) if name else None
        if tag == _FUNCTION_END:
            return (name, {}) if (yield from self._closed()) else None
        parameter = (yield from self._name()) if tag else ""
        if not parameter:
            return None
        arguments: dict[str, object] = {}
        kinds = self._kinds.get(name, {})
        while parameter:
            arguments[parameter] = None  # given, from here on
            text, following = yield from self._value(arguments)
            arguments[parameter] = typed(text, kinds.get(parameter, frozenset()))
            parameter = following
        return name, arguments

    def _name(self) -> _Reading[str]:
        """Read a name and the bracket that ends its tag; "" where it is none."""
        start = len(self._held)
        while (character := (yield from self._next())) != ">":
            if character in "<\n":
                return ""
        return "".join(self._held[start:-1])

    def _value(self, given: Mapping[str, object]) -> _Reading[tuple[str, str]]:
        """Read a value and what follows it: the name of another parameter, "" for the end of the call."""
        start = len(self._held)
        while True:
            yield from self._until_parameter_end()
            end = len(self._held) - len(_PARAMETER_END)
            tag = yield from self._tag(_PARAMETER, _FUNCTION_END)
            following = (yield from self._name()) if tag == _PARAMETER else ""
            if (following and following not in given) or (
                tag == _FUNCTION_END and (yield from self._closed())
            ):
                return "".join(self._held[start:end]).removeprefix("\n").removesuffix("\n"), following
            # All this was part of the value; its last characters may begin the tag once more.
            text = "".join(self._held[-len(_PARAMETER_END) :])
            begun = text[text.rfind("<") :]
            if _PARAMETER_END.startswith(begun):
                self._unread(len(begun))

    def _until_parameter_end(self) -> _Reading[None]:
        tag = ""
        while tag != _PARAMETER_END:
            character = yield from self._next()
            tag += character
            if not _PARAMETER_END.startswith(tag):
                tag = "<" if character == "<" else ""

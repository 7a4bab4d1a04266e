"""What the tests of tool calls share: tools, answers with calls as templates write them, and spoilt ones."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chat_parts import EVERY, user
from hypothesis import strategies as st

from refute_runtime.serving.tool_calls import Call, Content, Event, parser_for
from refute_runtime.serving.tool_format import ToolFormat, format_of

SCHEMAS: dict[str, dict[str, Any]] = {
    "s": {"type": "string"},
    "a": {"type": "integer"},
    "n": {"type": "number"},
    "b": {"type": "boolean"},
    "o": {"type": "object"},
    "l": {"type": "array"},
    "z": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    "any": {},
}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": SCHEMAS}}},
    {"type": "function", "function": {"name": "read.file-2", "description": "Reads."}},
]
TAGS = ("<tool_call>", "</tool_call>", "<function=f>", "</function>", "<parameter=s>", "</parameter>")
_PIECES = (
    *TAGS,
    *(tag[:5] for tag in TAGS),
    "<parameter=é 2>",
    "\n",
    "\n\n",
    " ",
    "<",
    ">",
    "{",
    '"',
    "\\",
    "🙂",
)
_VALUE_END = re.compile(r"</parameter>\s*(</function>|<parameter=)")
_FORMATS = {name: format_of(chat.source) for name, chat in EVERY.items()}


@dataclass(frozen=True)
class Rendered:
    """An assistant's turn as a template writes it, and what it was written from."""

    template: str
    text: str
    content: str
    calls: list[tuple[str, dict[str, Any]]]


def id_of(index: int) -> str:
    return f"call-{index}"


def parsed(tool_format: ToolFormat, cut: Iterable[str]) -> list[Event]:
    """Parse a text that comes in pieces; contents that touch are made one."""
    parser = parser_for(tool_format, TOOLS, id_of)
    return merged([*(event for piece in cut for event in parser.push(piece)), *parser.finish()])


def merged(events: Iterable[Event]) -> list[Event]:
    joined: list[Event] = []
    for event in events:
        if isinstance(event, Content) and joined and isinstance(joined[-1], Content):
            joined[-1] = Content(joined[-1].text + event.text)
        else:
            joined.append(event)
    return joined


def whole(tool_format: ToolFormat, text: str) -> list[Event]:
    return parsed(tool_format, [text])


def turn(template: str, content: str | None, calls: list[dict[str, Any]], *after: dict[str, Any]) -> str:
    """Render an assistant's turn, and what follows it, from a message as clients send it."""
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    text = EVERY[template].render_text([user("q"), message, *after], TOOLS, add_generation_prompt=False)
    _, _, rest = text.partition("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n")
    return rest


def sent(event_id: str, name: str, arguments: str) -> dict[str, Any]:
    """Write a call as clients send it back."""
    return {"id": event_id, "type": "function", "function": {"name": name, "arguments": arguments}}


strings = st.lists(st.sampled_from(_PIECES) | st.text("ab é\n", max_size=4), max_size=6).map("".join)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=4,
)


def _values(tool_format: ToolFormat) -> dict[str, st.SearchStrategy[Any]]:
    text = strings
    if tool_format is ToolFormat.XML:  # what holds the end of a parameter cannot be told from it
        text = strings.filter(lambda value: not _VALUE_END.search(value))
    return {
        "s": text,
        "a": st.integers(),
        "n": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        "b": st.booleans(),
        "o": st.dictionaries(strings, json_values, max_size=2).filter(
            lambda v: not _VALUE_END.search(str(v))
        ),
        "l": st.lists(json_values, max_size=2).filter(lambda v: not _VALUE_END.search(str(v))),
        "z": st.none() | text,
        "any": text,
        "not in the schema": text,
    }


@st.composite
def turns(draw: st.DrawFn, tool_format: ToolFormat) -> Rendered:
    """Draw content and calls, typed by their schemas, and let a template write them."""
    template = draw(st.sampled_from([name for name, form in _FORMATS.items() if form is tool_format]))
    content = draw(st.sampled_from(["", "Let me see.", "1 < 2\n\nand <b>", "é\n<tool_box>", "<"]))
    arguments = st.fixed_dictionaries({}, optional=_values(tool_format))
    calls = draw(
        st.lists(
            st.tuples(st.just("f"), arguments) | st.tuples(st.just("read.file-2"), st.just({})),
            min_size=0 if content else 1,
            max_size=3,
        )
    )
    written = [sent(id_of(i), name, json.dumps(given)) for i, (name, given) in enumerate(calls)]
    text = turn(template, content or None, written).removesuffix("<|im_end|>\n")
    return Rendered(template, text, content, calls)


@st.composite
def texts(draw: st.DrawFn, tool_format: ToolFormat) -> str:
    """Draw an answer: turns, tags and prose, from which tags are dropped and which may be cut off."""
    part = turns(tool_format).map(lambda rendered: rendered.text) | st.sampled_from(_PIECES) | strings
    text = "".join(draw(st.lists(part, max_size=4)))
    for _ in range(draw(st.integers(0, 2))):
        tag = draw(st.sampled_from((*TAGS, "\n", "}", '"')))
        start = text.find(tag, draw(st.integers(0, len(text))))
        if start >= 0:
            text = text[:start] + draw(st.sampled_from(("", tag * 2, " "))) + text[start + len(tag) :]
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """Cut a text anywhere, or everywhere."""
    if draw(st.booleans()):
        return list(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def calls_in(events: list[Event]) -> list[Call]:
    return [event for event in events if isinstance(event, Call)]


def content_in(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Content))

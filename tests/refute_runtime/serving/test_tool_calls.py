"""Tool calls found in streamed text: what is a call, what is content, and that the cuts do not matter."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_texts import (
    TOOLS,
    calls_in,
    content_in,
    id_of,
    merged,
    parsed,
    pieces,
    sent,
    texts,
    turn,
    turns,
    whole,
)

from refute_runtime.errors import RequestError
from refute_runtime.messages import normalize_messages
from refute_runtime.serving.tool_calls import Call, CallParser, Content, Event, parser_for
from refute_runtime.serving.tool_format import ToolFormat

XML, JSON_FORMAT = ToolFormat.XML, ToolFormat.JSON
F = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
J = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'


def called(name: str, arguments: str, index: int = 0) -> Call:
    return Call(index, id_of(index), name, arguments)


def value_in(text: str) -> object:
    """Parse a call of `f` that gives this text as the value of the string `s`."""
    (event,) = whole(
        XML, f"<tool_call>\n<function=f>\n<parameter=s>{text}</parameter>\n</function>\n</tool_call>"
    )
    assert isinstance(event, Call)
    return json.loads(event.arguments)["s"]


# --- what is a call


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        ("hello", [Content("hello")]),
        (F, [called("f", '{"a": 1}')]),
        ("Now.\n\n" + F + "\n", [Content("Now."), called("f", '{"a": 1}')]),
        (F + "\n" + F, [called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)]),
        (F + F, [called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)]),
        (F + "\nDone.\n", [called("f", '{"a": 1}'), Content("\nDone.\n")]),
        ("<tool_call>\n<function=g>\n</function>\n</tool_call>", [called("g", "{}")]),
        ("<tool_call><function=g></function></tool_call>", [called("g", "{}")]),
        # The tag of another format is text.
        (J, [Content(J)]),
        # Tags that are missing.
        (F.removeprefix("<tool_call>\n"), [called("f", '{"a": 1}')]),
        (F.removesuffix("\n</tool_call>"), [called("f", '{"a": 1}')]),
        (F.removesuffix("ool_call>"), [called("f", '{"a": 1}')]),
        (
            (F.removesuffix("\n</tool_call>") + "\n") * 2,
            [called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)],
        ),
        (
            (F.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>") + "\n") * 2,
            [called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)],
        ),
        (F.removesuffix("</function>\n</tool_call>"), [Content(F.removesuffix("</function>\n</tool_call>"))]),
        (F.removesuffix("\n</tool_call>") + "\n<tool_c", [called("f", '{"a": 1}'), Content("<tool_c")]),
        # Tags that something else follows than a call.
        ("A `<tool_call>` begins it.", [Content("A `<tool_call>` begins it.")]),
        ("<function=f> is a tag\n" + F, [Content("<function=f> is a tag"), called("f", '{"a": 1}')]),
        ("<tool_call>\n" + F, [Content("<tool_call>"), called("f", '{"a": 1}')]),
        ("<tool_call>\n<function=" + F, [Content("<tool_call>\n<function="), called("f", '{"a": 1}')]),
        ("<tool_call>\n<function=f>\n" + F, [Content("<tool_call>\n<function=f>"), called("f", '{"a": 1}')]),
        ("<<<" + F, [Content("<<"), Content("<"), called("f", '{"a": 1}')]),
        ("<function=>x</function>", [Content("<function=>x</function>")]),
        ("<function=f></function> ends", [Content("<function=f></function> ends")]),
        # The model knows no such function: that is for the client to say.
        ("<function=unknown>\n</function>", [called("unknown", "{}")]),
    ],
)
def test_xml(text: str, events: list[Event]) -> None:
    assert merged(whole(XML, text)) == merged(events)


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (J, [called("f", '{"a": 1}')]),
        ("Now.\n" + J + "\n" + J, [Content("Now."), called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)]),
        (J.removesuffix("\n</tool_call>"), [called("f", '{"a": 1}')]),
        (J.removesuffix("\n</tool_call>") + J, [called("f", '{"a": 1}'), called("f", '{"a": 1}', 1)]),
        ('<tool_call>{"name": "f"}</tool_call>', [called("f", "{}")]),
        (
            '<tool_call>{"arguments": {"a": "</tool_call>{"}, "name": "f"}</tool_call>',
            [called("f", '{"a": "</tool_call>{"}')],
        ),
        (
            '<tool_call>{"name": "f", "arguments": {"a": "\\u00e9\\"\\n"}}</tool_call>',
            [called("f", '{"a": "é\\"\\n"}')],
        ),
        (F, [Content(F)]),
        (J.removeprefix("<tool_call>\n"), [Content(J.removeprefix("<tool_call>\n"))]),
        ("<tool_call>\n" + J, [Content("<tool_call>"), called("f", '{"a": 1}')]),
        ('<tool_call>{"name": <n>}\n' + J, [Content('<tool_call>{"name": <n>}'), called("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f\n' + J, [Content('<tool_call>{"name": "f'), called("f", '{"a": 1}')]),
        ("<tool_call>{}" + J, [Content("<tool_call>{}"), called("f", '{"a": 1}')]),
    ],
)
def test_json(text: str, events: list[Event]) -> None:
    assert merged(whole(JSON_FORMAT, text)) == merged(events)


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "{}",
        "{...}",
        '{"name": "f", "arguments": {}',
        '{"name": "f", "arguments": {}} and so on',
        '{"name": 5, "arguments": {}}',
        '{"name": "f", "arguments": []}',
        '{"name": "f", "arguments": "{}"}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": {"a": NaN}}',
        '{"name": "f", "arguments": {"a": 1e999}}',
        '{"name": "f", "arguments": {"a": "\\ud800"}}',
        '{"name": "f", "arguments": {"a": ' + "1" * 5000 + "}}",
        '{"name": "f", "arguments": {"a": ' + "[" * 100 + "]" * 100 + "}}",
        '{"name": "f", "arguments": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}}",
        '{"name": "f", "arguments": {"a": "\t"}}',
        '["f"]',
        '{"name": "f", "arguments": {]}}',
    ],
)
def test_what_is_no_call_in_json_is_content(body: str) -> None:
    text = f"see\n<tool_call>\n{body}\n</tool_call>\n"
    assert whole(JSON_FORMAT, text) == [Content(text)]


# --- where a value ends


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("\nx\n", "x"),
        ("x", "x"),
        ("\n\n", ""),
        ("\n", ""),
        ("", ""),
        ("\n\nx\n\n", "\nx\n"),
        ("\n  x \n", "  x "),
        ("\nTrue\n", "True"),
        ("\n</parameter>\n", "</parameter>"),
        ("\na</parameter>b</parameter>\nc\n", "a</parameter>b</parameter>\nc"),
        ("\n</parameter></parameter\n", "</parameter></parameter"),
        ("\n</parameter>\n</function>\nmore\n", "</parameter>\n</function>\nmore"),
        ("\n</parameter>\n</function></function>\n", "</parameter>\n</function></function>"),
        ("\n</parameter>\n<parameter=s>\ntwice\n", "</parameter>\n<parameter=s>\ntwice"),
        ("\n</parameter>\n<parameter=\n", "</parameter>\n<parameter="),
        (
            "\n<tool_call>\n<function=g>\n</function>\n</tool_call>\n",
            "<tool_call>\n<function=g>\n</function>\n</tool_call>",
        ),
        ("\n</param", "\n</param".removeprefix("\n")),
        ("\n<<</parameter<</parameter>\n", "<<</parameter<</parameter>"),
    ],
)
def test_a_value_ends_where_the_call_goes_on(written: str, value: str) -> None:
    assert value_in(written) == value


def test_what_holds_a_whole_call_s_end_cannot_be_told_from_it() -> None:
    text = f"<function=f>\n<parameter=s>\n{F}\n</parameter>\n</function>"
    first, rest = whole(XML, text)
    assert first == called("f", json.dumps({"s": F.partition("\n</parameter>")[0]}))
    assert rest == Content("\n</parameter>\n</function>")


# --- while it streams


@pytest.mark.parametrize("tool_format", ToolFormat)
def test_content_is_given_out_as_it_comes(tool_format: ToolFormat) -> None:
    parser = parser_for(tool_format, TOOLS, id_of)
    assert [parser.push(text) for text in ("He", "y <", "b", ">, <tool", "_box>", "\n", "\n", "so ")] == [
        [Content("He")],
        [Content("y ")],
        [Content("<b")],
        [Content(">, ")],
        [Content("<tool_box>")],
        [],
        [],
        [Content("\n\nso ")],
    ]
    assert parser.finish() == []


def test_a_call_is_given_out_when_it_is_closed() -> None:
    parser = parser_for(XML, TOOLS, id_of)
    assert parser.push(F[:-1]) == []
    assert parser.push(F[-1]) == [called("f", '{"a": 1}')]
    assert parser.push("\n") == []
    assert parser.finish() == []


def test_one_text_gives_its_ids_to_its_calls() -> None:
    parser = parser_for(XML, TOOLS, lambda index: f"id of {index}")
    assert [event.id for event in parser.push(F + F) if isinstance(event, Call)] == ["id of 0", "id of 1"]


def test_values_have_the_types_of_the_tool_that_is_called() -> None:
    call = F.replace("<parameter=a>", "<parameter=s>").replace("\n1\n", "\n2\n")
    bare = parser_for(XML, [{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}}}], id_of)
    assert bare.push(F + call) == [called("f", '{"a": 1}'), called("f", '{"s": "2"}', 1)]
    assert whole(XML, F.replace("=f>", "=other>")) == [called("other", '{"a": "1"}')]


def test_tools_of_another_form_are_refused() -> None:
    with pytest.raises(RequestError, match=r"tools\[0\]\.name is None"):
        parser_for(XML, [{}], id_of)


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_the_cuts_do_not_matter(tool_format: ToolFormat, data: st.DataObject) -> None:
    text = data.draw(texts(tool_format))
    assert parsed(tool_format, data.draw(pieces(text))) == whole(tool_format, text)


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_without_a_call_all_text_is_content(tool_format: ToolFormat, data: st.DataObject) -> None:
    text = data.draw(texts(tool_format))
    events = whole(tool_format, text)
    if not calls_in(events):
        assert events == ([Content(text)] if text else [])


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_what_is_given_out_early_is_never_taken_back(tool_format: ToolFormat, data: st.DataObject) -> None:
    """What a parser says of a text holds however it goes on, and it holds back nothing without a reason."""
    text, more = data.draw(texts(tool_format)), data.draw(texts(tool_format))
    parser = parser_for(tool_format, TOOLS, id_of)
    early = merged(parser.push(text))
    later = whole(tool_format, text + more)
    assert later[: len(early[:-1])] == early[:-1]
    if early and isinstance(last := early[-1], Content):
        found = later[len(early) - 1]
        assert isinstance(found, Content)
        assert found.text.startswith(last.text)
    if "<" not in text and not text.endswith("\n"):
        assert content_in(early) == text


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_what_a_template_writes_is_read_back(tool_format: ToolFormat, data: st.DataObject) -> None:
    rendered = data.draw(turns(tool_format))
    events = whole(tool_format, rendered.text)
    calls = calls_in(events)
    assert [(call.name, json.loads(call.arguments)) for call in calls] == rendered.calls
    assert [call.index for call in calls] == list(range(len(calls)))
    assert content_in(events) == rendered.content
    types = [{key: type(value) for key, value in json.loads(call.arguments).items()} for call in calls]
    assert types == [{key: type(value) for key, value in given.items()} for _, given in rendered.calls]


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_what_a_client_sends_back_is_what_the_model_wrote(
    tool_format: ToolFormat, data: st.DataObject
) -> None:
    rendered = data.draw(turns(tool_format))
    events = whole(tool_format, rendered.text)
    back = [sent(call.id, call.name, call.arguments) for call in calls_in(events)]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {index}"}
        for index, call in enumerate(back)
    ]
    text = turn(rendered.template, content_in(events) or None, back, *results)
    said, _, rest = text.partition("<|im_end|>\n")
    assert said == rendered.text
    answers = [f"<tool_response>\nresult {index}\n</tool_response>" for index in range(len(back))]
    assert re.findall("<tool_response>.*?</tool_response>", rest, re.DOTALL) == answers


@pytest.mark.parametrize("tool_format", ToolFormat)
@given(st.data())
def test_arguments_are_an_object_that_can_be_sent_back(tool_format: ToolFormat, data: st.DataObject) -> None:
    calls = calls_in(whole(tool_format, data.draw(texts(tool_format))))
    for call in calls:
        assert isinstance(json.loads(call.arguments, parse_constant=pytest.fail), dict)
    message = {"role": "assistant", "tool_calls": [sent(c.id, c.name, c.arguments) for c in calls]}
    assert len(normalize_messages([message])[0]["tool_calls"]) == len(calls)


# --- how long it takes


@pytest.mark.parametrize("tool_format", ToolFormat)
@pytest.mark.parametrize(
    "unit",
    [
        "x",
        "\n",
        "<",
        "<tool_call>",
        "<tool_call>\n\n\n",
        "\n\n\n<tool_call",
        "<function=f>\n",
        "<tool_call>\n<function=f>\n<parameter=s>\n",
        "<function=f><parameter=s></parameter></function>x",
        "</parameter></function></para",
        "</parameter>\n<parameter=",
        "<tool_call>{",
        '<tool_call>{"',
        '<tool_call>{"name": "f"',
        F,
        J,
    ],
)
@pytest.mark.parametrize("before", ["", "<function=f><parameter=s>", '<tool_call>{"a": "'])
def test_each_character_is_read_at_most_twice(
    monkeypatch: pytest.MonkeyPatch, tool_format: ToolFormat, unit: str, before: str
) -> None:
    reads = 0
    once = CallParser._next

    def counted(self: CallParser) -> Iterator[None]:
        nonlocal reads
        reads += 1
        return (yield from once(self))

    monkeypatch.setattr(CallParser, "_next", counted)
    text = before + unit * 200
    whole(tool_format, text)
    assert reads <= 2 * len(text) + 2

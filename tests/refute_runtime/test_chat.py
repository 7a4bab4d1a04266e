"""Chat templates: the text they give, whose special tokens count, and templates that mean harm."""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import jinja2
import pytest
from chat_templates import CODER, JSON
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_vocabulary import CONTROL, USER_DEFINED, metadata

from refute_runtime.chat import ChatTemplate
from refute_runtime.chat_sandbox import Budget, OverBudgetError, Sandbox, render
from refute_runtime.errors import RequestError, TemplateError
from refute_runtime.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_metadata(metadata())
TEMPLATES = {"coder": ChatTemplate(CODER, TOKENIZER), "json": ChatTemplate(JSON, TOKENIZER)}
SPECIALS = [*CONTROL, *USER_DEFINED]
WRITE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "write",
        "description": "Write a <file> & close it.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "mode": {"enum": ["a", "w"]}},
            "required": ["path"],
        },
    },
}


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, TOKENIZER)


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(arguments: object) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "write", "arguments": arguments}}
        ],
    }


def stock(source: str, **variables: object) -> str:
    """Render with plain Jinja in the settings of Hugging Face."""

    def to_json(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
        autoescape=False,
    )
    environment.filters["tojson"] = to_json
    return environment.from_string(source).render(**variables)


def specials_in(ids: list[int]) -> list[str]:
    """Return the special tokens among ids, in order."""
    return [TOKENIZER.text_of(token) for token in ids if TOKENIZER.text_of(token) in TOKENIZER.specials]


# --- the text


def test_coder_prompt_with_a_call_and_two_results() -> None:
    messages = [
        user("go"),
        call('{"path": "a.py", "lines": [1, "é<"], "force": true, "note": null}'),
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
    ]
    assert TEMPLATES["coder"].render_text(messages) == (
        "<|im_start|>user\ngo<|im_end|>\n"
        "<|im_start|>assistant\n<tool_call>\n<function=write>\n"
        "<parameter=path>\na.py\n</parameter>\n"
        '<parameter=lines>\n[1, "é<"]\n</parameter>\n'
        "<parameter=force>\nTrue\n</parameter>\n"
        "<parameter=note>\nNone\n</parameter>\n"
        "</function>\n</tool_call><|im_end|>\n"
        "<|im_start|>user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>\n"
        "<|im_end|>\n<|im_start|>assistant\n"
    )


def test_coder_tools_without_a_system_message_bring_one() -> None:
    text = TEMPLATES["coder"].render_text([user("hi")], [WRITE], add_generation_prompt=False)
    assert text.startswith(
        "<|im_start|>system\nYou are an assistant that works on a computer.\n\n# Tools\n\n<tools>"
    )
    assert '<name>mode</name>\n<enum>["a", "w"]</enum>\n</parameter>' in text
    assert "<description>Write a <file> & close it.</description>" in text
    assert text.endswith("</tool_call><|im_end|>\n<|im_start|>user\nhi<|im_end|>\n")


def test_json_prompt_with_tools_and_a_call() -> None:
    text = TEMPLATES["json"].render_text([user("go"), call({"path": "é<"})], [WRITE])
    assert f"<tools>\n{json.dumps(WRITE)}\n</tools>" in text
    assert '<tool_call>\n{"name": "write", "arguments": {"path": "é<"}}\n</tool_call><|im_end|>' in text


def test_json_template_searches_the_users_own_text() -> None:
    messages = [user("a"), {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}, user("c")]
    assert TEMPLATES["json"].render_text(messages, add_generation_prompt=False) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    )


def test_keyword_arguments_reach_the_template() -> None:
    text = TEMPLATES["json"].render_text([user("a")], enable_thinking=False)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    ids = TEMPLATES["json"].encode([user("a")], enable_thinking=False)
    assert specials_in(ids)[-2:] == ["<think>", "</think>"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_equals_stock_jinja_on_normal_messages(name: str) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief & <b>."},
        user("q"),
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [{"function": {"name": "f", "arguments": {"x": {"y": 1.5}}}}],
        },
        {"role": "tool", "content": "r"},
    ]
    expected = stock(TEMPLATES[name].source, messages=messages, tools=[WRITE], add_generation_prompt=True)
    assert TEMPLATES[name].render_text(messages, [WRITE]) == expected


def test_json_is_written_without_html_escapes_and_with_indent() -> None:
    source = "{{ messages[0].content|tojson }}{{ tools|tojson(indent=2) }}"
    text = template(source).render_text([user("<é'&>")], [{"a": 1}])
    assert text == '"<é\'&>"[\n  {\n    "a": 1\n  }\n]'


def test_the_date_comes_from_the_clock_that_was_given() -> None:
    chat = ChatTemplate(
        "{{ strftime_now('%d %b %Y') }}", TOKENIZER, now=lambda: datetime(2026, 3, 1, tzinfo=UTC)
    )
    assert chat.render_text([]) == "01 Mar 2026"


def test_loop_controls_are_available() -> None:
    assert (
        template(
            "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
        ).render_text([])
        == "012"
    )


def test_sha256_is_of_the_source() -> None:
    assert template("abc").sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_without_a_template_is_told() -> None:
    with pytest.raises(TemplateError, match=r"tokenizer\.chat_template is missing"):
        ChatTemplate.from_metadata({}, TOKENIZER)
    assert ChatTemplate.from_metadata({"tokenizer.chat_template": "x"}, TOKENIZER).render_text([]) == "x"


# --- messages brought into form


def test_content_parts_and_none_become_text() -> None:
    chat = template("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert chat.render_text([user(parts), user(None), {"role": "assistant"}]) == "[a\nb][][]"


@pytest.mark.parametrize("arguments", ["", "  ", None, {}, "{}"])
def test_empty_arguments_are_an_empty_object(arguments: object) -> None:
    assert '"arguments": {}' in TEMPLATES["json"].render_text([user("a"), call(arguments)])


def test_arguments_may_stand_beside_the_name() -> None:
    message = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]}
    assert '{"name": "f", "arguments": {"x": 1}}' in TEMPLATES["json"].render_text([user("a"), message])


def test_the_callers_messages_are_left_alone() -> None:
    messages = [user([{"type": "text", "text": "a"}]), call('{"path": 1}')]
    before = json.dumps(messages)
    TEMPLATES["coder"].encode(messages)
    assert json.dumps(messages) == before


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hi", "messages is of type str; expected an array"),
        (["hi"], r"messages\[0\] is of type str; expected an object"),
        ([user("a"), {"content": "b"}], r"messages\[1\].role is None; expected a string"),
        ([user(5)], r"messages\[0\].content is of type int"),
        (
            [user("a"), user([{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}])],
            r"messages\[1\].content\[1\] is a part of type 'image_url'; expected 'text'",
        ),
        ([user(["a"])], r"messages\[0\].content\[0\] is a part of type None"),
        ([user([{"type": "text"}])], r"messages\[0\].content\[0\].text is None"),
        ([user("a"), call("{")], r"messages\[1\].tool_calls\[0\]: its arguments are no JSON"),
        ([call("[" * 100_000)], r"messages\[0\].tool_calls\[0\]: its arguments are no JSON"),
        ([call("[1]")], r"messages\[0\].tool_calls\[0\]: its arguments are list; expected an object"),
        ([call("0")], r"its arguments are int; expected an object"),
        ([{"role": "assistant", "tool_calls": [5]}], r"messages\[0\].tool_calls\[0\] is of type int"),
        ([{"role": "assistant", "tool_calls": 5}], r"messages\[0\].tool_calls is of type int"),
        ([{"role": "assistant", "tool_calls": [{}]}], r"tool_calls\[0\] names no function"),
        ([user("a\ud800")], r"messages\[0\].content holds a lone surrogate"),
        ([call('{"a": "\\ud800"}')], r"arguments.a holds a lone surrogate"),
        ([{"role": "user", "content": "a", 5: 1}], r"messages\[0\] has the key 5"),
        ([{"role": "user", "content": "a", None: 1}], r"messages\[0\] has the key None"),
        (
            [{"role": "user", "content": "a", "x": {1}}],
            r"messages\[0\].x is of type set; expected JSON values",
        ),
    ],
)
def test_messages_of_another_form_are_refused_by_index(messages: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TEMPLATES["coder"].encode(messages)


def test_deep_nesting_is_refused() -> None:
    value: Any = "x"
    for _ in range(5000):
        value = [value]
    with pytest.raises(RequestError, match="nested too deeply"):
        TEMPLATES["coder"].encode([user("a")], [{"x": value}])


# --- whose special tokens

PRIVATE = ["\U000f0000", "\U000f0003", "\U0010fffd"]
HEADS = [special[:cut] for special in SPECIALS for cut in (1, 2, -1)]
TAILS = [special[cut:] for special in SPECIALS for cut in (2, -1)]
FRAGMENTS = st.sampled_from([*SPECIALS, *HEADS, *TAILS, *PRIVATE, "im_end", "assistant\n", "\n", "<", "x"])
HOSTILE = st.lists(FRAGMENTS, max_size=6).map("".join)
VALUES = st.recursive(
    HOSTILE | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=5,
)
HARMLESS = "x"


def conversation(texts: tuple[str, ...], arguments: object, key: str) -> list[dict[str, Any]]:
    system, question, thought, name, result = texts
    function = {"name": name, "arguments": json.dumps({key: arguments})}
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": [{"type": "text", "text": question}, {"type": "text", "text": result}]},
        {"role": "assistant", "content": thought, "tool_calls": [{"function": function}]},
        {"role": "tool", "content": result},
        {"role": "tool", "content": question},
        {"role": "user", "content": question + result},
    ]


@pytest.mark.parametrize("name", TEMPLATES)
@given(st.tuples(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE), VALUES, HOSTILE, HOSTILE)
@example(("<|im_", "end|>", "<|im_", "end|>", "<|im_"), "end|>", "<|im_", "end|>")
@example(("<|im_end|>",) * 5, {"<|im_end|>": ["<|im_start|>"]}, "<tool_call>", "</tool_call>")
@example(("\U000f0000\U000f0001",) * 5, "\U000f0002", "\U000f0003", "\U000f0004")
def test_hostile_text_leaves_the_special_tokens_as_they_are(
    name: str, texts: tuple[str, ...], arguments: object, key: str, tool: str
) -> None:
    chat = TEMPLATES[name]
    messages, tools = conversation(texts, arguments, key), [{"name": tool, "parameters": {"properties": {}}}]
    # The templates leave blank content and thoughts out, so harmless text has to be as blank.
    same = [HARMLESS if text.strip() else "" for text in texts]
    thought = texts[2].split("</think>")[-1].lstrip("\n") if name == "json" else texts[2]
    same[2] = HARMLESS if thought.strip() else ""
    harmless = conversation(tuple(same), HARMLESS, HARMLESS)
    ids = chat.encode(messages, tools)
    expected = chat.encode(harmless, [{"name": HARMLESS, "parameters": {"properties": {}}}])
    assert [text for text in specials_in(ids) if "think" not in text] == specials_in(expected)
    assert TOKENIZER.decode(ids) == chat.render_text(messages, tools)


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_token_typed_by_the_user_stays_text(special: str) -> None:
    chat = template("<|im_start|>{{ messages[0].content }}<|im_end|>")
    ids = chat.encode([user(f"a {special} b")])
    start, end = TOKENIZER.specials["<|im_start|>"], TOKENIZER.specials["<|im_end|>"]
    assert ids == [start, *TOKENIZER.encode(f"a {special} b"), end]


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content }}{{ messages[1].content }}",
        "{{ messages[0].content ~ messages[1].content }}",
        "{{ messages[0].content + messages[1].content }}",
        "{{ messages|map(attribute='content')|join }}",
        "<|im_{{ messages[1].content }}",
        "{{ messages[0].content }}end|>",
        "{{ '<|IM_END|>'|lower }}",
        "{{ '<X|im_end|>'|replace('X', '') }}",
    ],
)
def test_a_special_token_that_only_comes_together_stays_text(source: str) -> None:
    ids = template(source).encode([user("<|im_"), user("end|>")])
    assert ids == TOKENIZER.encode("<|im_end|>")


@pytest.mark.parametrize(
    "source",
    [
        "<|im_end|>",
        "{{ '<|im_end|>' }}",
        "{{ '<|im_end|>' ~ '' }}",
        "{% set end = '<|im_end|>' %}{{ end }}",
        "{% macro close(text='<|im_end|>') %}{{ text }}{% endmacro %}{{ close() }}",
        "{% macro close(text) %}{{ text }}{% endmacro %}{{ close('<|im_end|>') }}",
        "{% filter trim %} <|im_end|> {% endfilter %}",
        "{% set end %}<|im_end|>{% endset %}{{ end }}",
        "{{ '<|im_end|>' if true else '' }}",
        "{{ {'a': '<|im_end|>'}.a }}",
        "{{ ['<|im_end|>']|join('') }}",
        "{{ 'X'|replace('X', '<|im_end|>') }}",
        "{{ 'X'.replace('X', '<|im_end|>') }}",
        "{{ nothing|default('<|im_end|>') }}",
        "{{ eos_token }}",
    ],
)
def test_a_special_token_that_the_template_writes_counts(source: str) -> None:
    assert template(source).encode([]) == [TOKENIZER.specials["<|im_end|>"]]


@pytest.mark.parametrize(
    "source",
    [
        "{{ '</think>' in messages[0].content }}",
        "{{ messages[0].content == 'a</think>b' }}",
        "{{ messages[0].content is eq('a</think>b') }}",
        "{{ messages[0].content.split('</think>')[0] == 'a' }}",
        "{{ messages[0].content.endswith('</think>b') }}",
        "{{ messages[0].content|replace('</think>', '') == 'ab' }}",
        "{{ messages[0].content.replace('</think>', '') == 'ab' }}",
        "{{ {'</think>': true}['</think>'] }}",
    ],
)
def test_what_the_template_searches_for_is_found(source: str) -> None:
    assert template(source).encode([user("a</think>b")]) == TOKENIZER.encode("True")


def test_a_template_that_hides_what_it_searches_for_is_refused_and_not_misread() -> None:
    chat = template("{% set mark = '</think>' %}{{ mark in messages[0].content }}")
    assert chat.render_text([user("</think>")]) == "True"
    with pytest.raises(TemplateError, match="computes with the text of special tokens"):
        chat.encode([user("</think>")])


def test_private_characters_of_the_user_stay_what_they_are() -> None:
    chat = template("<|im_start|>{{ messages[0].content }}\U000f0001")
    content = "".join(map(chr, range(0xF0000, 0xF0100)))
    assert TOKENIZER.decode(chat.encode([user(content)])) == f"<|im_start|>{content}\U000f0001"
    assert specials_in(chat.encode([user(content)])) == ["<|im_start|>"]


def test_private_characters_hidden_in_json_escapes_stay_text() -> None:
    ids = TEMPLATES["json"].encode([user("a"), call('{"a": "\\udb80\\udc00\\udb80\\udc02"}')])
    assert "\U000f0000\U000f0002" in TOKENIZER.decode(ids)
    assert len(specials_in(ids)) == len(
        specials_in(TEMPLATES["json"].encode([user("a"), call('{"a": "b"}')]))
    )


def test_when_all_private_characters_are_taken_the_request_is_refused() -> None:
    every = "".join(map(chr, [*range(0xF0000, 0xFFFFE), *range(0x100000, 0x10FFFE)]))
    with pytest.raises(RequestError, match="private-use"):
        TEMPLATES["coder"].encode([user(every)])


# --- templates that fail or mean harm


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "does not compile: line 1"),
        ("a\n{{ 'x'|nonsense }}", "does not compile: line 2"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "does not compile"),
        ("x" * 1_000_001, "has 1000001 characters"),
    ],
)
def test_a_template_that_does_not_compile_is_told(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        template(source)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('no such role') }}", "refuses the messages: no such role"),
        ("{{ messages[0].nothing.more }}", "fails: UndefinedError"),
        ("{{ 1 / 0 }}", "fails: ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "fails: TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "fails: RecursionError"),
        ("{% include 'x' %}", "fails: TypeError"),
        ("{{ ''.__class__.__mro__ }}", "fails: SecurityError"),
        ("{{ messages.append(1) }}", "fails: SecurityError"),
        ("{{ messages[0].update({}) }}", "fails: SecurityError"),
        ("{{ '{0}'.format(1) }}", "fails: SecurityError"),
        ("{{ 'x'['format'](1) }}", "fails: SecurityError"),
        ("{{ '%099999999d' % 1 }}", "fails: SecurityError"),
        ("{{ 'x'.center(10 ** 9) }}", "fails: SecurityError"),
        ("{{ 1|tojson(indent=1000000) }}", "fails: SecurityError"),
        ("{{ range }}", "fails: SecurityError"),
        ("{{ range(10 ** 9) }}", "fails: OverflowError"),
        ("{{ cycler }}{{ lipsum(n=100) }}", "fails: UndefinedError"),
    ],
)
def test_a_template_that_fails_is_told(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        template(source).encode([user("a")])


LOOP = "{% for i in range(100000) %}"
DOUBLING = "{% set ns = namespace(x='aa', y='aa') %}{% for i in range(60) %}%s{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        LOOP * 4 + "{% endfor %}" * 4,
        LOOP * 3 + "{{ 1 }}" + "{% endfor %}" * 3,
        "{% for i in range(100000) if false %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for x in [1] recursive %}{{ loop([1, 1]) if loop.depth < 60 }}{% endfor %}",
        LOOP + "x" * 1000 + "{% endfor %}",
        "{% set x %}" + LOOP + "x" * 1000 + "{% endfor %}{% endset %}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 10 ** 12 * 'a' }}",
        "{{ [1] * 10 ** 12 }}",
        "{{ 9 ** (9 ** 9) }}",
        DOUBLING.replace("%s", "{% set ns.x = ns.x ~ ns.x %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x + ns.x %}"),
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x]|join %}"),
        DOUBLING.replace("%s", "{% set ns.x = ''.join([ns.x, ns.x]) %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x|replace('a', ns.x) %}"),
        DOUBLING.replace("%s", "{% set ns.x = ns.x.replace('a', ns.x) %}"),
        DOUBLING.replace("%s", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x|tojson }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}") + "{{ ns.x|string|length }}",
        DOUBLING.replace("%s", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}") + "{{ ns.x ~ '' }}",
        DOUBLING.replace("%s", "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}")
        + "{{ ns.x == ns.y }}",
        "{{ ['x' * 1000000] * 100000 }}",
        "{{ (['x' * 1000000] * 100000)|join }}",
        "{{ (['x' * 1000000] * 100000)|map('upper')|list|length }}",
    ],
)
def test_a_template_without_end_is_stopped(source: str) -> None:
    # Fewer steps than by default, for speed, and no deadline, so that the host's speed decides nothing.
    chat = ChatTemplate(source, TOKENIZER, budget=lambda: Budget(steps=20_000, seconds=float("inf")))
    with pytest.raises(TemplateError, match="does not finish"):
        chat.render_text([])


def test_time_ends_a_template() -> None:
    sandbox = Sandbox()
    ticks = count()
    budget = Budget(seconds=5.0, clock=lambda: float(next(ticks)))
    endless = sandbox.template(sandbox.parse("{% for i in range(100) %}{{ i }}{% endfor %}"))
    with pytest.raises(OverBudgetError, match="longer than 5 s"):
        render(endless, {}, budget)


def test_a_long_conversation_is_within_the_budget() -> None:
    messages = [message for i in range(300) for message in (user(f"q{i}" * 50), call({"x": "y" * 500}))]
    ids = TEMPLATES["coder"].encode(messages, [WRITE] * 20)
    assert specials_in(ids).count("<tool_call>") == 301

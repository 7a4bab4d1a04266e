"""Chat templates: the text they give, and messages brought into form."""

import json
from datetime import UTC, datetime
from typing import Any

import jinja2
import pytest
from chat_parts import EVERY, TEMPLATES, TOKENIZER, WRITE, call, specials_in, template, user

from refute_runtime.chat import ChatTemplate
from refute_runtime.errors import RequestError, TemplateError
from refute_runtime.messages import normalize_messages, normalize_tools


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
    text = template(source).render_text([user("<é'&>")], [{"name": "f", "parameters": {}}])
    assert text == '"<é\'&>"[\n  {\n    "name": "f",\n    "parameters": {}\n  }\n]'


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
        ([user("a"), {"content": "b"}], r"messages\[1\].role is None; expected one of 'system', 'developer'"),
        ([user(5)], r"messages\[0\].content is of type int"),
        (
            [user("a"), user([{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}])],
            r"messages\[1\].content\[1\].type is 'image_url'; expected 'text'",
        ),
        ([user(["a"])], r"messages\[0\].content\[0\] is of type str; expected a text part"),
        ([user([{"text": "a"}])], r"messages\[0\].content\[0\].type is None; expected 'text'"),
        (
            [user("a"), {"role": "function", "content": "b"}],
            r"messages\[1\].role is 'function'; expected one of .*'tool'\.",
        ),
        ([{**user("a"), "tool_calls": []}], r"messages\[0\].tool_calls is in a message of role 'user'"),
        (
            [{"role": "assistant", "function_call": {"name": "f"}}],
            r"messages\[0\].function_call is not supported",
        ),
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


def result(content: object, answered: object) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": answered}


def two_calls() -> dict[str, Any]:
    calls = [{"id": id, "type": "function", "function": {"name": id, "arguments": "{}"}} for id in ("a", "b")]
    return {"role": "assistant", "content": None, "tool_calls": calls}


@pytest.mark.parametrize("name", EVERY)
def test_results_stand_in_the_order_of_their_calls(name: str) -> None:
    messages = [user("q"), two_calls(), result("2", "b"), result("1", "a"), user("r")]
    in_order = [user("q"), two_calls(), result("1", "a"), result("2", "b"), user("r")]
    assert EVERY[name].render_text(messages) == EVERY[name].render_text(in_order)


def test_results_without_ids_stay_where_they_are() -> None:
    messages = [two_calls(), result("2", "b"), {"role": "tool", "content": "1"}]
    assert [message["content"] for message in normalize_messages(messages)] == ["", "2", "1"]


@pytest.mark.parametrize("answered", ["c", 5, ["a"]])
def test_a_result_of_a_call_that_was_not_made_is_refused(answered: object) -> None:
    with pytest.raises(RequestError, match=r"messages\[2\]\.tool_call_id is .*expected the id of a call"):
        normalize_messages([user("q"), two_calls(), result("1", answered)])
    with pytest.raises(RequestError, match=r"messages\[0\]\.tool_call_id"):
        normalize_messages([result("1", answered), two_calls()])


@pytest.mark.parametrize("name", EVERY)
def test_a_developer_speaks_as_the_system(name: str) -> None:
    as_developer = EVERY[name].render_text([{"role": "developer", "content": "Be brief."}, user("q")])
    assert as_developer == EVERY[name].render_text([{"role": "system", "content": "Be brief."}, user("q")])
    assert "Be brief." in as_developer


@pytest.mark.parametrize("name", EVERY)
def test_fields_that_are_null_are_left_out(name: str) -> None:
    nulls = {"tool_calls": None, "refusal": None, "function_call": None, "audio": None, "name": None}
    tool = {"type": "function", "function": {**WRITE["function"], "strict": None}}
    bare = {"type": "function", "function": {k: v for k, v in tool["function"].items() if v is not None}}
    messages = [user("q"), {"role": "assistant", "content": "a"}]
    with_nulls = EVERY[name].render_text([{**message, **nulls} for message in messages], [tool])
    assert with_nulls == EVERY[name].render_text(messages, [bare])


@pytest.mark.parametrize("name", EVERY)
def test_a_tool_may_be_no_more_than_a_name(name: str) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": None, "parameters": None}}]
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    assert normalize_tools(tools) == [{"type": "function", "function": function}]
    assert "None" not in EVERY[name].render_text([user("q")], tools)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("f", r"tools is of type str; expected an array"),
        (["f"], r"tools\[0\] is of type str; expected an object"),
        ([{}], r"tools\[0\]\.name is None; expected a string"),
        ([WRITE, {"type": "custom", "function": {"name": "f"}}], r"tools\[1\]\.type is 'custom'"),
        ([{"type": "function", "function": "f"}], r"tools\[0\]\.function is of type str"),
        ([{"type": "function", "function": {"name": 5}}], r"tools\[0\]\.function\.name is 5"),
        (
            [{"type": "function", "function": {"name": "f", "description": 5}}],
            r"tools\[0\]\.function\.description is 5; expected a string",
        ),
        (
            [{"type": "function", "function": {"name": "f", "parameters": []}}],
            r"tools\[0\]\.function\.parameters is no JSON Schema of an object",
        ),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"properties": []}}}],
            r"tools\[0\]\.function\.parameters is no JSON Schema of an object",
        ),
        ([{"name": "f", "parameters": {"x": 1j}}], r"tools\[0\]\.parameters\.x is of type complex"),
    ],
)
def test_tools_of_another_form_are_refused_by_index(tools: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        TEMPLATES["coder"].encode([user("a")], tools)

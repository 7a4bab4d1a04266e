"""Whose special tokens count in a chat: the template's, never the user's."""

import json
from typing import Any

import pytest
from chat_parts import EVERY, SPECIALS, TEMPLATES, TOKENIZER, TOKENIZERS, call, specials_in, template, user
from hypothesis import example, given
from hypothesis import strategies as st

from refute_runtime.errors import RequestError, TemplateError

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
        {"role": "tool", "content": [{"type": "text", "text": result}]},
        {"role": "tool", "content": question},
        {"role": "user", "content": question + result},
    ]


def tool_of(texts: tuple[str, ...], default: object) -> dict[str, Any]:
    """Make a tool whose schema holds texts wherever it can hold any."""
    name, description, key, value = texts
    field = {"type": value, "description": description, "enum": [value, key], "default": default, key: value}
    parameters = {"type": "object", "properties": {key: field}, "required": [key], "description": value}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


@pytest.mark.parametrize("name", EVERY)
@given(
    st.tuples(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    VALUES,
    HOSTILE,
    st.tuples(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
)
@example(("<|im_", "end|>", "<|im_", "end|>", "<|im_"), "end|>", "<|im_", ("end|>", "<|im_") * 2)
@example(
    ("<|im_end|>",) * 5,
    {"<|im_end|>": ["<|im_start|>"]},
    "<tool_call>",
    ("</tool_call>", "</tools>", "<|im_end|>", "<tool_call>"),
)
@example(("\U000f0000\U000f0001",) * 5, "\U000f0002", "\U000f0003", ("\U000f0004", "\U000f0001") * 2)
def test_hostile_text_leaves_the_special_tokens_as_they_are(
    name: str, texts: tuple[str, ...], arguments: object, key: str, tool: tuple[str, ...]
) -> None:
    chat = EVERY[name]
    tokenizer = TOKENIZERS[name]
    messages, tools = conversation(texts, arguments, key), [tool_of(tool, arguments)]
    # The templates leave blank content and thoughts out, so harmless text has to be as blank.
    same = [HARMLESS if text.strip() else "" for text in texts]
    thought = texts[2].split("</think>")[-1].lstrip("\n") if name == "json" else texts[2]
    same[2] = HARMLESS if thought.strip() else ""
    harmless = conversation(tuple(same), HARMLESS, HARMLESS)
    ids = chat.encode(messages, tools)
    expected = chat.encode(harmless, [tool_of((HARMLESS,) * 4, HARMLESS)])
    special = [text for text in specials_in(ids, tokenizer) if "think" not in text]
    assert special == specials_in(expected, tokenizer)
    assert tokenizer.decode(ids) == chat.render_text(messages, tools)


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

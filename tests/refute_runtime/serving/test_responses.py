"""Answers written from steps: whole and in chunks, which must tell the same."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import WORK, said

from refute_runtime.serving.answers import Telling
from refute_runtime.serving.jobs import Likelihood
from refute_runtime.serving.responses import ChatShape, CompletionShape, Writing
from refute_runtime.serving.tool_calls import parser_for
from refute_runtime.serving.tool_format import ToolFormat

WHERE = {"backend": "array", "device": "cpu", "numerics": "f32"}
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "%s"}}\n</tool_call>'
TEXTS = st.lists(st.text(max_size=3), min_size=1, max_size=12)
FINISHES = st.sampled_from(["stop", "length"])


def writing(shape=ChatShape, *, logprobs=False, tools=False, include_usage=False, extension=None):
    parser = parser_for(ToolFormat.JSON, [], lambda index: f"call_{index}") if tools else None
    return Writing(
        shape(logprobs=logprobs),
        Telling(parser),
        model="m",
        prompt_tokens=5,
        include_usage=include_usage,
        extension=extension,
    )


def streamed(steps, shape=ChatShape, **how):
    written = writing(shape, **how)
    return [chunk for step in steps for chunk in written.chunks(step)]


def choices(chunks):
    return [chunk["choices"][0] for chunk in chunks if chunk["choices"]]


def split(text):
    """Cut a text into pieces, anywhere."""
    places = st.lists(st.integers(0, len(text)), max_size=8).map(sorted)
    return places.map(lambda at: [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)])


@given(TEXTS, FINISHES, st.booleans())
def test_a_chat_streamed_equals_the_whole(texts, finish, logprobs):
    steps = said(*texts, finish=finish)
    (whole,) = writing(logprobs=logprobs).whole(steps)["choices"]
    parts = choices(streamed(steps, logprobs=logprobs))
    assert parts[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(part["delta"].get("content", "") for part in parts) == whole["message"]["content"]
    told = [item for part in parts if part["logprobs"] for item in part["logprobs"]["content"]]
    assert told == (whole["logprobs"]["content"] if logprobs else [])
    assert len(told) == (len(texts) if logprobs else 0)


@given(TEXTS, FINISHES, st.booleans())
def test_a_completion_streamed_equals_the_whole(texts, finish, logprobs):
    steps = said(*texts, finish=finish)
    (whole,) = writing(CompletionShape, logprobs=logprobs).whole(steps)["choices"]
    parts = choices(streamed(steps, CompletionShape, logprobs=logprobs))
    assert "".join(part["text"] for part in parts) == whole["text"]
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        told = [item for part in parts if part["logprobs"] for item in part["logprobs"][name]]
        assert told == (whole["logprobs"][name] if logprobs else [])


@given(st.data())
def test_calls_streamed_equal_the_whole_however_the_text_is_cut(data):
    text = f"I look.\n{CALL % 'here'}\n{CALL % 'there'}"
    steps = said(*data.draw(split(text)))
    (whole,) = writing(tools=True).whole(steps)["choices"]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] == "I look."
    calls = whole["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "look", "arguments": '{"at": "here"}'},
        {"name": "look", "arguments": '{"at": "there"}'},
    ]
    parts = choices(streamed(steps, tools=True))
    told = [call for part in parts for call in part["delta"].get("tool_calls", ())]
    assert told == [{"index": index, **call} for index, call in enumerate(calls)]
    assert "".join(part["delta"].get("content", "") for part in parts) == "I look."


@pytest.mark.parametrize("shape", [ChatShape, CompletionShape])
@given(TEXTS, FINISHES)
def test_only_the_last_choice_says_why_the_answer_ends(shape, texts, finish):
    parts = choices(streamed(said(*texts, finish=finish), shape, include_usage=True))
    assert [part["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + [finish]


def test_a_token_without_text_gives_no_event_and_keeps_its_likelihood():
    parts = choices(streamed(said("a", "", "", "b", ""), logprobs=True))
    assert [part["delta"].get("content") for part in parts] == ["", "a", "b", None]
    told = [len(part["logprobs"]["content"]) if part["logprobs"] else 0 for part in parts]
    assert told == [0, 1, 3, 1]


def test_usage_is_told_only_where_it_is_asked_for():
    steps = said("a", "b", "c")
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert writing().whole(steps)["usage"] == usage
    assert all("usage" not in chunk for chunk in streamed(steps))
    *rest, last = streamed(steps, include_usage=True)
    assert (last["usage"], last["choices"]) == (usage, [])
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in rest)


@pytest.mark.parametrize("include_usage", [False, True])
def test_what_the_engine_did_is_in_the_last_chunk(include_usage):
    steps = said("a", "b", "")
    *rest, last = streamed(steps, include_usage=include_usage, extension=WHERE)
    total = WORK + WORK + WORK
    assert last["refute"]["counters"]["experts_run"] == total.experts_run == 9
    assert {name: last["refute"][name] for name in WHERE} == WHERE
    assert all("refute" not in chunk for chunk in rest)
    assert writing(extension=WHERE).whole(steps)["refute"] == last["refute"]
    assert "refute" not in writing().whole(steps)


def test_a_limit_is_told_even_where_a_tool_was_called():
    (whole,) = writing(tools=True).whole(said(CALL % "here", "and", finish="length"))["choices"]
    assert whole["finish_reason"] == "length"


def test_a_call_alone_has_no_content():
    (whole,) = writing(tools=True).whole(said(CALL % "here"))["choices"]
    assert whole["message"]["content"] is None


def test_all_chunks_are_of_one_answer():
    chunks = streamed(said("a", "b"))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[0]["id"] != streamed(said("a", "b"))[0]["id"]


def test_bytes_of_half_a_character_are_told_as_they_are():
    first, last = said("", "é")
    steps = [
        replace(first, chosen=Likelihood(1, -1.0, b"\xc3"), likeliest=()),
        replace(last, chosen=Likelihood(2, float("-inf"), b"\xa9"), likeliest=()),
    ]
    (whole,) = writing(logprobs=True).whole(steps)["choices"]
    assert [item["bytes"] for item in whole["logprobs"]["content"]] == [[0xC3], [0xA9]]
    assert whole["logprobs"]["content"][1]["logprob"] == -9999.0
    (whole,) = writing(CompletionShape, logprobs=True).whole(steps)["choices"]
    assert whole["logprobs"]["tokens"] == ["bytes:\\xc3", "bytes:\\xa9"]
    assert whole["logprobs"]["text_offset"] == [0, 0]
    json.dumps(whole, allow_nan=False)

"""What the simulated engine's server takes and what it refuses, tools among it."""

import json
import math

import jsonschema
import pytest
from fake_asking import OF_ERRORS, TARGET, TOO_LONG, ask

from refute.targets.fake import CONTEXT
from refute.wire.client import post

LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"at": {"type": "string"}, "far": {"type": "integer", "minimum": 5}},
            "required": ["at", "far"],
            "additionalProperties": False,
        },
    },
}


@pytest.mark.parametrize("stream", [True, False])
def test_a_tool_is_called_where_the_question_names_it(stream) -> None:
    asked = {"tools": [LOOK], "max_tokens": 99, "temperature": 2, "stream": stream}
    answer = ask("Please look", **asked)
    (call,) = answer.calls
    assert (call["name"], answer.finish, answer.text, answer.role) == ("look", "tool_calls", "", "assistant")
    assert call["id"]
    jsonschema.validate(json.loads(call["arguments"]), LOOK["function"]["parameters"])
    for other in (ask("Please", **asked), ask("Please look", **asked, tool_choice="none")):
        assert other.text
        assert not other.calls


def test_a_call_comes_in_parts_and_its_name_once() -> None:
    answer = ask("look", tools=[LOOK], max_tokens=99, stream=True)
    deltas = [choice["delta"] for _, chunk in answer.chunks for choice in chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": None}
    (first,), *others = [delta["tool_calls"] for delta in deltas[1:-1]]
    assert (first["index"], first["type"]) == (0, "function")
    assert first["function"] == {"name": "look", "arguments": ""}
    assert len(others) > 10
    assert all(part.keys() == {"index", "function"} for (part,) in others)
    assert all(part["function"].keys() == {"arguments"} for (part,) in others)
    assert deltas[-1] == {}


def test_the_result_of_a_call_is_answered_and_read() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}

    def told(result, name="look"):
        called = {**call, "function": {"name": name, "arguments": "{}"}}
        messages = [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "c", "content": result},
        ]
        return ask(messages=messages, tools=[LOOK], temperature=0).text

    assert len({told("a door"), told("a wall"), told("a wall", "peek")}) == 3


def test_tools_are_part_of_the_prompt() -> None:
    assert ask("Please", tools=[LOOK]).usage["prompt_tokens"] > ask("Please").usage["prompt_tokens"]


def test_parts_of_a_content_are_its_text() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert ask(parts, temperature=0).text == ask("Hello", temperature=0).text


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"model": None}, 400, "model", "missing_field"),
        ({"model": 3}, 400, "model", "invalid_value"),
        ({"messages": None}, 400, "messages", "missing_field"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        ({"messages": "Hello"}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "messages", "invalid_value"),
        ({"temperature": 2.1}, 400, "temperature", "invalid_value"),
        ({"temperature": "1"}, 400, "temperature", "invalid_value"),
        ({"temperature": True}, 400, "temperature", "invalid_value"),
        ({"temperature": math.nan}, 400, "temperature", "invalid_value"),
        ({"top_p": 0}, 400, "top_p", "invalid_value"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        ({"max_tokens": CONTEXT}, 400, "messages", TOO_LONG),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_completion_tokens", "invalid_value"),
        ({"n": 2}, 400, "n", "invalid_value"),
        ({"stop": list("abcde")}, 400, "stop", "invalid_value"),
        ({"stop": ""}, 400, "stop", "invalid_value"),
        ({"seed": 1.5}, 400, "seed", "invalid_value"),
        ({"logit_bias": {"1": 1}}, 400, "logit_bias", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "invalid_value"),
        ({"top_logprobs": 2}, 400, "top_logprobs", "invalid_value"),
        ({"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "invalid_value"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "invalid_value"),
        ({"tool_choice": "required"}, 400, "tool_choice", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "a" * CONTEXT}]},
            400,
            "messages",
            "context_length_exceeded",
        ),
    ],
)
def test_what_it_does_not_serve_is_refused(fields, status, param, code) -> None:
    for stream in (True, False):
        answer = ask(**fields, stream=stream)
        assert (answer.reply.status, answer.reply.content_type) == (status, "application/json")
        assert answer.error.keys() == OF_ERRORS
        assert (answer.error["param"], answer.error["code"]) == (param, code)
        assert answer.error["message"].startswith(param) or code in {"model_not_found", TOO_LONG}


def test_usage_is_no_option_of_whole_answers() -> None:
    assert ask(stream_options={"include_usage": True}).error["param"] == "stream_options"


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "properties": {"a": {"type": "strong"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "^[0-9]$"}}},
        {"type": "array"},
    ],
)
def test_a_schema_that_is_none_or_too_much_is_refused(parameters) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": parameters}}
    assert ask("look", tools=[tool]).error["param"] == "tools"
    assert ask("Hello", tools=[tool]).text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"[" * 9999])
def test_a_body_that_is_no_json_object_is_refused(body) -> None:
    reply = post(TARGET.endpoint, "/chat/completions", body)
    assert (reply.status, json.loads(reply.body)["error"].keys()) == (400, OF_ERRORS)


def test_a_body_may_be_too_large() -> None:
    reply = post(TARGET.endpoint, "/chat/completions", b" " * (2**20 + 1))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (413, "body_too_large")

"""Bodies of requests: what is read from them, and which field is named where one is refused."""

import json

import pytest
from live_server import MODEL, chat, completion

from refute_runtime.sampling import SamplingParams
from refute_runtime.serving.fields import chat_body, completion_body
from refute_runtime.serving.refusals import Refusal
from refute_runtime.serving.requests import read_chat, read_completion


def read(body, reader=read_chat):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    schema = chat_body(MODEL) if reader is read_chat else completion_body(MODEL)
    return reader(raw, schema, MODEL)


def refusal(body, reader=read_chat):
    with pytest.raises(Refusal) as refused:
        read(body, reader)
    return refused.value


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def message(**fields):
    return chat(messages=[{"role": "user", "content": "a", **fields}])


def tool(**fields):
    return chat(tools=[{"type": "function", "function": {"name": "f", **fields}}])


BOTH = [
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"min_p": 2}, "min_p"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": "1"}, "seed"),
    ({"stop": ""}, "stop"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ["a", 1]}, "stop"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 10**400}, "repetition_penalty"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream": True, "stream_options": {"else": 1}}, "stream_options.else"),
    ({"refute_counters": 1}, "refute_counters"),
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"user": 1}, "user"),
    ({"ignore_eos": True}, "ignore_eos"),
    ({"model": None}, "model"),
    ({"model": 1}, "model"),
    ({"": 1}, ""),
]
CHAT = [
    (chat(max_tokens=1, max_completion_tokens=2), "max_completion_tokens"),
    (chat(max_completion_tokens=0), "max_completion_tokens"),
    (chat(logprobs=1), "logprobs"),
    (chat(top_logprobs=1), "top_logprobs"),
    (chat(logprobs=False, top_logprobs=1), "top_logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(tool_choice="required"), "tool_choice"),
    (chat(tool_choice={"type": "function", "function": {"name": "f"}}), "tool_choice"),
    (chat(parallel_tool_calls=False), "parallel_tool_calls"),
    (chat(response_format={"type": "json_object"}), "response_format.type"),
    (chat(modalities=["text", "audio"]), "modalities"),
    (chat(modalities=["text", "text"]), "modalities"),
    (chat(modalities=["audio"]), "modalities[0]"),
    (chat(audio={"voice": "x"}), "audio"),
    (chat(functions=[]), "functions"),
    (chat(function_call="auto"), "function_call"),
    (chat(store=True), "store"),
    (chat(metadata={"a": 1}), "metadata.a"),
    (chat(best_of=1), "best_of"),
    (chat(prompt="a"), "prompt"),
    (chat(messages=[]), "messages"),
    (chat(messages="a"), "messages"),
    (chat(messages=["a"]), "messages[0]"),
    (chat(messages=[{"role": "user", "content": "a"}, {"content": "a"}]), "messages[1].role"),
    ({"model": MODEL}, "messages"),
    ({"messages": []}, "model"),
    (message(role="function"), "messages[0].role"),
    (message(role="developer", content=None), "messages[0].content"),
    (message(content=None), "messages[0].content"),
    (message(content=1), "messages[0].content"),
    (message(content=[{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content"),
    (message(content=[{"type": "text"}]), "messages[0].content"),
    (message(name=1), "messages[0].name"),
    (message(extra=1), "messages[0].extra"),
    (message(tool_calls=[CALL]), "messages[0].tool_calls"),
    (message(tool_call_id="c"), "messages[0].tool_call_id"),
    (message(role="tool"), "messages[0].tool_call_id"),
    (message(role="assistant", audio={}), "messages[0].audio"),
    (message(role="assistant", tool_calls=[{**CALL, "type": "x"}]), "messages[0].tool_calls[0].type"),
    (
        message(role="assistant", tool_calls=[{**CALL, "function": {"name": "f", "arguments": {}}}]),
        "messages[0].tool_calls[0].function.arguments",
    ),
    (chat(tools=[{"type": "web_search"}]), "tools[0].function"),
    (chat(tools=[{**TOOL, "type": "web_search"}]), "tools[0].type"),
    (chat(tools=[TOOL] * 129), "tools"),
    (tool(name=""), "tools[0].function.name"),
    (tool(name="a b"), "tools[0].function.name"),
    (tool(name="a\n"), "tools[0].function.name"),
    (tool(parameters=[]), "tools[0].function.parameters"),
    (tool(strict=True), "tools[0].function.strict"),
]
COMPLETION = [
    ({"model": MODEL}, "prompt"),
    (completion(prompt=None), "prompt"),
    (completion(prompt=""), "prompt"),
    (completion(prompt=[]), "prompt"),
    (completion(prompt=["a", "b"]), "prompt"),
    (completion(prompt=[[1, 2]]), "prompt"),
    (completion(prompt=[1, "a"]), "prompt"),
    (completion(prompt=[-1]), "prompt"),
    (completion(prompt=[True]), "prompt"),
    (completion(logprobs=True), "logprobs"),
    (completion(logprobs=6), "logprobs"),
    (completion(best_of=2), "best_of"),
    (completion(echo=True), "echo"),
    (completion(suffix="a"), "suffix"),
    (completion(max_completion_tokens=1), "max_completion_tokens"),
    (completion(tools=[]), "tools"),
    (completion(messages=[]), "messages"),
]


@pytest.mark.parametrize(
    ("reader", "body", "param"),
    [
        *((read_chat, chat(**fields), param) for fields, param in BOTH),
        *((read_completion, completion(**fields), param) for fields, param in BOTH),
        *((read_chat, body, param) for body, param in CHAT),
        *((read_completion, body, param) for body, param in COMPLETION),
    ],
)
def test_what_is_not_supported_is_refused_by_name(reader, body, param):
    refused = refusal(body, reader)
    assert (refused.status, refused.param) == (400, param)
    assert len(refused.message) < 400


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1",
        b"\xff",
        '{"model": "pocket"}'.encode("utf-16"),
        b'{"model": NaN}',
        b'{"model": -Infinity}',
        b'{"temperature": 1e999}',
        b'{"model": "\\ud800"}',
        b'{"model": "pocket", "model": "pocket"}',
        b"[" * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_json_is_refused(raw):
    refused = refusal(raw)
    assert (refused.status, refused.param) == (400, None)
    assert len(refused.message) < 400


@pytest.mark.parametrize("depth", range(100, 1000, 100))
def test_what_is_nested_deeply_is_refused_at_any_depth(depth):
    raw = b'{"model": "pocket", "messages": ' + b"[" * depth + b"]" * depth + b"}"
    assert refusal(raw).status == 400


@pytest.mark.parametrize("body", [[], "a", 1, None, True])
def test_a_body_is_an_object(body):
    assert refusal(body).message.startswith("the body is ")


def test_a_refusal_says_what_was_found_and_what_was_expected():
    assert (
        refusal(chat(top_p=3)).message == "top_p is 3, expected a number above 0 and at most 1; by default 1"
    )
    assert refusal(chat(mirostat=2)).message == "mirostat is not supported; leave it out"


def test_another_model_is_not_found():
    refused = refusal(chat(model="gpt-5"))
    assert (refused.status, refused.param, refused.code) == (404, "model", "model_not_found")


def test_what_is_not_said_is_as_in_openais_api():
    for request in (read(chat()), read(completion(), read_completion)):
        assert request.options.sampling == SamplingParams(temperature=1.0)
        assert request.options.sampling.seed is None
        assert request.options.max_tokens is None
        assert request.options.top_logprobs is None
        assert request.options.stop == ()
        assert not request.options.stream


def test_what_is_null_is_not_said():
    names = set(chat_body(MODEL)["properties"]) - {"model", "messages"}
    assert read(chat(**dict.fromkeys(names))) == read(chat())


def test_what_changes_nothing_is_taken():
    neutral = {
        "n": 1,
        "logit_bias": {},
        "user": "u",
        "parallel_tool_calls": True,
        "response_format": {"type": "text"},
        "modalities": ["text"],
        "metadata": {"a": "b"},
        "store": False,
        "tools": [],
        "tool_choice": "auto",
    }
    assert read(chat(**neutral)) == read(chat())
    older = {"n": 1, "best_of": 1, "echo": False, "suffix": None, "logit_bias": {}, "user": "u"}
    assert read(completion(**older), read_completion) == read(completion(), read_completion)


def test_every_setting_is_read():
    options = read(
        chat(
            temperature=0.5,
            top_p=0.9,
            top_k=5.0,
            min_p=0.1,
            seed=7,
            repetition_penalty=1.1,
            presence_penalty=-1,
            frequency_penalty=2,
            stop="x",
            max_tokens=3,
            max_completion_tokens=3,
            logprobs=True,
            top_logprobs=2,
            stream=True,
            stream_options={"include_usage": True},
            refute_counters=True,
        )
    ).options
    assert options.sampling == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        seed=7,
        repetition_penalty=1.1,
        presence_penalty=-1,
        frequency_penalty=2,
    )
    assert (options.stop, options.max_tokens, options.top_logprobs) == (("x",), 3, 2)
    assert (options.stream, options.include_usage, options.counters) == (True, True, True)


def test_seeds_stay_apart():
    seeds = [-(2**63), -1, 0, 1, 2**63 - 1]
    assert len({read(chat(seed=seed)).options.sampling.seed for seed in seeds}) == len(seeds)


@pytest.mark.parametrize(
    ("prompt", "read_as"), [("a", "a"), (["a"], "a"), ([1, 2.0], (1, 2)), ([10**30], (10**30,))]
)
def test_a_prompt_is_text_or_token_ids(prompt, read_as):
    assert read(completion(prompt=prompt), read_completion).prompt == read_as


def test_tools_are_left_out_where_none_may_be_called():
    assert read(chat(tools=[TOOL])).tools == (TOOL,)
    assert read(chat(tools=[TOOL], tool_choice="none")).tools == ()

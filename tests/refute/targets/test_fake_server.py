"""The simulated engine's server on real sockets: it keeps every promise, and says no where it makes none."""

import gc
import http.client
import json
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.faults.base import Fault
from refute.targets import fake_server
from refute.targets.base import CAPABILITIES, CannotPlant, TargetError
from refute.targets.fake import CONTEXT, LAYERS, FakeTarget
from refute.targets.fake_answers import Writing
from refute.targets.fake_model import EXPERTS_PER_TOKEN
from refute.targets.fake_server import FakeServer
from refute.wire.answers import DONE, Answer
from refute.wire.client import get, post

PATIENCE = 30  # seconds until a test gives up; no measure of anything
TARGET = FakeTarget()
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
# What the specification of OpenAI's API requires of each object.
OF_ANSWERS = {"id", "object", "created", "model", "choices"}
OF_LIKELIHOODS = {"token", "logprob", "bytes", "top_logprobs"}
OF_USAGE = {"prompt_tokens", "completion_tokens", "total_tokens"}
OF_ERRORS = {"message", "type", "param", "code"}
TOO_LONG = "context_length_exceeded"
LONG = "Repeat: " + "a river of light " * 200


def ask(content="Hello", *, target=TARGET, endpoint=None, **fields):
    """The answer to one chat."""
    body = {"model": "fake", "messages": [{"role": "user", "content": content}], "max_tokens": 16, **fields}
    return Answer.of_reply(post(endpoint or target.endpoint, "/chat/completions", body))


def complete(prompt, **fields):
    body = {"model": "fake", "prompt": prompt, **fields}
    return Answer.of_reply(post(TARGET.endpoint, "/completions", body))


def only(answer):
    """The JSON of a whole answer."""
    ((_, value),) = answer.chunks
    return value


requests = st.fixed_dictionaries(
    {
        "content": st.sampled_from(["Hello", "é", "Repeat: a river 🙂🙂 of light"]),
        "temperature": st.sampled_from([0, 1, 2]),
        "seed": st.integers(-3, 3),
        "max_tokens": st.integers(1, 24),
        "stop": st.lists(
            st.sampled_from([" ", "a", "🙂", " river", "of light", "中", "r 🙂🙂 o"]), max_size=4
        ),
        "logprobs": st.booleans(),
    }
)


@settings(max_examples=40)
@given(requests)
def test_a_stream_says_what_the_whole_answer_says(asked) -> None:
    whole = ask(**asked)
    streamed = ask(**asked, stream=True, stream_options={"include_usage": True})
    assert whole.served
    assert (streamed.text, streamed.finish, streamed.usage, streamed.logprobs) == (
        whole.text,
        whole.finish,
        whole.usage,
        whole.logprobs,
    )
    assert not any(stop in whole.text for stop in asked["stop"])


@settings(max_examples=40)
@given(requests, st.booleans())
def test_a_stream_has_the_form_of_one(asked, usage) -> None:
    answer = ask(**asked, stream=True, **({"stream_options": {"include_usage": True}} if usage else {}))
    assert (answer.reply.status, answer.reply.content_type) == (200, "text/event-stream")
    assert answer.reply.events[-1].data == DONE
    chunks = [chunk for _, chunk in answer.chunks]
    assert len(chunks) == len(answer.reply.events) - 1
    assert all(chunk.keys() >= OF_ANSWERS and "refute" not in chunk for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    if usage:
        assert (chunks[-1]["choices"], chunks[-1]["usage"].keys()) == ([], OF_USAGE)
        assert all(chunk["usage"] is None for chunk in chunks[:-1])
        chunks = chunks[:-1]
    else:
        assert not any("usage" in chunk for chunk in chunks)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks)
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert all(choice["delta"].keys() == {"content"} for choice in choices[1:-1])
    assert choices[-1]["delta"] == {}
    *before, last = [choice["finish_reason"] for choice in choices]
    assert set(before) == {None}
    assert last in {"stop", "length"}


def test_every_token_that_completes_text_is_an_event() -> None:
    answer = ask("Repeat: é, a river 🙂", temperature=0, stream=True, logprobs=True, max_tokens=99)
    assert answer.texts == tuple("é, a river 🙂")
    raw = [bytes(token["bytes"]) for token in answer.logprobs]
    assert raw == [bytes([byte]) for byte in "é, a river 🙂".encode()] + [b""]


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_text_ends_the_answer_before_it_wherever_tokens_are_cut(stream) -> None:
    asked = {"content": "Repeat: a river 🙂🙂 of light", "temperature": 0, "max_tokens": 99, "stream": stream}
    usual = ask(**asked)
    assert (usual.text, usual.finish) == ("a river 🙂🙂 of light", "stop")
    assert ask(**asked, stop="r 🙂🙂 o").text == "a rive"
    assert ask(**asked, stop=["light", "🙂 "]).text == "a river 🙂"
    assert ask(**asked, stop=["🙂🙂🙂", "lights"]).text == usual.text  # begun, but not come
    assert ask(**asked, stop="a").text == ""
    cut = ask(**{**asked, "max_tokens": 3}, stop="rx")
    assert (cut.text, cut.finish) == ("a r", "length")  # what was held is told at the end


def test_a_character_that_is_not_whole_at_the_end_is_marked() -> None:
    answer = ask("Repeat: 🙂🙂", temperature=0, max_tokens=5)
    assert answer.text == "🙂\ufffd"


def test_seeds() -> None:
    def texts(*seeds, temperature=1):
        return {ask(max_tokens=16, temperature=temperature, seed=seed).text for seed in seeds}

    assert len(texts(1, 1, 1)) == len(texts(-1, -1)) == 1
    assert len(texts(*range(-5, 5))) == 10
    assert len(texts(*[None] * 10)) == 10
    assert len(texts(None, None, 1, 2, temperature=0)) == 1


def test_answers_without_a_seed_follow_from_the_target() -> None:
    def texts(seed):
        target = FakeTarget(seed)
        return [ask(target=target).text for _ in range(3)]

    assert texts(1) == texts(1) != texts(2)


def test_what_was_likely() -> None:
    for temperature in (0, 1):
        answer = ask(temperature=temperature, logprobs=True, top_logprobs=20)
        raw = b"".join(bytes(token["bytes"]) for token in answer.logprobs)
        assert raw.decode("utf-8", "replace") == answer.text
        assert len(answer.logprobs) == answer.completion_tokens
        for token in answer.logprobs:
            top = token["top_logprobs"]
            assert token.keys() == OF_LIKELIHOODS
            assert all(each.keys() == OF_LIKELIHOODS - {"top_logprobs"} for each in top)
            assert [each["logprob"] for each in top] == sorted((e["logprob"] for e in top), reverse=True)
            assert len(top) == 20
            assert 0.9 < sum(math.exp(each["logprob"]) for each in top) <= 1 + 1e-9
            if temperature == 0:
                assert (token["token"], token["logprob"]) == (top[0]["token"], top[0]["logprob"])
    assert all(not token["top_logprobs"] for token in ask(logprobs=True).logprobs)


def test_the_older_route() -> None:
    asked = {"prompt": "Repeat: é🙂 river", "temperature": 0, "max_tokens": 9, "logprobs": 2}
    value = only(complete(**asked))
    (choice,) = value["choices"]
    assert value.keys() >= OF_ANSWERS
    assert value["object"] == "text_completion"
    assert (choice["text"], choice["finish_reason"]) == ("é🙂 ri", "length")
    told = choice["logprobs"]
    assert told["tokens"][:6] == [f"bytes:\\x{byte:02x}" for byte in "é🙂".encode()]
    assert told["text_offset"] == [0, 0, 1, 1, 1, 1, 2, 3, 4]
    named = zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True)
    assert all(top[token] == logprob == max(top.values()) and len(top) == 2 for token, logprob, top in named)
    streamed = complete(**asked, stream=True)
    assert streamed.text == choice["text"]
    pieces = [chunk["choices"][0] for _, chunk in streamed.chunks]
    assert [piece["finish_reason"] for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]
    for name, values in told.items():
        assert [each for piece in pieces if piece["logprobs"] for each in piece["logprobs"][name]] == values
    assert complete("x").completion_tokens <= 16  # as the API has it where nothing is said
    ids = list(b"Hello")
    assert complete(ids, temperature=0).text == complete("Hello", temperature=0).text


def test_usage_counts_tokens() -> None:
    content = "Grüße"
    usage = ask(content, max_tokens=5, temperature=0).usage
    prompt = len(TARGET.encode_chat([{"role": "user", "content": content}]))
    assert usage == {"prompt_tokens": prompt, "completion_tokens": 5, "total_tokens": prompt + 5}


def test_an_answer_ends_by_itself_or_at_its_most_tokens() -> None:
    answers = [ask(max_tokens=40, seed=seed) for seed in range(30)]
    assert {answer.finish for answer in answers} == {"stop", "length"}
    for answer in answers:
        assert (answer.finish == "length") <= (answer.completion_tokens == 40)
        assert answer.text
    assert ask("Repeat: " + "a" * 30, max_tokens=None, max_completion_tokens=7).completion_tokens == 7
    assert ask("Repeat: " + "a" * 30, max_tokens=None, temperature=0).completion_tokens == 31


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


@contextmanager
def connected(target=TARGET):
    """A connection that stays open between requests."""
    port = int(target.endpoint.base.rpartition(":")[2].removesuffix("/v1"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def test_routes() -> None:
    with connected() as connection:

        def told(method, path):
            connection.request(method, path)
            with connection.getresponse() as response:
                return response.status, response.getheader("allow"), response.read()

        status, _, models = told("GET", "/v1/models")
        (model,) = json.loads(models)["data"]
        assert (status, model.keys() >= {"id", "object", "created", "owned_by"}) == (200, True)
        assert model["id"] == TARGET.endpoint.model
        assert model["max_model_len"] == TARGET.identity.context
        assert json.loads(told("GET", "/v1/models/fake?x=1")[2]) == model
        for method, path in (("GET", "/v1/models/other"), ("GET", "/v1/other"), ("POST", "/")):
            assert told(method, path)[0] == 404
        assert told("GET", "/health")[::2] == (200, b'{"status": "ok", "running": 0}')
        assert told("GET", "/v1/completions")[:2] == (405, "POST")
        assert told("POST", "/v1/models")[:2] == (405, "GET")
        assert told("HEAD", "/health") == (405, "GET", b"")
        assert told("GET", "/health")[0] == 200  # on the same connection still


@pytest.mark.parametrize("raw", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 70_000])
def test_what_is_no_http_is_told_so_and_nothing_else_happens(raw, capfd) -> None:
    with connected() as connection:
        connection.connect()
        connection.sock.sendall(raw)
        answer = b"".join(iter(lambda: connection.sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert get(TARGET.endpoint, "/models").status == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_may_wait_to_be_told_to_send_its_body() -> None:
    body = json.dumps({"model": "fake", "prompt": "Repeat: a", "temperature": 0}).encode()
    with connected() as connection:
        connection.connect()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        connection.sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.sock.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sock.sendall(body)
        assert connection.sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def did(answer):
    return only(answer)["refute"]["counters"]


def test_what_the_engine_did_is_told_on_request() -> None:
    answer = ask(refute_counters=True, max_tokens=6, temperature=0)
    assert "refute" not in only(ask())
    prompt, layers = answer.usage["prompt_tokens"], LAYERS
    assert did(answer) == {
        "forwards": 6,
        "moe_layers": 6 * layers,
        "dense_layers": 0,
        "experts_run": (prompt + 5) * layers * EXPERTS_PER_TOKEN,
        "cache_positions_read": sum(range(prompt, prompt + 5)) * layers,
        "guards_fired": 0,
    }
    streamed = ask(refute_counters=True, max_tokens=6, temperature=0, stream=True)
    told = [chunk["refute"] for _, chunk in streamed.chunks if "refute" in chunk]
    assert told == [only(answer)["refute"]]
    assert "refute" in streamed.chunks[-1][1]


def test_dense_dispatch_reaches_the_server() -> None:
    with TARGET.plant(Fault("dense-dispatch", 1)) as faulty:
        counters = did(ask(target=faulty, refute_counters=True, max_tokens=3, temperature=0))
        assert (counters["moe_layers"], counters["dense_layers"]) == (3 * (LAYERS - 1), 3)
        assert faulty.endpoint.base != TARGET.endpoint.base
    dense = did(ask(target=FakeTarget(dense=True), refute_counters=True, max_tokens=3))
    assert (dense["moe_layers"], dense["experts_run"]) == (0, 0)
    assert dense["dense_layers"] == dense["forwards"] * LAYERS


def test_a_fault_that_cannot_reach_the_server_is_not_served() -> None:
    with TARGET.plant(Fault("empty-cache", 1)) as faulty, pytest.raises(TargetError, match="does not reach"):
        _ = faulty.endpoint


def test_what_is_promised() -> None:
    http_only = {name for name in CAPABILITIES if name.startswith("http")}
    dialect = TARGET.endpoint.dialect
    assert (dialect.name, dialect.capabilities, dialect.fresh) == ("fake", http_only, {})
    few = FakeTarget(capabilities=frozenset({"http", "plant"})).endpoint.dialect
    assert (few.capabilities, few.counters) == ({"http"}, None)
    none = FakeTarget(capabilities=CAPABILITIES - http_only)
    with pytest.raises(TargetError, match="no server"):
        _ = none.endpoint
    with pytest.raises(CannotPlant), none.plant(Fault("wire-done-dropped", 1)):
        pass


class Gate:
    """Instead of the time that a token takes: each waits until it is let through."""

    def __init__(self) -> None:
        self.begun = 0
        self._passes = threading.Semaphore(0)
        self._open = False

    def __call__(self) -> None:
        self.begun += 1
        assert self._open or self._passes.acquire(timeout=PATIENCE)

    def let(self, count):
        self._passes.release(count)

    def open(self):
        self._open = True
        self.let(99)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def gated(gate):
    """A server of which each token waits at the gate."""
    server = FakeServer(rest=gate)
    yield server
    gate.open()
    server.close()
    assert not server._accepting.is_alive()
    assert not server._connections


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


def started(server, stream):
    """A connection on which a long answer has been asked for."""
    connection = socket.create_connection(server._address, PATIENCE)
    messages = [{"role": "user", "content": LONG}]
    body = json.dumps({"model": "fake", "messages": messages, "temperature": 0, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    wait_until(lambda: server.running == 1)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_answer_at_once(gated, gate, stream) -> None:
    with started(gated, stream):
        gate.let(3)
        wait_until(lambda: gate.begun == 4)
    gate.open()
    wait_until(lambda: gated.running == 0)
    assert gate.begun == 4  # it had begun before


def test_closing_the_server_breaks_answers_off(gated, gate) -> None:
    with started(gated, stream=True) as connection:
        gate.open()
        gated.close()
        told = b"".join(iter(lambda: connection.recv(65536), b""))
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"[DONE]" not in told
    assert gated.running == 0
    gated.close()  # again is no error


def test_32_streams_at_once_say_what_each_says_alone(gated, gate) -> None:
    endpoint = replace(TARGET.endpoint, base=gated.base)
    asked = [{"content": f"Hello {number}", "seed": number, "stream": True} for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        together = [pool.submit(ask, endpoint=endpoint, **each) for each in asked]
        wait_until(lambda: gated.running == 32)
        gate.open()
        answers = [each.result(PATIENCE) for each in together]
    assert [answer.text for answer in answers] == [ask(**each).text for each in asked]
    assert all(answer.done for answer in answers)


def test_a_server_starts_once_and_ends_with_its_target() -> None:
    before = set(threading.enumerate())
    target = FakeTarget()
    assert set(threading.enumerate()) == before  # none yet
    endpoint = target.endpoint
    assert target.endpoint is endpoint
    assert get(endpoint, "/models").status == 200
    del target
    gc.collect()
    assert set(threading.enumerate()) <= before
    with pytest.raises(TargetError, match="cannot reach"):
        get(endpoint, "/models")


def test_a_bug_is_told_as_one(monkeypatch, capfd) -> None:
    monkeypatch.setattr(fake_server, "_READS", {"/v1/chat/completions": lambda _: 1 / 0})
    reply = ask().reply
    assert (reply.status, json.loads(reply.body)["error"].keys()) == (500, OF_ERRORS)
    monkeypatch.undo()
    monkeypatch.setattr(Writing, "chunks", lambda *_: 1 / 0)
    assert ask(stream=True).reply.broken
    assert capfd.readouterr() == ("", "")

"""The form of answers and their usage, on hand-made replies: each departure alone refutes."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from wire_replies import DONE, reply, stream

from refute.kinds.base import Observation
from refute.kinds.wire_conformance import AnswerForm, AnswerUsage
from refute.kinds.wire_requests import Asked, Repeated
from refute.wire.forms import CHUNK, COMPLETION, ERROR, misfit

Json = dict[str, Any]
FORM = AnswerForm(Asked(max_tokens=8, pieces=2))
USAGE = AnswerUsage(Repeated(max_tokens=4))
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m"}


def numbers(completion: int = 4, total: int | None = None) -> Json:
    whole = 10 + completion if total is None else total
    return {"prompt_tokens": 10, "completion_tokens": completion, "total_tokens": whole}


def chunk(delta: Json, finish: str | None = None, **more: Any) -> Json:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}


def told(usage: Json) -> Json:
    return {**chunk({}), "choices": [], "usage": usage}


def complete(finish: str = "length", usage: Json | None = None) -> Json:
    message = {"role": "assistant", "content": "abcd"}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": usage or numbers()}


def events(finish: str = "length") -> list[Json]:
    return [chunk({"role": "assistant", "content": ""}), chunk({"content": "abcd"}), chunk({}, finish)]


def form(whole: Any = None, streamed: Any = None, *, logprobs: bool = False) -> str | None:
    samples = {
        "whole": reply(json.dumps(complete())) if whole is None else whole,
        "streamed": stream(*events(), DONE) if streamed is None else streamed,
    }
    return FORM.wrong(Observation({"logprobs": logprobs}, samples))


def test_answers_of_the_right_form_do_not_refute() -> None:
    assert form() is None


@pytest.mark.parametrize("key", ["id", "object", "created", "model", "choices"])
def test_a_missing_key_refutes(key: str) -> None:
    whole, chunks = complete(), events()
    del whole[key], chunks[1][key]
    assert f"'{key}' is a required property" in (form(whole=reply(json.dumps(whole))) or "")
    assert f"'{key}' is a required property" in (form(streamed=stream(*chunks, DONE)) or "")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda chunks: chunks[2]["choices"][0].update(finish_reason=None), "finish_reason"),
        (lambda chunks: chunks[1]["choices"][0].update(finish_reason="stop"), "finish_reason"),
        (lambda chunks: chunks[1]["choices"][0].pop("finish_reason"), "finish_reason"),
        (lambda chunks: chunks[0]["choices"][0]["delta"].pop("role"), "role"),
        (lambda chunks: chunks[1].update(choices=[]), "neither a choice nor usage"),
        (lambda chunks: chunks[1]["choices"][0].update(index=1), "another index than 0"),
        (lambda chunks: chunks[1]["choices"][0]["delta"].update(refusal=7), "refusal"),
        (lambda chunks: chunks[1].update(created=float("nan")), "no JSON object"),
        (lambda chunks: chunks[1].update(id="chatcmpl-2"), "id changes"),
        (lambda chunks: chunks[1].update(model="other"), "model changes"),
        (lambda chunks: chunks[1]["choices"][0]["delta"].update(content=7), "content"),
        (lambda chunks: chunks.append("no JSON"), "no JSON object"),
    ],
)
def test_a_stream_with_one_departure_refutes(change: Callable[[list[Json]], object], why: str) -> None:
    chunks = copy.deepcopy(events())
    change(chunks)
    assert why in (form(streamed=stream(*chunks, DONE)) or "")


def test_a_stream_without_an_end_or_none_at_all_refutes() -> None:
    assert "[DONE]" in (form(streamed=stream(*events())) or "")
    assert "text/event-stream" in (form(streamed=reply(json.dumps(complete()))) or "")
    assert "broke" in (form(streamed=stream(*events(), broken="the connection broke")) or "")


def test_a_whole_answer_without_an_end_a_role_or_service_refutes() -> None:
    unfinished, nobody = complete(), complete()
    unfinished["choices"][0]["finish_reason"] = None
    del nobody["choices"][0]["message"]["role"]
    assert "finish_reason" in (form(whole=reply(json.dumps(unfinished))) or "")
    assert "'role' is a required property" in (form(whole=reply(json.dumps(nobody))) or "")
    assert "status 500" in (form(whole=reply("{}", 500)) or "")


def test_log_probabilities_that_were_asked_for_must_come() -> None:
    assert "none came" in (form(logprobs=True) or "")


def usage(**replies: Any) -> Observation:
    samples = {
        "whole": reply(json.dumps(complete())),
        "streamed": stream(*events(), told(numbers()), DONE),
        "unasked": stream(*events(), DONE),
    }
    return Observation({"max_tokens": 4}, {**samples, **replies})


def whole_with(usage: Json, finish: str = "length") -> Json:
    return reply(json.dumps(complete(finish, usage)))


def test_usage_that_adds_up_does_not_refute() -> None:
    assert USAGE.wrong(usage()) is None
    assert USAGE.informative(usage())


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"streamed": stream(*events(), DONE)}, "no usage, which was asked for"),
        ({"streamed": stream(*events(), chunk({}, usage=numbers()), DONE)}, "its choices []"),
        ({"streamed": stream(told(numbers()), *events(), DONE)}, "expected in a last one"),
        ({"unasked": stream(*events(), told(numbers()), DONE)}, "not asked for"),
        ({"unasked": reply("{}", 500)}, "status 500"),
        ({"whole": whole_with(numbers(4, 15))}, "are not 15"),
        ({"whole": whole_with(numbers(5))}, "more than max_tokens"),
        ({"whole": whole_with(numbers(1))}, "finish_reason 'length' at 1 tokens"),
        ({"whole": whole_with({"prompt_tokens": 10})}, "required property"),
        ({"whole": whole_with({**numbers(), "prompt_tokens": 9, "total_tokens": 13})}, "as a whole"),
    ],
)
def test_usage_that_cannot_be_right_refutes(replies: Json, why: str) -> None:
    assert why in (USAGE.wrong(usage(**replies)) or "")


def test_null_usage_is_none() -> None:
    chunks = [{**each, "usage": None} for each in events()]
    assert USAGE.wrong(usage(streamed=stream(*chunks, told(numbers()), DONE))) is None


def test_a_case_counts_only_where_the_length_ended_the_answer() -> None:
    assert not USAGE.informative(usage(whole=whole_with(numbers(3), "stop")))


def test_forms_name_where_a_value_departs() -> None:
    assert misfit(complete(), COMPLETION) is None
    assert misfit(events()[0], CHUNK) is None
    assert "$.error" in (misfit({"error": {"message": "no"}}, ERROR) or "")
    assert "$.error.code" in (
        misfit({"error": {"message": "no", "type": "t", "param": None, "code": 400}}, ERROR) or ""
    )

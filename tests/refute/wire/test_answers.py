"""An answer as a client would put it together, from streams and whole answers, good and bad."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.wire.answers import Answer
from refute.wire.endpoint import Event, Reply


def reply(status=200, events=(), body="", broken=None):
    kind = "text/event-stream" if events else "application/json"
    datas = [each if isinstance(each, str) else json.dumps(each) for each in events]
    return Reply(
        status, kind, {}, tuple(Event(10 * i, data) for i, data in enumerate(datas, 1)), body, 1, 999, broken
    )


def delta(finish=None, logprobs=None, **said):
    return {"choices": [{"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": finish}]}


def answer(*events, **how):
    return Answer.of(reply(events=events, **how).to_samples())


def whole(value, **how):
    return Answer.of(reply(body=json.dumps(value), **how).to_samples())


def test_a_stream():
    usage = {"completion_tokens": 3}
    got = answer(
        delta(role="assistant", content=""),
        delta(content="a", logprobs={"content": [{"token": "a"}]}),
        delta(content="b"),
        delta("stop"),
        {"choices": [], "usage": usage},
        "[DONE]",
    )

    assert (got.role, got.text, got.texts, got.text_ns) == ("assistant", "ab", ("a", "b"), (20, 30))
    assert (got.finish, got.usage, got.completion_tokens, got.done) == ("stop", usage, 3, True)
    assert (got.logprobs, got.streamed, got.served) == (({"token": "a"},), True, True)


def test_a_whole_answer():
    message = {"role": "assistant", "content": "ab"}
    got = whole(
        {"choices": [{"message": message, "finish_reason": "length"}], "usage": {"completion_tokens": 2}}
    )

    assert (got.role, got.text, got.finish, got.completion_tokens) == ("assistant", "ab", "length", 2)
    assert (got.streamed, got.done, got.served) == (False, False, True)


def test_the_older_route():
    assert whole({"choices": [{"text": "ab", "finish_reason": "stop"}]}).text == "ab"


def test_calls_are_put_together():
    parts = [
        {"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "id": "2", "function": {"name": "g", "arguments": "{}"}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    streamed = answer(*(delta(tool_calls=[part]) for part in parts))
    calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}, parts[1]]
    at_once = whole({"choices": [{"message": {"tool_calls": [calls[0], {**calls[1], "index": 1}]}}]})

    assert [dict(call) for call in streamed.calls] == [
        {"id": "1", "name": "f", "arguments": "{}"},
        {"id": "2", "name": "g", "arguments": "{}"},
    ]
    assert at_once.calls == streamed.calls


@pytest.mark.parametrize("events", [["[DONE]", delta()], [delta()], ["[DONE]", "[DONE]"]])
def test_done_comes_once_and_last(events):
    assert not answer(*events).done


@pytest.mark.parametrize(
    "got",
    [
        whole({"error": {"message": "no"}}, status=500),
        whole({"error": {"message": "no"}}),
        whole([]),
        answer(delta(content="a"), broken="the connection broke"),
        answer(delta(content="a"), {"error": {"message": "no"}}),
        Answer.of(reply(body="no JSON").to_samples()),
    ],
)
def test_what_was_not_served_to_its_end(got):
    assert not got.served


KEYS = [
    "choices",
    "delta",
    "message",
    "text",
    "content",
    "role",
    "usage",
    "error",
    "tool_calls",
    "index",
    "logprobs",
    "finish_reason",
    "function",
    "arguments",
    "completion_tokens",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.lists(JSON, max_size=3))
def test_any_json_can_be_read(body, events):
    for got in (whole(body), answer(*map(json.dumps, events)) if events else whole({"choices": body})):
        assert isinstance(got.text, str)
        assert len(got.texts) == len(got.text_ns)


@pytest.mark.parametrize("body", ["NaN", '{"created": Infinity}', "[" * 100_000])
def test_what_is_no_json_is_no_chunk(body):
    assert Answer.of(reply(body=body).to_samples()).chunks == ()


@pytest.mark.parametrize("index", [[], {}, None, "0"])
def test_parts_of_calls_without_a_number_are_counted(index):
    parts = [{"index": index, "id": "a"}, {"index": index, "id": "b"}]
    assert [call["id"] for call in answer(delta(tool_calls=parts)).calls] == ["a", "b"]

"""Every fault of the wire changes what it says, and leaves the rest as it came, byte for byte."""

import json

import pytest

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.wire import begins
from refute.targets.base import CannotPlant
from refute.wire.exchange import Block, Canned, Cut, Pause

TIMES = {"wire-gaps-stretched", "wire-first-late", "wire-rate-lowered"}
NAMES = [name for name, spec in FAULTS.items() if spec.seam == "wire"]
DONE = b"data: [DONE]\n\n"


def chunk(finish=None, tokens=None, **said):
    logprobs = None if tokens is None else {"content": [{"token": each, "logprob": -2.0} for each in tokens]}
    choice = {"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": finish}
    return {"id": "1", "choices": [choice]}


ROLE, END = chunk(role="assistant", content=""), chunk("stop")
USAGE = {"id": "1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}}
TEXTS = [chunk(content=each, tokens=[each]) for each in ("a", "b", "é")]
STREAM = [ROLE, *TEXTS, END, USAGE]
MESSAGE = {"role": "assistant", "content": "abé"}
WHOLE = {
    "id": "1",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE["usage"],
}
REFUSED = {"error": {"message": "no", "type": "t", "param": None, "code": "c"}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def exchange(name, dose=None):
    return begins(Fault(name, FAULTS[name].default if dose is None else dose))()


def through(change, stream=STREAM):
    """What the client gets of a stream: bytes, pauses and cuts in order."""
    blocks = [*(Block.of(each).raw for each in stream), DONE]
    sent = [part for block in blocks for part in change.event(Block(block))]
    return [part for part in [*sent, *change.end()] if part != b""]


def values(sent):
    datas = [data for part in sent if isinstance(part, bytes) for data in part.decode().split("\n\n") if data]
    return [each[6:] if each == "data: [DONE]" else json.loads(each[6:]) for each in datas]


def answered(change, value=WHOLE, status=200):
    got = change.whole(Canned(status, "application/json", json.dumps(value).encode()))
    return got.status, got.content_type, json.loads(got.body) if got.body.startswith(b"{") else got.body


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TIMES])
def test_every_fault_is_there(name):
    assert type(begins(Fault(name, 1.0))()).__name__ != "Exchange"


@pytest.mark.parametrize("name", ["stale-row", "slow-clock"])
def test_faults_of_other_seams_are_refused(name):
    with pytest.raises(CannotPlant):
        begins(Fault(name, 1.0))


UNTOUCHED_STREAMS = {
    "wire-seed-stripped",
    "wire-seed-fixed",
    "wire-stop-stripped",
    "wire-limits-hidden",
    "wire-temperature-forced",
    "wire-error-once",
    "wire-cached",
    "wire-client-kept",
    "wire-usage-unasked",
    "wire-counters-zero",
    "wire-text-emptied",
    "wire-errors-hidden",
    "wire-errors-plain",
    "wire-stream-off",
    "wire-tools-as-text",
}


@pytest.mark.parametrize("name", sorted(UNTOUCHED_STREAMS))
def test_streams_that_a_fault_does_not_change_pass_byte_for_byte(name):
    assert b"".join(through(exchange(name, 1.0))) == b"".join([*(Block.of(e).raw for e in STREAM), DONE])


def less(value, *names):
    return {name: each for name, each in value.items() if name not in names}


def finish(value, reason):
    return {**value, "choices": [{**value["choices"][0], "finish_reason": reason}]}


SPLIT = [chunk(content="\ufffd", tokens=["é"]), chunk(content="\ufffd")]


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("wire-done-dropped", STREAM),
        ("wire-finish-dropped", [ROLE, *TEXTS, finish(END, None), USAGE, "[DONE]"]),
        ("wire-role-dropped", [chunk(content=""), *TEXTS, END, USAGE, "[DONE]"]),
        ("wire-usage-dropped", [ROLE, *TEXTS, END, "[DONE]"]),
        (
            "wire-usage-wrong",
            [
                *STREAM[:-1],
                {**USAGE, "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
                "[DONE]",
            ],
        ),
        ("wire-token-repeated", [ROLE, TEXTS[0], *TEXTS, END, USAGE, "[DONE]"]),
        ("wire-utf8-cut", [ROLE, *TEXTS[:2], *SPLIT, END, USAGE, "[DONE]"]),
        ("wire-merged", [ROLE, chunk(content="abé", tokens=["a", "b", "é"]), END, USAGE, "[DONE]"]),
        ("wire-buffered", [*STREAM, "[DONE]"]),
    ],
)
def test_what_becomes_of_a_stream(name, events):
    assert values(through(exchange(name))) == events


def test_buffered_events_come_together():
    assert len(through(exchange("wire-buffered"))) == 1
    assert len(through(exchange("wire-buffered", 4.0))) == 2


def test_merged_by_two_leaves_the_odd_one():
    got = values(through(exchange("wire-merged", 2.0)))
    assert got == [ROLE, chunk(content="ab", tokens=["a", "b"]), TEXTS[2], END, USAGE, "[DONE]"]


def test_log_probabilities_are_raised():
    raised = values(through(exchange("wire-logprobs-shifted")))
    assert [e["choices"][0]["logprobs"]["content"][0]["logprob"] for e in raised[1:4]] == [-1.0] * 3
    assert [raised[0], *raised[4:]] == [ROLE, END, USAGE, "[DONE]"]


def test_legacy_log_probabilities_are_raised():
    logprobs = {"tokens": ["a"], "token_logprobs": [-2.0], "top_logprobs": [{"a": -2.0}], "text_offset": [0]}
    _, _, got = answered(
        exchange("wire-logprobs-shifted"), {"choices": [{"text": "a", "logprobs": logprobs}]}
    )
    assert got["choices"][0]["logprobs"] == {
        "tokens": ["a"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"a": -1.0}],
        "text_offset": [0],
    }


def legacy(text, finish=None):
    tokens = {"tokens": [text], "token_logprobs": [-2.0], "top_logprobs": None, "text_offset": [0]}
    return {"id": "1", "choices": [{"index": 0, "text": text, "logprobs": tokens, "finish_reason": finish}]}


def test_merged_events_of_the_older_route_keep_all_they_say():
    sent = through(exchange("wire-merged"), [legacy("a"), legacy("b", "length")])
    tokens = {
        "tokens": ["a", "b"],
        "token_logprobs": [-2.0, -2.0],
        "top_logprobs": None,
        "text_offset": [0, 0],
    }
    choice = {"index": 0, "text": "ab", "logprobs": tokens, "finish_reason": "length"}
    assert values(sent) == [{"id": "1", "choices": [choice]}, "[DONE]"]


def test_an_end_that_comes_with_text_is_merged_too():
    first, last = chunk(role="assistant", content="a"), chunk("length", role=None, content="b")
    assert values(through(exchange("wire-merged"), [first, last, USAGE])) == [
        chunk("length", role="assistant", content="ab"),
        USAGE,
        "[DONE]",
    ]


def test_texts_of_different_choices_are_not_merged():
    other = {**TEXTS[0], "choices": [{**TEXTS[0]["choices"][0], "index": 1}]}
    assert values(through(exchange("wire-merged"), [TEXTS[0], other, TEXTS[1]])) == [
        TEXTS[0],
        other,
        TEXTS[1],
        "[DONE]",
    ]


def test_an_event_is_cut_within_its_first_character_beyond_ascii():
    usage = {"usage": {"completion_tokens": 2}}
    whole = chunk("stop", role="assistant", content="aébé", tokens=["t"]) | usage
    assert values(through(exchange("wire-utf8-cut"), [whole])) == [
        chunk(role="assistant", content="a\ufffd", tokens=["t"]),
        chunk("stop", content="\ufffdb\ufffd\ufffd") | usage,
        "[DONE]",
    ]


def test_an_event_of_the_older_route_is_cut_within_a_character():
    first, last, _ = values(through(exchange("wire-utf8-cut"), [legacy("é", "stop")]))
    assert [each["choices"][0]["text"] for each in (first, last)] == ["\ufffd", "\ufffd"]
    assert [each["choices"][0]["finish_reason"] for each in (first, last)] == [None, "stop"]


def test_a_stream_stands_still_once():
    sent = through(exchange("wire-stalled", 250.0))
    assert [place for place, part in enumerate(sent) if isinstance(part, Pause)] == [3]
    assert sent[3] == Pause(0.25)
    assert values(sent) == [*STREAM, "[DONE]"]


def test_every_event_is_late():
    sent = through(exchange("wire-jitter", 250.0))
    pauses = [part.seconds for part in sent if isinstance(part, Pause)]
    assert len(pauses) == len(STREAM) + 1
    assert len(set(pauses)) > 1
    assert all(0 <= each <= 0.25 for each in pauses)
    assert values(sent) == [*STREAM, "[DONE]"]


@pytest.mark.parametrize(("dose", "events"), [(2.0, STREAM[:3]), (9.0, STREAM)])
def test_a_connection_is_cut(dose, events):
    sent = through(exchange("wire-cut", dose))
    assert values(sent[: sent.index(Cut())]) == events


def test_a_whole_answer_is_cut():
    half, cut = exchange("wire-cut").whole(Canned(200, "application/json", b"0123456789"))
    assert (half, cut) == (b"01234", Cut())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wire-finish-dropped", {**WHOLE, "choices": [{**WHOLE["choices"][0], "finish_reason": None}]}),
        ("wire-usage-dropped", less(WHOLE, "usage")),
        (
            "wire-text-emptied",
            {**WHOLE, "choices": [{**WHOLE["choices"][0], "message": {**MESSAGE, "content": ""}}]},
        ),
        ("wire-done-dropped", WHOLE),
        ("wire-token-repeated", WHOLE),
        ("wire-merged", WHOLE),
    ],
)
def test_what_becomes_of_a_whole_answer(name, value):
    assert answered(exchange(name)) == (200, "application/json", value)


def test_calls_become_text():
    told = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    parts = [{"index": 0, **CALL, "function": {"name": "f", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": '{"a": 1}'}}]
    stream = [ROLE, chunk(tool_calls=parts), chunk(tool_calls=more), chunk("tool_calls")]
    streamed = values(through(exchange("wire-tools-as-text"), stream))
    assert streamed == [ROLE, chunk(content=told), END, "[DONE]"]
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}
    _, _, got = answered(
        exchange("wire-tools-as-text"), {"choices": [{**choice, "finish_reason": "tool_calls"}]}
    )
    assert got["choices"][0]["message"] == {"role": "assistant", "content": told}
    assert got["choices"][0]["finish_reason"] == "stop"


def test_a_role_is_not_lost_with_the_call_that_came_with_it():
    part = {"index": 0, **CALL}
    first = chunk(role="assistant", content=None, tool_calls=[part])
    usage = {"usage": {"completion_tokens": 2}}
    told = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    assert values(through(exchange("wire-tools-as-text"), [first, chunk("tool_calls") | usage])) == [
        chunk(role="assistant", content=None),
        chunk(content=told),
        END | usage,
        "[DONE]",
    ]


def test_a_refusal_is_not_cut():
    refusal = Canned(400, "application/json", b"{}")
    assert exchange("wire-cut").whole(refusal) == refusal


def test_refusals():
    assert answered(exchange("wire-errors-hidden"), REFUSED, 400) == (200, "application/json", REFUSED)
    assert answered(exchange("wire-errors-plain"), REFUSED, 400) == (400, "text/plain", b"no")
    for name in ("wire-errors-hidden", "wire-errors-plain"):
        assert answered(exchange(name)) == (200, "application/json", WHOLE)


def test_counters_become_zero():
    value = {**WHOLE, "refute": {"backend": "array", "counters": {"forwards": 3, "moe_layers": 12}}}
    _, _, got = answered(exchange("wire-counters-zero"), value)
    assert got == {**value, "refute": {"backend": "array", "counters": {"forwards": 0, "moe_layers": 0}}}


ASKED = {"messages": [], "seed": 1, "stop": "x", "max_tokens": 9, "stream": True, "temperature": 1}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("wire-seed-stripped", less(ASKED, "seed")),
        ("wire-stop-stripped", less(ASKED, "stop")),
        ("wire-stream-off", less(ASKED, "stream")),
        ("wire-limits-hidden", {**ASKED, "max_tokens": 1}),
        ("wire-temperature-forced", {**ASKED, "temperature": 2.0}),
        ("wire-usage-unasked", {**ASKED, "stream_options": {"include_usage": True}}),
        ("wire-merged", ASKED),
        ("wire-cached", ASKED),
    ],
)
def test_what_the_engine_is_asked(name, body):
    assert exchange(name).request(ASKED) == body


def test_a_fixed_seed_is_one_for_all():
    change = exchange("wire-seed-fixed")
    assert change.request(less(ASKED, "seed")) == change.request(ASKED) != ASKED


def test_one_request_in_four_fails():
    begin = begins(Fault("wire-error-once", 0.25))
    statuses = [getattr(begin().instead("/c", ASKED), "status", None) for _ in range(8)]
    assert statuses == [None, None, None, 500] * 2


def test_half_of_the_requests_are_touched():
    begin = begins(Fault("wire-seed-stripped", 0.5))
    assert ["seed" in begin().request(ASKED) for _ in range(4)] == [True, False, True, False]


def test_the_first_answer_to_a_prompt_is_every_answer():
    begin = begins(Fault("wire-cached", 1.0))
    first = begin()
    assert first.instead("/c", ASKED) is None
    sent = b"".join(through(first))
    again = begin().instead("/c", {**ASKED, "seed": 2, "temperature": 0})

    assert (again.content_type, again.body) == ("text/event-stream", sent)
    assert begin().instead("/c", {**ASKED, "messages": [{}]}) is None
    assert begin().instead("/c", {**ASKED, "stream": False}) is None
    assert begin().instead("/other", ASKED) is None

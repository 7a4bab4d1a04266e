"""Faults of the wire take whatever an engine says, in any pieces; what they do not know passes."""

import json
from random import Random

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.wire import begins
from refute.wire.exchange import Block, Blocks, Canned, Cut, Pause

NAMES = [name for name, spec in FAULTS.items() if spec.seam == "wire"]
OF_EXCHANGES = sorted({*NAMES} - {"wire-gaps-stretched", "wire-first-late", "wire-rate-lowered"})
FIELDS = [
    *("id", "choices", "index", "delta", "message", "text", "content", "role", "tool_calls", "function"),
    *("name", "arguments", "finish_reason", "logprobs", "top_logprobs", "token_logprobs", "logprob", "usage"),
    *("completion_tokens", "refute", "counters", "error", "stream", "stream_options", "messages"),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "é", "\ud800"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
)


def of(**parts):
    return st.fixed_dictionaries({}, optional={name: JSON | part for name, part in parts.items()})


TOKENS = st.lists(
    of(logprob=st.floats(), top_logprobs=st.lists(of(logprob=st.floats()), max_size=2)), max_size=2
)
LOGPROBS = of(content=TOKENS, token_logprobs=st.lists(st.floats(), max_size=2), top_logprobs=st.lists(JSON))
CALLS = st.lists(
    of(index=st.integers(0, 1), function=of(name=st.just("f"), arguments=st.just("{}"))), max_size=2
)
SAID = of(role=st.just("assistant"), content=st.sampled_from(["a", "é"]), tool_calls=CALLS)
CHOICE = of(
    index=st.integers(0, 1),
    delta=SAID,
    message=SAID,
    text=st.sampled_from(["a", "é"]),
    logprobs=LOGPROBS,
    finish_reason=st.sampled_from(["stop", "tool_calls"]),
)
OBJECTS = of(
    choices=st.lists(JSON | CHOICE, max_size=2), usage=of(completion_tokens=st.integers()), refute=JSON
)


@given(OBJECTS, st.lists(OBJECTS, max_size=4), JSON, JSON)
def test_no_form_of_an_object_stops_a_fault(asked, told, error, options):
    for name in OF_EXCHANGES:
        note(name)
        change = begins(Fault(name, FAULTS[name].default))()
        change.request(asked)
        change.request({"stream": True, "stream_options": options})
        change.instead("/chat/completions", asked)
        for value in told:
            assert all(isinstance(part, bytes | Pause | Cut) for part in change.event(Block.of(value)))
            change.whole(Canned(200, "application/json", json.dumps(value).encode()))
        change.whole(Canned(400, "application/json", json.dumps({"error": error}).encode()))
        assert all(isinstance(part, bytes) for part in change.end())


@pytest.mark.parametrize("name", OF_EXCHANGES)
def test_what_is_no_object_passes_byte_for_byte(name):
    change = begins(Fault(name, 4.0))()
    raws = [b": comment\n\n", b"data: 7\n\n", b"data: {no\r\n\r\n", b"event: ping\n\n", b"data: [1]\n\n"]
    sent = [part for raw in raws for part in change.event(Block(raw))]
    assert b"".join(part for part in [*sent, *change.end()] if isinstance(part, bytes)) == b"".join(raws)


LINES = st.sampled_from([b"data: {}", b"data: one", b": ping", b"", b"event: x", "data: é".encode()])
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=20), st.randoms(use_true_random=False))
def test_a_stream_is_cut_alike_however_it_comes(lines, random: Random):
    stream = b"".join(line + end for line, end in lines)
    at_once = Blocks()
    blocks = at_once.feed(stream)
    cutter, cut, start = Blocks(), [], 0
    while start < len(stream):
        size = random.randint(1, 7)
        cut += cutter.feed(stream[start : start + size])
        start += size

    assert (cut, cutter.rest) == (blocks, at_once.rest)
    assert b"".join(block.raw for block in blocks) + at_once.rest == stream


def test_json_that_is_nested_too_deeply_is_no_object():
    assert Block(b'data: {"a":' + b"[" * 100_000 + b"\n\n").value is None

"""What a stream must say, on hand-made replies: each departure alone refutes, what is allowed does not."""

from collections.abc import Sequence
from typing import Any

import pytest
from wire_replies import DONE, ROLE, delta, reply, stream, usage, whole

from refute.contract import Bound
from refute.kinds.base import Observation
from refute.kinds.wire_requests import Asked, Repeatable
from refute.kinds.wire_stream import SseAsWhole, SseEvents
from refute.verdict import Outcome

EVENTS = SseEvents(Asked(max_tokens=12, pieces=2))
WHOLE = SseAsWhole(Repeatable(max_tokens=12, pieces=2, mode="greedy"))
BOUND = Bound(confidence=0.95, cases=1)
GOOD = (ROLE, delta(content="a"), delta(content="b"), delta("stop"), usage(3), DONE)
NAMED = (
    ROLE,
    delta(content="a", tokens=[b"a"]),
    delta(content="é", tokens=[b"\xc3", b"\xa9"]),
    delta("stop", tokens=[b"<|end|>"]),
    usage(4),
    DONE,
)


def seen(answer: Any) -> Observation:
    return Observation({}, {"reply": answer})


def wrong(*events: Any, **how: Any) -> str | None:
    return EVENTS.wrong(seen(stream(*events, **how)))


@pytest.mark.parametrize("events", [GOOD, NAMED])
def test_a_stream_as_it_should_be(events: Sequence[Any]) -> None:
    observation = seen(stream(*events))
    assert EVENTS.wrong(observation) is None
    assert EVENTS.informative(observation)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (GOOD[:-1], "DONE"),
        ((*GOOD, DONE), "DONE"),
        ((DONE, *GOOD), "DONE"),
        (GOOD[1:], "first delta"),
        ((delta(role="assistant", content="a"), *GOOD[2:]), "first delta"),
        ((delta(role="user"), *GOOD[1:]), "first delta"),
        ((*GOOD[:3], *GOOD[4:]), "None at the end"),
        ((*GOOD[:3], delta("stop"), *GOOD[3:]), "'stop' before the end"),
        ((*GOOD[:3], "no JSON", *GOOD[3:]), "no JSON object"),
        ((DONE,), "status 200"),
        ((usage(3), DONE), "no event has a choice"),
        ((*GOOD[:2], {"error": {"message": "lost"}}), "lost"),
    ],
)
def test_a_departure_from_the_order_refutes(events: Sequence[Any], why: str) -> None:
    assert why in (wrong(*events) or "")


def test_a_stream_that_breaks_off_refutes() -> None:
    assert wrong(*GOOD, broken="the connection broke") == "the connection broke"


def test_an_object_instead_of_a_stream_refutes() -> None:
    assert "application/json" in (EVENTS.wrong(seen(whole("ab"))) or "")


@pytest.mark.parametrize(
    ("place", "event", "why"),
    [
        (1, delta(content="ab", tokens=[b"a", b"b"]), "'ab', of which its last token completes 'b'"),
        (2, delta(content="xé", tokens=[b"x", b"\xc3", b"\xa9"]), "'xé'"),
        (1, delta(content="ab", tokens=[b"a"]), "'ab'"),
        (1, delta(content="a"), "'a', of which its last token completes ''"),
    ],
)
def test_an_event_with_the_text_of_more_than_one_token_refutes(place: int, event: Any, why: str) -> None:
    events = [*NAMED[:4], DONE]  # no usage, which might be what is wrong
    events[place] = event
    assert why in (wrong(*events) or "")


@pytest.mark.parametrize(
    "event",
    [
        delta(content="a", tokens=[b"<|think|>", b"a"]),  # a control token that is not shown
        delta(content="\ufffda", tokens=[b"\xc3", b"a"]),  # bytes that became no character
        delta(content="", tokens=[b" "]),  # text that the server holds back or drops
    ],
)
def test_tokens_that_complete_no_text_may_come_with_another(event: Any) -> None:
    assert wrong(NAMED[0], event, *NAMED[2:4], usage(5), DONE) is None


def test_without_log_probabilities_events_are_counted() -> None:
    assert "2 events with text for 4 tokens" in (wrong(*GOOD[:4], usage(4), DONE) or "")
    assert wrong(ROLE, delta(content="é"), delta(content="b"), delta("stop"), usage(9), DONE) is None


@pytest.mark.parametrize("events", [GOOD, NAMED])
def test_an_event_that_comes_twice_refutes(events: Sequence[Any]) -> None:
    for tokens in (2, 3):
        twice = [*events[:2], *[events[1]] * 2, *events[2:-2], usage(tokens), DONE]
        assert f"for {tokens} tokens" in (wrong(*twice) or "")


@pytest.mark.parametrize(
    "events", [(*GOOD[:4], DONE), (ROLE, delta(content="a"), delta("stop"), usage(2), DONE)]
)
def test_a_case_counts_only_with_two_events_and_a_number_of_tokens(events: Sequence[Any]) -> None:
    assert not EVENTS.informative(seen(stream(*events)))


def test_the_reason_tells_tokens_per_event_and_what_was_wrong() -> None:
    good = EVENTS.judge([seen(stream(*NAMED))], BOUND)
    assert (good.outcome, good.reason[-21:]) == (Outcome.SURVIVED, "2.00 tokens per event")
    bad = EVENTS.judge([seen(stream(*GOOD[:-1]))], BOUND)
    assert (bad.outcome, "[DONE]" in bad.reason) == (Outcome.FALSIFIED, True)


def both(as_whole: Any, as_stream: Any) -> Observation:
    return Observation({}, {"whole": as_whole, "streamed": as_stream})


def test_the_same_text_and_end_do_not_refute() -> None:
    same = both(whole("ab"), stream(*GOOD))
    assert WHOLE.wrong(same) is None
    assert WHOLE.informative(same)


@pytest.mark.parametrize(
    ("as_whole", "as_stream", "why"),
    [
        (whole("a"), stream(*GOOD), "text 'a' as a whole, 'ab' as a stream"),
        (whole(""), stream(*GOOD), "text"),
        (whole(None), stream(*GOOD), "text"),
        (whole("ab", "length"), stream(*GOOD), "finish_reason"),
        (reply("{}", 500), stream(*GOOD), "the whole answer: status 500"),
        (whole("ab"), stream(*GOOD, broken="it broke"), "the stream: it broke"),
        (stream(*GOOD), stream(*GOOD), "text/event-stream"),
    ],
)
def test_any_difference_refutes(as_whole: Any, as_stream: Any, why: str) -> None:
    assert why in (WHOLE.wrong(both(as_whole, as_stream)) or "")


@pytest.mark.parametrize(
    "as_stream", [whole("ab"), stream(ROLE, delta("stop"), DONE)], ids=["no stream", "no text"]
)
def test_a_pair_counts_only_with_text_in_a_stream(as_stream: Any) -> None:
    assert not WHOLE.informative(both(whole("ab"), as_stream))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_tokens": 1, "pieces": 2, "mode": "greedy"}, "max_tokens"),
        ({"max_tokens": 8, "pieces": 0, "mode": "greedy"}, "pieces"),
        ({"max_tokens": 8, "pieces": 2, "mode": "warm"}, "'greedy' or 'seeded'"),
    ],
)
def test_bad_parameters_are_refused_with_a_sentence(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Repeatable(**parameters)

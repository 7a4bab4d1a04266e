"""The check of our own reader: what it says follows from both clocks' times, and it sees a bad reader."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.wire import instrument
from refute.wire.client import post
from refute.wire.instrument import check_instrument, errors


def test_the_reader_is_compared_with_what_was_sent():
    report = check_instrument(events=5, gap_ms=0.5)

    assert (report["events"], report["gap_ms"]) == (5, 0.5)
    assert report["sent_gap_us"] >= 500
    assert report["lag_us"]["worst"] >= report["lag_us"]["median"] > 0
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_reader_that_hands_all_out_at_once_is_seen(monkeypatch):
    def late(*arguments):
        reply = post(*arguments)
        return replace(reply, events=tuple(replace(event, ns=reply.end_ns) for event in reply.events))

    monkeypatch.setattr(instrument, "post", late)
    report = check_instrument(events=5, gap_ms=0.5)

    assert report["gap_error_us"]["median"] == report["sent_gap_us"]
    assert report["lag_us"]["worst"] >= 4 * 500


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda reply: replace(reply, events=reply.events[:-1]), "sent 3 events, and 2 were read"),
        (lambda reply: replace(reply, broken="it broke"), "not read to its end: it broke"),
    ],
)
def test_a_reader_that_does_not_read_all_is_no_instrument(monkeypatch, changed, why):
    monkeypatch.setattr(instrument, "post", lambda *arguments: changed(post(*arguments)))

    with pytest.raises(RuntimeError, match=why):
        check_instrument(events=3, gap_ms=0.5)


@pytest.mark.parametrize(("events", "gap"), [(1, 2.0), (40, 0.0), (40, math.nan), (40, math.inf)])
def test_numbers_that_make_no_stream(events, gap):
    with pytest.raises(ValueError, match="expected at least 2"):
        check_instrument(events, gap)


@given(
    st.lists(st.integers(1, 10**7), min_size=2, max_size=9).flatmap(
        lambda gaps: st.tuples(st.just(gaps), st.lists(st.integers(0, 10**6), min_size=len(gaps)))
    ),
    st.integers(0, 10**9),
)
def test_a_lag_that_is_always_the_same_is_no_error_of_gaps(gaps_and_lags, lag):
    gaps, lags = gaps_and_lags
    sent = [sum(gaps[:place]) for place in range(len(gaps))]
    steady = errors(sent, [each + lag for each in sent], gap_ms=1.0)
    varied = errors(sent, [each + late for each, late in zip(sent, lags, strict=False)], gap_ms=1.0)

    assert steady["gap_error_us"] == {"median": 0, "p99": 0, "worst": 0}
    assert steady["lag_us"]["median"] == round(lag / 1e3, 3)
    changes = [abs(b - a) for a, b in pairwise(lags[: len(sent)])]
    assert varied["gap_error_us"]["worst"] == round(max(changes) / 1e3, 3)
    assert varied["lag_us"]["worst"] == round(max(lags[: len(sent)]) / 1e3, 3)

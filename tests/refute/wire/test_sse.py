"""Events are the same however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.wire.sse import EventReader

LINES = st.sampled_from(
    ["data: a", "data:b", "data:  c", "data", ": comment", "event: x", "id: 1", "", "", "é"]
)


def read(*pieces):
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: one\n\ndata: two\n\n", ["one", "two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", ["one", "two"]),
        (b"data: one\r\rdata: two\r\rx", ["one", "two"]),
        (b"data: one\ndata: more\n\n", ["one\nmore"]),
        (b"data:one\n\n", ["one"]),
        (b"data:  one\n\n", [" one"]),
        (b": keep-alive\n\ndata: one\n\n", ["one"]),
        (b"event: end\n\n", []),
        (b"data\n\n", [""]),
        (b"data: cut off\n", []),
        (b"\xef\xbb\xbfdata: one\n\n", ["one"]),
        (b"data: \xc3\xa9\n\n", ["é"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"", []),
    ],
)
def test_events_of_a_stream(stream, events):
    assert read(stream) == events


@given(st.lists(LINES), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 200)))
def test_the_cuts_do_not_matter(lines, end, cuts):
    # What follows the lines tells that a last \r stands alone.
    stream = "".join(line + end for line in lines).encode() + b":"
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in pairwise(places)]

    assert read(*pieces) == read(stream)


def test_an_event_is_there_with_the_byte_that_completes_it():
    reader = EventReader()

    assert reader.feed(b"data: one\n") == []
    assert reader.feed(b"\n") == ["one"]

"""One exchange on a real socket: what is sent, what is kept of the answer, and how it can end."""

import json
import socket
import threading
from dataclasses import replace
from itertools import chain, count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import PLAIN, STREAM, answering, chunk

from refute.targets.base import TargetError
from refute.wire import client
from refute.wire.client import connect, get, post
from refute.wire.endpoint import Endpoint, Reply


def test_the_request_is_json_with_a_key():
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, got):
        keyed = Endpoint(endpoint.base, "m", PLAIN, key="s3cret")
        reply = post(keyed, "/chat/completions", {"a": "é"})

    assert got["head"].startswith("POST /v1/chat/completions HTTP/1.1")
    assert "authorization: bearer s3cret" in got["head"].lower()
    assert json.loads(got["body"]) == {"a": "é"}
    assert (reply.status, reply.body, reply.broken) == (200, "{}", None)


def test_no_key_is_sent_where_there_is_none():
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, got):
        get(endpoint, "/models")

    assert got["head"].startswith("GET /v1/models HTTP/1.1")
    assert "authorization" not in got["head"].lower()


def test_a_key_is_not_in_the_repr():
    assert "s3cret" not in repr(Endpoint("http://h/v1", "m", PLAIN, key="s3cret"))


def test_a_key_that_a_server_repeats_is_hidden():
    told = b"data: the s3cret!! is bad\n\n"
    with answering(STREAM, chunk(told), b"0\r\n\r\n") as (endpoint, _):
        streamed = post(replace(endpoint, key="s3cret!!"), "/c", {})
    with answering(b"HTTP/1.1 400 No\r\nContent-Length: 8\r\n\r\ns3cret!!") as (endpoint, _):
        whole = post(replace(endpoint, key="s3cret!!"), "/c", {})
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEMPTY") as (endpoint, _):
        of_no_secret = post(replace(endpoint, key="EMPTY"), "/c", {})

    assert [event.data for event in streamed.events] == ["the <redacted> is bad"]
    assert (whole.body, of_no_secret.body) == ("<redacted>", "EMPTY")


def test_events_have_the_time_of_their_last_byte():
    seen = threading.Event()

    def first_was_read(_):
        assert seen.wait(30)

    def leaves(events):
        if events == 1:
            seen.set()
        return False

    pieces = chunk(b"data: one\n\n"), first_was_read, chunk(b"data: two\n\ndata: three\n\n"), b"0\r\n\r\n"
    with answering(STREAM, *pieces) as (endpoint, _):
        reply = post(endpoint, "/c", {}, leaves=leaves)

    assert [event.data for event in reply.events] == ["one", "two", "three"]
    one, two, three = (event.ns for event in reply.events)
    assert 0 < reply.head_ns <= one < two == three <= reply.end_ns
    assert (reply.content_type, reply.broken, reply.left) == ("text/event-stream", None, False)


def test_a_client_that_leaves_closes_the_connection():
    closed = []

    def until_closed(connection):
        closed.append(connection.recv(1))

    with answering(STREAM, chunk(b"data: one\n\n"), until_closed) as (endpoint, _):
        reply = post(endpoint, "/c", {}, leaves=lambda events: events >= 1)

    assert reply.left
    assert len(reply.events) == 1
    assert closed in ([b""], [])


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((STREAM, chunk(b"data: one\n\n")), "peer closed connection without sending complete message body"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",), "received 2 bytes, expected 9"),
        ((), "the connection was closed before an answer began"),
        ((b"no HTTP at all\r\n\r\n",), "illegal status line"),
    ],
)
def test_an_answer_that_is_not_whole_says_why(pieces, why):
    with answering(*pieces) as (endpoint, _):
        reply = post(endpoint, "/c", {})

    assert reply.broken is not None
    assert why in reply.broken


def test_silence_breaks_an_answer_off(monkeypatch):
    done, opened = threading.Event(), []

    def connected(endpoint):
        opened.append(connect(endpoint))
        assert opened[0].gettimeout() == 30
        return opened[0]

    def no_longer_patient(_):
        opened[0].settimeout(0.01)  # only once the head is there, however long that takes
        return False

    monkeypatch.setattr(client, "connect", connected)
    with answering(STREAM, lambda _: done.wait(30)) as (endpoint, _):
        reply = post(endpoint, "/c", {}, leaves=no_longer_patient)
        done.set()

    assert reply.broken == "not a byte came for 30 s"
    assert reply.status == 200


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
def test_a_busy_server_has_not_answered(status):
    head = b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nlate"
    with answering(head) as (endpoint, _), pytest.raises(TargetError, match=r"\((429|503)\): late"):
        post(endpoint, "/c", {})


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(TargetError, match=f"cannot reach http://127.0.0.1:{port}/v1: "):
        get(Endpoint(f"http://127.0.0.1:{port}/v1", "m", PLAIN), "/models")


def test_times_are_counted_from_before_the_request_is_sent():
    """Who sleeps between sending and looking at the clock would find the answer there already."""
    readings = chain([0, 100], count(101))
    with answering(STREAM, chunk(b"data: one\n\n"), b"0\r\n\r\n") as (endpoint, _):
        reply = post(Endpoint(endpoint.base, "m", PLAIN, clock=lambda: next(readings)), "/c", {})

    assert reply.head_ns == 100


def test_times_can_be_shown_otherwise():
    with answering(STREAM, chunk(b"data: one\n\n"), b"0\r\n\r\n") as (endpoint, _):
        shifted = Endpoint(endpoint.base, "m", PLAIN, retimed=lambda times: tuple(range(1, len(times) + 1)))
        reply = post(shifted, "/c", {})

    assert (reply.events[0].ns, reply.head_ns, reply.end_ns) == (1, 2, 3)


TEXTS = st.text(max_size=5)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), TEXTS), max_size=3), TEXTS, st.none() | TEXTS, st.booleans())
def test_samples_are_read_back(events, body, broken, left):
    data = {
        "status": 200,
        "content_type": "text/event-stream",
        "events": [list(event) for event in events],
        "body": body,
        "head_ns": 1,
        "end_ns": 10,
        "broken": broken,
        "left": left,
    }

    assert json.loads(json.dumps(Reply.of_samples(data).to_samples())) == data

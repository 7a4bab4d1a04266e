"""The proxy on real sockets: bytes go through as they come, and who leaves is let go on the other side."""

import gc
import socket
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import h11
import pytest
from scripted_server import PLAIN, STREAM, answering, chunk

from refute.targets.fake import FakeTarget
from refute.wire.client import post
from refute.wire.endpoint import Endpoint
from refute.wire.exchange import Canned, Cut, Exchange, Pause
from refute.wire.proxy import proxied

PATIENCE = 30


def until_closed(connection):
    assert connection.recv(1) == b""


def test_a_whole_answer_and_its_request_pass():
    with (
        answering(b"HTTP/1.1 418 Pot\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, got),
        proxied(endpoint) as behind,
    ):
        reply = post(behind, "/c?q=1", b'{"a" :1}')

    assert got["head"].startswith("POST /v1/c?q=1 HTTP/1.1")
    assert got["body"] == b'{"a" :1}'
    assert (reply.status, reply.body, reply.headers["x-a"], reply.broken) == (418, "{}", "1", None)


def test_a_body_that_is_no_json_passes():
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, got),
        proxied(endpoint) as behind,
    ):
        post(behind, "/c", b"{no")

    assert got["body"] == b"{no"


def test_events_pass_one_by_one():
    seen = threading.Event()

    def first_was_read(_):
        assert seen.wait(PATIENCE)

    def leaves(events):
        if events == 1:
            seen.set()
        return False

    pieces = chunk(b"data: one\n\nda"), first_was_read, chunk(b"ta: two\n\n: end"), b"0\r\n\r\n"
    with answering(STREAM, *pieces) as (endpoint, _), proxied(endpoint) as behind:
        reply = post(behind, "/c", {}, leaves=leaves)

    assert [event.data for event in reply.events] == ["one", "two"]
    assert reply.broken is None


def test_a_client_that_leaves_is_told_to_the_engine():
    with (
        answering(STREAM, chunk(b"data: one\n\n"), until_closed) as (endpoint, _),
        proxied(endpoint) as behind,
    ):
        assert post(behind, "/c", {}, leaves=lambda events: events > 0).left


class Keeping(Exchange):
    keeps = True


def test_a_client_that_leaves_can_be_hidden_until_the_proxy_ends():
    served = threading.Event()

    def goes_on(connection):
        connection.sendall(chunk(b"data: two\n\n") + b"0\r\n\r\n")
        assert connection.recv(1) == b""  # which comes with the end of the exchange
        served.set()

    left = threading.Event()
    wait = [lambda _: left.wait(PATIENCE)]
    with (
        answering(STREAM, chunk(b"data: one\n\n"), *wait, goes_on) as (endpoint, _),
        proxied(endpoint, Keeping) as behind,
    ):
        assert post(behind, "/c", {}, leaves=lambda events: events > 0).left
        left.set()
        assert served.wait(PATIENCE)


def test_what_a_hidden_client_left_ends_with_the_proxy():
    with (
        answering(STREAM, chunk(b"data: one\n\n"), until_closed) as (endpoint, _),
        proxied(endpoint, Keeping) as behind,
    ):
        assert post(behind, "/c", {}, leaves=lambda events: events > 0).left


@pytest.mark.parametrize(
    "pieces",
    [
        (STREAM, chunk(b"data: one\n\n")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",),
        (),
    ],
)
def test_an_engine_that_breaks_off_is_broken_off(pieces):
    with answering(*pieces) as (endpoint, _), proxied(endpoint) as behind:
        assert post(behind, "/c", {}).broken is not None


def test_nobody_behind_it_is_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with proxied(Endpoint(f"http://127.0.0.1:{port}/v1", "m", PLAIN)) as behind:
        reply = post(behind, "/c", {})

    assert (reply.status, reply.broken) == (0, "the connection was closed before an answer began")


class Rewriting(Exchange):
    def request(self, body):
        return {**body, "b": 2}

    def event(self, block):
        return () if block.data == "two" else (block.raw, Pause(0))

    def whole(self, answer):
        return Canned(202, "text/plain", b"changed")


def test_an_exchange_changes_requests_events_and_answers():
    events = chunk(b"data: one\n\ndata: two\n\ndata: three\r\n\r\n")
    with answering(STREAM, events, b"0\r\n\r\n") as (endpoint, got), proxied(endpoint, Rewriting) as behind:
        reply = post(behind, "/c", {"a": 1})
    assert got["body"] == b'{"a": 1, "b": 2}'
    assert [event.data for event in reply.events] == ["one", "three"]

    whole = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with answering(whole) as (endpoint, _), proxied(endpoint, Rewriting) as behind:
        reply = post(behind, "/c", {})
    assert (reply.status, reply.content_type, reply.body) == (202, "text/plain", "changed")


class Cutting(Exchange):
    def event(self, _):
        return (b"data: begun", Cut())

    def whole(self, answer):
        return (answer.body[:1], Cut())


@pytest.mark.parametrize(
    "pieces",
    [
        (STREAM, chunk(b"data: one\n\n"), b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",),
    ],
)
def test_an_answer_can_be_cut(pieces):
    with answering(*pieces) as (endpoint, _), proxied(endpoint, Cutting) as behind:
        reply = post(behind, "/c", {})
    assert reply.broken is not None
    assert reply.events == ()


def test_many_streams_at_once_and_nothing_is_left_open():
    target = FakeTarget()
    threads = threading.active_count()
    with proxied(target.endpoint) as behind, ThreadPoolExecutor(32) as pool:
        body = {"model": behind.model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        replies = list(
            pool.map(lambda _: post(behind, "/chat/completions", {**body, "max_tokens": 4}), range(32))
        )

    assert all(reply.status == 200 and reply.broken is None for reply in replies)
    assert {reply.events[-1].data for reply in replies} == {"[DONE]"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        gc.collect()
    assert threading.active_count() <= threads + 33  # those of the simulated engine may still be ending


def raw_exchange(endpoint, request):
    """Everything that comes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", urlsplit(endpoint.base).port), PATIENCE) as connection:
        connection.sendall(request)
        got = b""
        while piece := connection.recv(65536):
            got += piece
    return got


ASKING = b"POST /v1/c HTTP/1.1\r\nHost: proxy\r\nX-Own: 1\r\nConnection: X-Own\r\nContent-Length: 2\r\n\r\n{}"


def test_bytes_of_bodies_pass_as_they_came():
    body = bytes(range(256))
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: image/x\r\nContent-Length: 256\r\n\r\n" + body
    with answering(whole) as (endpoint, _), proxied(endpoint) as behind:
        assert raw_exchange(behind, ASKING).partition(b"\r\n\r\n")[2] == body


def test_bytes_of_streams_pass_as_they_came():
    sent = b": hi\n\nid: 1\r\ndata:  x\r\n\r\nretry: 3\n\ndata: {}\n\r\ndata: \xff\n\nhalf"
    pieces = [chunk(sent[place : place + 3]) for place in range(0, len(sent), 3)]
    protocol = h11.Connection(h11.CLIENT)
    protocol.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    protocol.send(h11.EndOfMessage())
    with answering(STREAM, *pieces, b"0\r\n\r\n") as (endpoint, _), proxied(endpoint) as behind:
        protocol.receive_data(raw_exchange(behind, ASKING))

    got = []
    while not isinstance(event := protocol.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        got.append(event)
    assert b"".join(bytes(event.data) for event in got[1:]) == sent


def test_the_engine_is_asked_by_its_own_name_and_sees_no_header_of_one_connection():
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (endpoint, got),
        proxied(endpoint) as behind,
    ):
        raw_exchange(behind, ASKING)

    lines = got["head"].lower().split("\r\n")
    host = urlsplit(endpoint.base).netloc
    assert [line for line in lines if line.startswith(("host", "x-own"))] == [f"host: {host}"]


def test_an_answer_without_a_body_ends_with_its_head():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    with (
        answering(head, lambda connection: connection.recv(1)) as (endpoint, _),
        proxied(endpoint) as behind,
    ):
        assert raw_exchange(behind, b"HEAD /v1/c HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{",
        b"POST /c HTTP/1.1\r\nHost: h\r\n\r\n",  # nobody is behind the proxy
    ],
)
def test_what_cannot_be_answered_is_answered_by_a_closed_connection(request_bytes):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with proxied(Endpoint(f"http://127.0.0.1:{port}/v1", "m", PLAIN)) as behind:
        address = "127.0.0.1", urlsplit(behind.base).port
        with socket.create_connection(address, PATIENCE) as connection:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""


def test_a_body_that_is_nested_too_deeply_passes():
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    with answering(head) as (endpoint, got), proxied(endpoint, Rewriting) as behind:
        assert post(behind, "/c", deep).body == "changed"
    assert got["body"] == deep


class Waiting(Exchange):
    def event(self, block):
        return (block.raw, Pause(1000.0), b"data: late\n\n")


def test_a_client_that_leaves_while_nothing_is_sent_is_told_to_the_engine():
    with (
        answering(STREAM, chunk(b"data: one\n\n"), until_closed) as (endpoint, _),
        proxied(endpoint, Waiting) as behind,
    ):
        assert post(behind, "/c", {}, leaves=lambda events: events > 0).left


def test_a_stream_with_another_status_is_a_refusal():
    refused = b"HTTP/1.1 400 No\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: x\n\n"
    with answering(refused) as (endpoint, _), proxied(endpoint, Rewriting) as behind:
        reply = post(behind, "/c", {})
    assert (reply.status, reply.body) == (202, "changed")

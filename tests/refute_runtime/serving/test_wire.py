"""The server on a socket: events one by one, clients that leave, limits, loading, shutting down.

Nothing here waits for time to pass: a script lets tokens out one by one, and a test that would wait for what
never comes fails by the patience of its socket.
"""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import pytest
from live_server import PATIENCE, ask, chat, completion, events, next_event, serving, told
from scripted import Scripted, said

from refute_runtime.errors import RequestError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@contextmanager
def scripted(engine, script=None, **how):
    schedules = Scripted(script or said("a", "b", "c"), gated=True)
    with serving(lambda: schedules.served(engine), **how) as server:
        assert server.ready.wait(PATIENCE)
        yield server, schedules


def text(event):
    return event["choices"][0]["delta"].get("content")


@contextmanager
def raw(port, head, body=b""):
    """Send bytes as they are; the socket."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(head.encode() + b"\r\nHost: h\r\nContent-Type: application/json\r\n\r\n" + body)
        yield connection


def raw_told(port, head, body=b""):
    """Send bytes as they are; the status, the head and the JSON of the response."""
    with raw(port, head, body) as connection, http.client.HTTPResponse(connection) as response:
        response.begin()
        return response.status, response.headers, json.load(response)


def post(path, body, *more):
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Content-Length: {len(body)}", *more])


def test_each_token_arrives_before_the_next_is_computed(engine):
    with scripted(engine) as (server, schedules):
        schedules.let()
        with ask(server.port, CHAT, chat(stream=True)) as response:
            assert response.status == 200
            assert next_event(response)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert text(next_event(response)) == "a"
            schedules.let()
            assert text(next_event(response)) == "b"
            schedules.let()
            assert text(next_event(response)) == "c"
            assert next_event(response)["choices"][0]["finish_reason"] == "stop"
            assert next_event(response) == "[DONE]"
            assert next_event(response) is None


def test_the_head_of_a_stream(engine):
    with scripted(engine) as (server, schedules):
        schedules.let(3)
        with ask(server.port, COMPLETIONS, completion(stream=True)) as response:
            assert response.getheader("content-type") == "text/event-stream; charset=utf-8"
            assert response.getheader("cache-control") == "no-cache"
            assert response.getheader("x-accel-buffering") == "no"
            *chunks, done = events(response)
        assert [chunk["choices"][0]["text"] for chunk in chunks] == ["a", "b", "c", ""]
        assert done == "[DONE]"


def test_every_event_is_sent_by_itself(engine):
    body = json.dumps(chat(stream=True)).encode()
    with scripted(engine) as (server, schedules):
        schedules.let(3)
        with raw(server.port, post(CHAT, body, "Connection: close"), body) as connection:
            received = b"".join(iter(lambda: connection.recv(2**16), b""))
    _, _, rest = received.partition(b"\r\n\r\n")
    pieces = []
    while rest:  # chunked: a length, as many bytes, a line break
        length, _, rest = rest.partition(b"\r\n")
        pieces.append(rest[: int(length, 16)])
        rest = rest[int(length, 16) + 2 :]
    assert pieces.pop() == b""
    assert len(pieces) == 6
    assert all(piece.startswith(b"data: ") and piece.count(b"\n\n") == 1 for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_job(engine, stream):
    body = json.dumps(chat(stream=stream)).encode()
    with scripted(engine) as (server, schedules):
        with raw(server.port, post(CHAT, body), body) as connection:
            schedules.let()
            assert schedules.submitted.wait(PATIENCE)
            if stream:
                assert connection.recv(1)
            assert not schedules.cancelled.is_set()
        assert schedules.cancelled.wait(PATIENCE)


def test_a_client_that_leaves_amid_its_body_leaves_nothing_behind(engine):
    with scripted(engine) as (server, schedules):
        with raw(server.port, f"POST {CHAT} HTTP/1.1\r\nContent-Length: 100", b"{"):
            pass
        assert told(server.port, "/health") == (200, {"status": "ok"})
        assert schedules.jobs == []


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 1000000000", b"x" * 11),  # the rest never comes
        ("Transfer-Encoding: chunked", b"6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n"),  # the end never comes
    ],
)
def test_a_body_over_the_limit_is_refused_while_it_comes(engine, head, body):
    with scripted(engine, max_body=10) as (server, _):
        status, _, answer = raw_told(server.port, f"POST {CHAT} HTTP/1.1\r\n{head}", body)
        assert (status, answer["error"]["code"]) == (413, "body_too_large")


def test_a_body_that_is_longer_than_it_says_is_read_as_far_as_it_says(engine):
    body = json.dumps(chat()).encode()
    with scripted(engine) as (server, _):
        status, _, answer = raw_told(server.port, f"POST {CHAT} HTTP/1.1\r\nContent-Length: 5", body)
        assert (status, answer["error"]["code"]) == (400, "invalid_json")


def test_a_body_that_does_not_come_is_not_waited_for(engine):
    with scripted(engine, timeout=0.0) as (server, _):
        status, head, answer = raw_told(server.port, f"POST {CHAT} HTTP/1.1\r\nContent-Length: 5")
        assert (status, answer["error"]["code"]) == (408, "timeout")
        assert head["connection"] == "close"


def test_a_server_that_loads_says_so_until_it_has_loaded(engine):
    loading = threading.Event()
    schedules = Scripted(said("a"))

    def load():
        assert loading.wait(PATIENCE)
        return schedules.served(engine)

    with serving(load) as server:
        for path, body in (("/health", None), ("/v1/models", None), (CHAT, chat())):
            status, answer = told(server.port, path, body)
            assert (status, answer["error"]["code"]) == (503, "loading")
        loading.set()
        assert server.ready.wait(PATIENCE)
        assert told(server.port, "/health")[0] == 200
        assert told(server.port, CHAT, chat())[0] == 200


def test_a_server_ends_while_its_model_still_loads(engine):
    loading = threading.Event()

    def load():
        assert loading.wait(PATIENCE)
        return Scripted([]).served(engine)

    with serving(load) as server:
        server.end()
        server.join(PATIENCE)
        assert server.ended_with is None
        assert not server.ready.is_set()
    loading.set()


def test_a_model_that_does_not_load_ends_the_server():
    failing = threading.Event()

    def load():
        assert failing.wait(PATIENCE)
        raise RequestError("no model")

    with serving(load) as server:
        failing.set()
        server.join(PATIENCE)
    assert str(server.ended_with) == "no model"


def test_running_answers_finish_when_the_server_ends(engine):
    with scripted(engine) as (server, schedules):
        schedules.let()
        with ask(server.port, CHAT, chat(stream=True)) as response:
            assert next_event(response)
            assert text(next_event(response)) == "a"
            server.end()
            assert schedules.closing.wait(PATIENCE)
            for path, body in (("/health", None), (CHAT, chat())):
                status, answer = told(server.port, path, body)
                assert (status, answer["error"]["code"]) == (503, "shutting_down")
            schedules.let(2)
            assert events(response)[-1] == "[DONE]"
        server.join(PATIENCE)


def test_answers_that_outlive_their_grace_end_with_an_error(engine):
    with scripted(engine, grace=0.0) as (server, schedules):
        schedules.let()
        with ask(server.port, CHAT, chat(stream=True)) as response:
            assert next_event(response)
            server.end()
            *_, last = events(response)
        assert last["error"]["code"] == "shutting_down"
        server.join(PATIENCE)

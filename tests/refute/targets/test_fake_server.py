"""The simulated engine's server on real sockets: connections, clients that leave, many at once."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fake_asking import OF_ERRORS, TARGET, ask

from refute.targets import fake_server
from refute.targets.fake_answers import Writing
from refute.targets.fake_server import FakeServer, Turns
from refute.wire.client import get

PATIENCE = 30  # seconds until a test gives up; no measure of anything
LONG = "Repeat: " + "a river of light " * 200


@contextmanager
def connected(target=TARGET):
    """A connection that stays open between requests."""
    port = int(target.endpoint.base.rpartition(":")[2].removesuffix("/v1"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def test_routes() -> None:
    with connected() as connection:

        def told(method, path):
            connection.request(method, path)
            with connection.getresponse() as response:
                return response.status, response.getheader("allow"), response.read()

        status, _, models = told("GET", "/v1/models")
        (model,) = json.loads(models)["data"]
        assert (status, model.keys() >= {"id", "object", "created", "owned_by"}) == (200, True)
        assert model["id"] == TARGET.endpoint.model
        assert model["max_model_len"] == TARGET.identity.context
        assert json.loads(told("GET", "/v1/models/fake?x=1")[2]) == model
        for method, path in (("GET", "/v1/models/other"), ("GET", "/v1/other"), ("POST", "/")):
            assert told(method, path)[0] == 404
        assert told("GET", "/health")[::2] == (200, b'{"status": "ok", "running": 0}')
        assert told("GET", "/v1/completions")[:2] == (405, "POST")
        assert told("POST", "/v1/models")[:2] == (405, "GET")
        assert told("HEAD", "/health") == (405, "GET", b"")
        assert told("GET", "/health")[0] == 200  # on the same connection still


@pytest.mark.parametrize("raw", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 70_000])
def test_what_is_no_http_is_told_so_and_nothing_else_happens(raw, capfd) -> None:
    with connected() as connection:
        connection.connect()
        connection.sock.sendall(raw)
        answer = b"".join(iter(lambda: connection.sock.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert get(TARGET.endpoint, "/models").status == 200
    assert capfd.readouterr() == ("", "")


def test_a_client_may_wait_to_be_told_to_send_its_body() -> None:
    body = json.dumps({"model": "fake", "prompt": "Repeat: a", "temperature": 0}).encode()
    with connected() as connection:
        connection.connect()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        connection.sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.sock.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sock.sendall(body)
        assert connection.sock.recv(65536).startswith(b"HTTP/1.1 200 ")


class Gate:
    """Instead of the time that a token takes: each waits until it is let through."""

    def __init__(self) -> None:
        self.begun = 0
        self._passes = threading.Semaphore(0)
        self._open = False

    def __call__(self) -> None:
        self.begun += 1
        assert self._open or self._passes.acquire(timeout=PATIENCE)

    def let(self, count):
        self._passes.release(count)

    def open(self):
        self._open = True
        self.let(99)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def gated(gate):
    """A server of which each token waits at the gate."""
    server = FakeServer(turn=gate)
    yield server
    gate.open()
    server.close()
    assert not server._accepting.is_alive()
    assert not server._connections


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline


def started(server, stream):
    """A connection on which a long answer has been asked for."""
    connection = socket.create_connection(server._address, PATIENCE)
    messages = [{"role": "user", "content": LONG}]
    body = json.dumps({"model": "fake", "messages": messages, "temperature": 0, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    wait_until(lambda: server.running == 1)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_its_answer_at_once(gated, gate, stream) -> None:
    with started(gated, stream):
        gate.let(3)
        wait_until(lambda: gate.begun == 4)
    gate.open()
    wait_until(lambda: gated.running == 0)
    assert gate.begun == 4  # it had begun before


def test_closing_the_server_breaks_answers_off(gated, gate) -> None:
    with started(gated, stream=True) as connection:
        closing = threading.Thread(target=gated.close)
        closing.start()
        told = b"".join(iter(lambda: connection.recv(65536), b""))  # until the connection is closed
        gate.open()  # which lets the thread of the answer find out
        closing.join(PATIENCE)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b"[DONE]" not in told
    assert gated.running == 0
    gated.close()  # again is no error


def test_tokens_take_turns_in_the_order_in_which_they_are_asked_for(monkeypatch) -> None:
    slept, now = [], [100.0]
    monkeypatch.setattr(fake_server, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append))
    turn = Turns(2.0)
    turn()
    turn()
    now[0] = 103.5
    turn()
    now[0] = 200.0
    turn()
    assert slept == [2.0, 4.0, 2.5, 2.0]


def test_32_streams_at_once_say_what_each_says_alone(gated, gate) -> None:
    endpoint = replace(TARGET.endpoint, base=gated.base)
    asked = [{"content": f"Hello {number}", "seed": number, "stream": True} for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        together = [pool.submit(ask, endpoint=endpoint, **each) for each in asked]
        wait_until(lambda: gated.running == 32)
        gate.open()
        answers = [each.result(PATIENCE) for each in together]
    assert [answer.text for answer in answers] == [ask(**each).text for each in asked]
    assert all(answer.done for answer in answers)


def test_a_bug_is_told_as_one(monkeypatch, capfd) -> None:
    monkeypatch.setattr(fake_server, "_READS", {"/v1/chat/completions": lambda _: 1 / 0})
    reply = ask().reply
    assert (reply.status, json.loads(reply.body)["error"].keys()) == (500, OF_ERRORS)
    monkeypatch.undo()
    monkeypatch.setattr(Writing, "chunks", lambda *_: 1 / 0)
    assert ask(stream=True).reply.broken
    assert capfd.readouterr() == ("", "")

"""A server on a free port of the loopback, in a thread, and a client that sees bytes as they come."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

from refute_runtime.serving.main import Server
from refute_runtime.serving.service import Limits, Service

MODEL = "pocket"
PATIENCE = 30  # seconds until a test gives a server up; no measure of anything


@contextmanager
def serving(load, *, key=None, max_body=2**20, timeout=600.0, grace=30.0):
    """Run a server; yields it, with `port`, `ready` (set when the model is loaded), `join`, `ended_with`."""
    ready = threading.Event()
    service = Service(MODEL, load, Limits(max_body, timeout))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(service, key, grace, lambda _: ready.set())
        server.ended_with = None

        def run():
            try:
                server.run(sockets=[listening])
            except Exception as error:  # noqa: BLE001 (the test's own thread asks)
                server.ended_with = error

        thread = threading.Thread(target=run)
        server.port, server.ready, server.join = listening.getsockname()[1], ready, thread.join
        thread.start()
        try:
            told(server.port, "/health")  # which is answered as soon as it has started
            yield server
        finally:
            if thread.is_alive():
                server.end()
                server.end()  # what still runs is not waited for
            thread.join(PATIENCE)
            assert not thread.is_alive()


def ask(port, path, body=None, **headers):
    """Send one request; return the response, open: its body can be read as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    data = None if body is None else json.dumps(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    connection.request(
        "GET" if body is None else "POST", path, data, {"Connection": "close", **kind, **headers}
    )
    return connection.getresponse()


def told(port, path, body=None, **headers):
    """Send one request; return the status and the body's JSON."""
    with ask(port, path, body, **headers) as response:
        return response.status, json.load(response)


def next_event(response):
    """Wait for one server-sent event; its data, or None at the end of the stream."""
    line = response.readline()
    if not line:
        return None
    assert response.readline() == b"\n"
    data = line.removeprefix(b"data: ").strip()
    return data.decode() if data == b"[DONE]" else json.loads(data)


def events(response):
    return list(iter(lambda: next_event(response), None))


def chat(**fields):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **fields}


def completion(**fields):
    return {"model": MODEL, "prompt": "Hello", **fields}

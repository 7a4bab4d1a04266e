"""The simulated engine on the wire: an honest server of OpenAI's API on the loopback, the known-good control.

One thread for each connection, one answer at a time on it, a token at most every `_PACE`: streams are real.
"""

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import h11

from refute.targets.fake_answers import Piece, Writing, pieces
from refute.targets.fake_bodies import MODEL, Asked, Refused, chat, completion, unknown_model
from refute.targets.fake_model import CONTEXT, LAYERS
from refute.targets.fake_work import VirtualClock, Work

_PACE = 0.0003  # seconds
_RECEIVE = 1 << 16
_LARGEST_BODY = 1 << 20
_PATIENCE = 10.0  # seconds until a thread that does not end is left alone
_READS: Mapping[str, Callable[[bytes], Asked]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completion,
}
_DOCUMENT = {
    "paths": {
        path: {"post": {"requestBody": {"content": {"application/json": {"schema": {"required": required}}}}}}
        for path, required in (
            ("/v1/chat/completions", ["model", "messages"]),
            ("/v1/completions", ["model", "prompt"]),
        )
    }
}
"""Which routes generate, and what a body for them must have; the rest of it is left out."""


class FakeServer:
    """Serves from when it is made until it is closed, on a free port.

    dense: the simulated model has no MoE layer. dense_layers: how many of its layers run as dense ones, by
    a fault. seed: of all answers that are asked for without one.
    """

    def __init__(self, *, dense: bool = False, dense_layers: int = 0, seed: int = 0) -> None:
        self._dense = dense
        self._dense_layers = dense_layers
        self._seeds = random.Random(seed)  # noqa: S311
        self._created = int(time.time())
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._running = 0
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._address = self._listener.getsockname()
        self._accepting = threading.Thread(target=self._accept, daemon=True, name="fake-server")
        self._accepting.start()

    @property
    def base(self) -> str:
        """The URL that routes such as `/models` are appended to."""
        return f"http://127.0.0.1:{self._address[1]}/v1"

    @property
    def running(self) -> int:
        """How many answers are computed now."""
        return self._running

    def close(self) -> None:
        """Break all connections off, and wait for their threads."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = [self._accepting, *self._connections.values()]
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            socket.create_connection(self._address, _PATIENCE).close()  # accepting ends with one more
        for thread in threads:
            if thread is not threading.current_thread():  # which may be collecting garbage just now
                thread.join(_PATIENCE)

    def _accept(self) -> None:
        with self._listener:
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    if self._closed:
                        connection.close()
                        return
                    thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                    self._connections[connection] = thread
                    thread.start()

    def _serve(self, connection: socket.socket) -> None:
        exchange = _Exchange(connection)
        try:
            while (asked := exchange.request()) is not None:
                self._respond(exchange, *asked)
                exchange.next()
        except (OSError, h11.ProtocolError):
            pass  # the client is gone, or speaks no HTTP: nobody is left to be told
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()

    def _respond(self, exchange: "_Exchange", method: str, path: str, body: bytes | None) -> None:
        try:
            if path in _READS:
                asked = _READS[path](_content(method, "POST", path, body))
                self._answer(exchange, asked, chat=_READS[path] is chat)
            else:
                known = self._known(path)
                _content(method, "GET", path, body)
                exchange.whole(200, known)
        except Refused as refused:
            exchange.whole(refused.status, refused.body)

    def _known(self, path: str) -> dict[str, Any]:
        model = {
            "id": MODEL,
            "object": "model",
            "created": self._created,
            "owned_by": "refute",
            "max_model_len": CONTEXT,
        }
        told = {
            "/health": {"status": "ok", "running": self._running},
            "/v1/models": {"object": "list", "data": [model]},
            f"/v1/models/{MODEL}": model,
            "/openapi.json": _DOCUMENT,
        }
        if path in told:
            return told[path]
        if path.startswith("/v1/models/"):
            raise unknown_model()
        raise Refused(404, f"there is no {path}")

    def _answer(self, exchange: "_Exchange", asked: Asked, *, chat: bool) -> None:
        work = Work(VirtualClock(), random.Random(0), rate=1, prefill_speedup=1, noise=0, dense=self._dense)  # noqa: S311
        writing = Writing(asked, chat=chat, work=work)
        with self._lock:
            self._running += 1
            seed = self._seeds.getrandbits(64) if asked.settings.seed is None else asked.settings.seed
        try:
            told = self._computed(exchange, asked, random.Random(seed), work)  # noqa: S311
            if asked.stream:
                with exchange.stream() as send:
                    for chunk in writing.opening():
                        send(_json(chunk))
                    for piece in told:
                        for chunk in writing.chunks(piece):
                            send(_json(chunk))
                    send("[DONE]")
            else:
                exchange.whole(200, writing.whole(list(told)))
        finally:
            with self._lock:
                self._running -= 1

    def _computed(
        self, exchange: "_Exchange", asked: Asked, draw: random.Random, work: Work
    ) -> Iterator[Piece]:
        """Compute one token after the other, while the client is there."""
        rows = 0

        def forward(tokens: int) -> None:
            nonlocal rows
            exchange.check()
            time.sleep(_PACE)
            work.forward(tokens, LAYERS * rows, self._dense_layers, guards=0)
            rows += tokens

        return (piece for piece in pieces(asked, draw, forward) if piece is not None)


def _content(method: str, expected: str, path: str, body: bytes | None) -> bytes:
    if method != expected:
        raise Refused(405, f"{path} does not take {method}, expected {expected}")
    if body is None:
        raise Refused(413, f"the body is larger than {_LARGEST_BODY} bytes")
    return body


class _Exchange:
    """Requests and responses on one connection. Raises `OSError` and `h11.ProtocolError` where it ends."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._protocol = h11.Connection(h11.SERVER)

    def request(self) -> tuple[str, str, bytes | None] | None:
        """Method, path and body, which is None where it is too large; None where the client has left."""
        protocol, body, head = self._protocol, bytearray(), None
        try:
            while True:
                match protocol.next_event():
                    case h11.NEED_DATA:
                        if protocol.they_are_waiting_for_100_continue:
                            self._send(h11.InformationalResponse(status_code=100, headers=[]))
                        protocol.receive_data(self._connection.recv(_RECEIVE))
                    case h11.Request() as head:
                        pass
                    case h11.Data() as data:
                        body += data.data
                        if len(body) > _LARGEST_BODY:
                            break
                    case h11.EndOfMessage():
                        break
                    case _:
                        return None
        except h11.RemoteProtocolError as error:
            if protocol.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                self.whole(400, Refused(400, f"this is no HTTP: {error}").body)
            raise
        assert head is not None
        path = head.target.decode().partition("?")[0]
        return head.method.decode(), path, None if len(body) > _LARGEST_BODY else bytes(body)

    def next(self) -> None:
        """Make ready for a further request; raises where the client does not want one."""
        self._protocol.start_next_cycle()

    def check(self) -> None:
        """Raise `ConnectionError` where the client has left."""
        try:
            if not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                raise ConnectionAbortedError
        except BlockingIOError:
            pass

    def whole(self, status: int, value: object) -> None:
        """Respond with JSON."""
        raw = _json(value).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(raw)))]
        self._send(h11.Response(status_code=status, headers=headers), h11.Data(data=raw), h11.EndOfMessage())

    @contextmanager
    def stream(self) -> Iterator[Callable[[str], None]]:
        """Respond with server-sent events: yields what sends one, at once."""
        headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")]
        self._send(h11.Response(status_code=200, headers=headers))
        yield lambda data: self._send(h11.Data(data=f"data: {data}\n\n".encode()))
        self._send(h11.EndOfMessage())

    def _send(self, *events: Any) -> None:
        self._connection.sendall(b"".join(self._protocol.send(event) or b"" for event in events))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)

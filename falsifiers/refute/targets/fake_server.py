"""The simulated engine on the wire: an honest server of OpenAI's API on the loopback, the known-good control.

One thread for each connection; but all answers are computed by one engine, token by token in turns, so that
streams are real, and an answer that nobody waits for costs those who stay.
"""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import h11

from refute.targets.fake_answers import Writing, pieces
from refute.targets.fake_bodies import Asked, chat, completion
from refute.targets.fake_fields import MODEL, Refused, unknown_model
from refute.targets.fake_http import Exchange, text_of
from refute.targets.fake_model import CONTEXT
from refute.targets.fake_work import Forwards

_PACE = 0.0006  # seconds for a token: most of what an answer takes, so that times are those of the engine
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


class Turns:
    """An engine that computes one token at a time, in the order in which they are asked for."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._free = 0.0  # when all that was asked for is computed

    def __call__(self) -> None:
        with self._lock:
            self._free = max(self._free, time.monotonic()) + self._seconds
            mine = self._free
        time.sleep(max(mine - time.monotonic(), 0.0))


class FakeServer:
    """Serves from when it is made until it is closed, on a free port.

    seed: of all answers that are asked for without one. forwards: gives what counts those of one answer.
    turn: called for each token, returns when it is computed.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        forwards: Callable[[], Forwards] = Forwards,
        turn: Callable[[], object] | None = None,
    ) -> None:
        self._forwards = forwards
        self._turn = Turns(_PACE) if turn is None else turn
        self._seeds = random.Random(seed)  # noqa: S311
        self._created = int(time.time())
        self._lock = threading.RLock()  # a thread that has it may collect garbage, and close a server
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
                with suppress(OSError):  # it may have ended just now
                    connection.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            socket.create_connection(self._address, _PATIENCE).close()  # what is waited for is one more
        for thread in threads:
            if thread is not threading.current_thread():  # which may be collecting garbage
                thread.join(_PATIENCE)

    def _accept(self) -> None:
        with self._listener:
            while not self._closed:
                with suppress(OSError):  # a client that left before it was let in
                    self._admit(self._listener.accept()[0])

    def _admit(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True, name="fake-connection")
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        exchange = Exchange(connection)
        try:
            while (request := exchange.request()) is not None:
                self._respond(exchange, *request)
        except h11.RemoteProtocolError as error:
            if not exchange.answered:
                refused = Refused(400, f"this is no HTTP: {error}", code="invalid_http")
                with suppress(OSError, h11.ProtocolError):
                    exchange.whole(refused.status, refused.body, refused.headers)
                    exchange.hang_up()
        except (OSError, h11.LocalProtocolError):
            pass  # the client has left, or wants no further answer
        finally:
            with self._lock:
                del self._connections[connection]
            connection.close()

    def _respond(self, exchange: Exchange, method: str, path: str, body: bytes | None) -> None:
        try:
            if path in _READS:
                asked = _READS[path](_content(method, "POST", path, body))
                self._answer(exchange, asked, chat=path == "/v1/chat/completions")
            else:
                known = self._known(path)
                _content(method, "GET", path, body)
                exchange.whole(200, known, {})
        except Refused as refused:
            exchange.whole(refused.status, refused.body, refused.headers)
        except (OSError, h11.ProtocolError):
            raise
        except Exception as error:
            if exchange.answered:
                raise ConnectionAbortedError from error  # breaks the answer off
            failed = Refused(500, f"the simulated server has a bug: {error!r}", code="internal_error")
            exchange.whole(failed.status, failed.body, failed.headers)

    def _known(self, path: str) -> Mapping[str, Any]:
        model = {"id": MODEL, "object": "model", "created": self._created, "owned_by": "refute"}
        model |= {"max_model_len": CONTEXT}
        told: Mapping[str, Mapping[str, Any]] = {
            "/health": {"status": "ok", "running": self._running},
            "/v1/models": {"object": "list", "data": [model]},
            f"/v1/models/{MODEL}": model,
            "/openapi.json": _DOCUMENT,
        }
        if path in told:
            return told[path]
        if path.startswith("/v1/models/"):
            raise unknown_model()
        raise Refused(404, f"there is no {path}", code="not_found")

    def _answer(self, exchange: Exchange, asked: Asked, *, chat: bool) -> None:
        forwards = self._forwards()
        writing = Writing(asked, forwards, chat=chat)

        def forward(tokens: int) -> None:
            exchange.check()
            self._turn()
            forwards.count(tokens)

        with self._running_for(asked) as draw:
            told = pieces(asked, draw, forward)
            if not asked.stream:
                exchange.whole(200, writing.whole(list(told)), {})
                return
            with exchange.stream() as send:
                for chunk in writing.opening():
                    send(text_of(chunk))
                for piece in told:
                    for chunk in writing.chunks(piece):
                        send(text_of(chunk))
                send("[DONE]")

    @contextmanager
    def _running_for(self, asked: Asked) -> Iterator[random.Random]:
        """Count a request while it runs; gives what its tokens are drawn with."""
        with self._lock:
            self._running += 1
            seed = self._seeds.getrandbits(64) if asked.settings.seed is None else asked.settings.seed
        try:
            yield random.Random(seed % 2**64)  # noqa: S311  (of a negative one it would drop the sign)
        finally:
            with self._lock:
                self._running -= 1


def _content(method: str, expected: str, path: str, body: bytes | None) -> bytes:
    """Return the body of a request by this method. Raises `Refused` for another one, and for no body."""
    if method != expected:
        message = f"{path} does not take {method}, expected {expected}"
        raise Refused(405, message, code="method_not_allowed", allow=expected)
    if body is None:
        raise Refused(413, "the body is too large, expected at most 1 MiB", code="body_too_large")
    return body

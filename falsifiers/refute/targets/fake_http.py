"""Requests and responses of HTTP/1.1 on one connection of a server, as plain as they can be."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import h11

_RECEIVE = 1 << 16
_LARGEST_BODY = 1 << 20


class Exchange:
    """One exchange after another. Raises `OSError` or `h11.ProtocolError` where there is no further one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._protocol = h11.Connection(h11.SERVER)
        self._method = ""

    @property
    def answered(self) -> bool:
        """Whether a response has begun."""
        return self._protocol.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    def request(self) -> tuple[str, str, bytes | None] | None:
        """Wait for method, path and body; the body is None if too large, all is None if the client left."""
        body, target, excess = bytearray(), "", False
        if self._protocol.our_state is not h11.IDLE:
            self._protocol.start_next_cycle()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                if self._protocol.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._protocol.receive_data(self._connection.recv(_RECEIVE))
            elif isinstance(event, h11.Request):
                self._method, target = event.method.decode(), event.target.decode()
            elif isinstance(event, h11.Data):
                excess = excess or len(body) + len(event.data) > _LARGEST_BODY
                body += b"" if excess else event.data  # the rest is read, so that the client hears the answer
            elif isinstance(event, h11.EndOfMessage):
                return self._method, target.partition("?")[0], None if excess else bytes(body)
            else:
                return None

    def check(self) -> None:
        """Raise `ConnectionError` where the client has left."""
        try:
            gone = not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if gone:
            raise ConnectionAbortedError("the client has left")

    def whole(self, status: int, value: object, headers: Mapping[str, str]) -> None:
        """Respond with JSON."""
        raw = text_of(value).encode()
        known = {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}
        content = [] if self._method == "HEAD" else [h11.Data(data=raw)]
        self._send(h11.Response(status_code=status, headers=[*known.items()]), *content, h11.EndOfMessage())

    def hang_up(self) -> None:
        """Say nothing more, and read on to the end: bytes left unread would cost the client the response."""
        self._connection.shutdown(socket.SHUT_WR)
        while self._connection.recv(_RECEIVE):
            pass

    @contextmanager
    def stream(self) -> Iterator[Callable[[str], None]]:
        """Respond with server-sent events: gives what sends one, at once."""
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        self._send(h11.Response(status_code=200, headers=[*headers.items()]))
        yield lambda data: self._send(h11.Data(data=f"data: {data}\n\n".encode()))
        self._send(h11.EndOfMessage())

    def _send(self, *events: Any) -> None:
        self._connection.sendall(b"".join(self._protocol.send(event) or b"" for event in events))


def text_of(value: object) -> str:
    """Write JSON, characters as they are."""
    return json.dumps(value, ensure_ascii=False)

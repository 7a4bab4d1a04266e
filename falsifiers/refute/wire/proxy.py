"""A proxy on a free port of the loopback, in front of any engine; bytes go on as they come.

One connection is one exchange, on a thread of its own. Who leaves on one side is let go on the other at once.
Where the engine breaks off, so does the answer: no end is made up.
"""

import json
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import h11

from refute.targets.base import TargetError
from refute.wire.client import EVENT_STREAM, connect
from refute.wire.endpoint import Endpoint
from refute.wire.exchange import Blocks, Canned, Cut, Exchange, Pause, Sent, object_of

_RECEIVE = 1 << 16
_LARGEST_BODY = 1 << 26
_LARGEST_EVENT = 1 << 22
_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}
)
Begins = Callable[[], Exchange]
"""Called for each POST; says what happens to it."""


class _Over(Exception):  # noqa: N818 (an end, not a failure)
    """Nothing more can be done for this client."""


@contextmanager
def proxied(endpoint: Endpoint, begins: Begins = Exchange) -> Iterator[Endpoint]:
    """Give an endpoint that is this one behind a proxy; at the end every connection is closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        proxy = _Proxy(endpoint, begins)
        thread = threading.Thread(target=proxy.accept, args=(listening,), daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        try:
            yield replace(endpoint, base=f"http://127.0.0.1:{port}{urlsplit(endpoint.base).path}")
        finally:
            proxy.close(port, thread)


@dataclass(slots=True)
class _Proxy:
    endpoint: Endpoint
    begins: Begins
    open: set[socket.socket] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: set[threading.Thread] = field(default_factory=set)
    closed: bool = False

    def accept(self, listening: socket.socket) -> None:
        while not self.closed:
            with suppress(OSError):
                client, _ = listening.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                with self.lock:
                    self.threads.add(thread)
                thread.start()

    def close(self, port: int, accepting: threading.Thread) -> None:
        """Close what is open, and wait until nobody uses it."""
        self.closed = True
        with suppress(OSError):  # which ends the waiting for the next client
            socket.create_connection(("127.0.0.1", port), 1).close()
        accepting.join()
        with self.lock:
            serving = tuple(self.threads)
            for each in self.open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in serving:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        # Nobody is told of an error but by a closed connection; JSON can be nested too deeply to be written.
        ends = suppress(OSError, TargetError, h11.ProtocolError, RecursionError, _Over)
        with ends, self._kept(client):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked = _Asked.read(client)
            with self.lock:
                exchange = self.begins() if asked.method == "POST" else Exchange()
            self._exchange(_Answering(client), asked, exchange)
        with self.lock:
            self.threads.discard(threading.current_thread())

    def _exchange(self, answering: "_Answering", asked: "_Asked", exchange: Exchange) -> None:
        body = object_of(asked.body)
        if body is not None:
            canned = exchange.instead(asked.target, body)
            if canned is not None:
                answering.whole(canned, ())
                return
            asked = replace(asked, body=_dumped(exchange.request(body), asked.body, body))
        host = urlsplit(self.endpoint.base).netloc.rpartition("@")[2]
        with self._kept(connect(self.endpoint)) as upstream, selectors.DefaultSelector() as ready:
            upstream.sendall(asked.sent(host))
            engine = _Engine(asked.method, upstream, answering.client, ready, keeps=exchange.keeps)
            _pass_on(engine, answering, exchange)

    @contextmanager
    def _kept(self, connection: socket.socket) -> Iterator[socket.socket]:
        """Keep a connection where `close` finds it."""
        with closing(connection):
            with self.lock:
                self.open.add(connection)
            try:
                if self.closed:
                    raise _Over
                yield connection
            finally:
                with self.lock:
                    self.open.discard(connection)


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def read(cls, client: socket.socket) -> "_Asked":
        protocol, body = h11.Connection(h11.SERVER), bytearray()
        head: h11.Request | None = None
        while True:
            match protocol.next_event():
                case h11.NEED_DATA:
                    if protocol.they_are_waiting_for_100_continue:
                        client.sendall(
                            protocol.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                        )
                    protocol.receive_data(client.recv(_RECEIVE))
                case h11.Request() as request:
                    head = request
                case h11.Data(data=data) if len(body) + len(data) <= _LARGEST_BODY:
                    body += data
                case h11.EndOfMessage() if head is not None:
                    headers = _passed(head.headers)
                    return cls(head.method.decode(), head.target.decode(), headers, bytes(body))
                case _:
                    raise _Over

    def sent(self, host: str) -> bytes:
        """The bytes of this request for the engine; it closes the connection after its answer."""
        protocol = h11.Connection(h11.CLIENT)
        kept = (header for header in self.headers if header[0] != "host")
        headers = [("Host", host), *kept, ("Connection", "close")]
        if self.body or self.method == "POST":
            headers.append(("Content-Length", str(len(self.body))))
        request = h11.Request(method=self.method, target=self.target, headers=headers)
        events = request, h11.Data(data=self.body), h11.EndOfMessage()
        return b"".join(
            protocol.send(event) or b"" for event in events if event is not events[1] or self.body
        )


@dataclass(slots=True)
class _Answering:
    """The client's side of one exchange."""

    client: socket.socket

    def whole(self, answer: Canned, headers: Iterable[tuple[str, str]]) -> None:
        self.client.sendall(self._head(answer, headers, len(answer.body)) + answer.body)

    def broken(self, answer: Canned, headers: Iterable[tuple[str, str]], parts: Iterable[Sent]) -> None:
        """Begin an answer, and send what there is of it."""
        self.client.sendall(self._head(answer, headers, len(answer.body)))
        self.parts(parts, chunked=False)

    def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Begin a stream."""
        lines = [f"{name}: {value}" for name, value in (*headers, ("Transfer-Encoding", "chunked"))]
        head = "\r\n".join([f"HTTP/1.1 {status} Answer", *lines, "Connection: close", "", ""])
        self.client.sendall(head.encode("latin-1"))

    def parts(self, parts: Iterable[Sent], *, chunked: bool = True) -> None:
        for part in parts:
            match part:
                case Pause(seconds):
                    self._wait(seconds)
                case Cut():
                    raise _Over
                case bytes() if part:
                    self.client.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)

    def end(self) -> None:
        self.client.sendall(b"0\r\n\r\n")

    def _wait(self, seconds: float) -> None:
        """Let time pass; a client that goes away meanwhile ends it."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.client, selectors.EVENT_READ)
            if ready.select(seconds):
                raise _Over

    @staticmethod
    def _head(answer: Canned, headers: Iterable[tuple[str, str]], length: int) -> bytes:
        kept = [(name, value) for name, value in headers if name.lower() != "content-type"]
        own = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(length)),
            ("Connection", "close"),
        ]
        lines = [f"{name}: {value}" for name, value in (*kept, *own) if value]
        return "\r\n".join([f"HTTP/1.1 {answer.status} Answer", *lines, "", ""]).encode("latin-1")


@dataclass(slots=True)
class _Engine:
    """The engine's side of one exchange: h11's events, as soon as their bytes are there."""

    method: str
    upstream: socket.socket
    client: socket.socket
    ready: selectors.BaseSelector
    keeps: bool
    protocol: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))

    def __post_init__(self) -> None:
        # The request went out as bytes of its own; h11 has to know that there was one.
        self.protocol.send(h11.Request(method=self.method, target="/", headers=[("Host", "h")]))
        self.protocol.send(h11.EndOfMessage())
        self.ready.register(self.upstream, selectors.EVENT_READ)
        self.ready.register(self.client, selectors.EVENT_READ)

    def events(self) -> Iterator[Any]:
        """Yield them up to the end of the message. Raises `_Over` where one of the two went away."""
        while True:
            event = self.protocol.next_event()
            if event is h11.NEED_DATA:
                self._wait()
                self.protocol.receive_data(self.upstream.recv(_RECEIVE))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                raise _Over
            else:
                yield event
                if isinstance(event, h11.EndOfMessage):
                    return

    def _wait(self) -> None:
        """Wait for bytes of the engine; a client that went away meanwhile ends it."""
        while not (isinstance(self.upstream, ssl.SSLSocket) and self.upstream.pending()):
            readable = {key.fileobj for key, _ in self.ready.select()}
            if self.client in readable:
                if not self.keeps:
                    raise _Over  # it had sent all of its request, so this is its end
                self.ready.unregister(self.client)
            if self.upstream in readable:
                return


def _pass_on(engine: _Engine, answering: _Answering, exchange: Exchange) -> None:
    """Hand an answer on: a stream as its bytes come, anything else when it is whole."""
    head: h11.Response | None = None
    streaming, body, blocks = False, bytearray(), Blocks()
    for event in engine.events():
        match event:
            case h11.Response():
                head = event
                kind = _header(head, "content-type").partition(";")[0].strip().lower()
                streaming = head.status_code == 200 and kind == EVENT_STREAM
                if streaming:
                    answering.begin(head.status_code, _passed(head.headers))
            case h11.Data() if streaming:
                for block in blocks.feed(bytes(event.data)):
                    _send(answering, exchange.event(block), keeps=exchange.keeps)
                if len(blocks.rest) > _LARGEST_EVENT:
                    raise _Over
            case h11.Data() if len(body) + len(event.data) <= _LARGEST_BODY:
                body += event.data
            case h11.Data():
                raise _Over
    assert head is not None
    if streaming:
        answering.parts([*exchange.end(), blocks.rest])
        answering.end()
        return
    answer = Canned(head.status_code, _header(head, "content-type"), bytes(body))
    changed = exchange.whole(answer)
    if isinstance(changed, Canned):
        answering.whole(changed, _passed(head.headers))
    else:
        answering.broken(answer, _passed(head.headers), changed)


def _send(answering: _Answering, parts: Iterable[Sent], *, keeps: bool) -> None:
    """Send; one that keeps reading from the engine does so too where nobody listens any more."""
    try:
        answering.parts(parts)
    except OSError:
        if not keeps:
            raise


def _passed(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The headers that are for both sides: those of one connection, and those that it names, stay behind."""
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    listed = {
        each.strip().lower() for name, value in named if name == "connection" for each in value.split(",")
    }
    return tuple((name, value) for name, value in named if name not in _HOP | listed)


def _header(head: h11.Response, wanted: str) -> str:
    return next((value.decode("latin-1") for name, value in head.headers if name.decode() == wanted), "")


def _dumped(body: Any, raw: bytes, before: Any) -> bytes:
    """Write a body again only where it changed."""
    return raw if body == before else json.dumps(body).encode()

"""One HTTP exchange on a socket of its own, every receipt timed where `recv` returns.

Client libraries hand bytes out when they see fit; here nothing lies between the socket and the clock but the
parser of HTTP/1.1 (h11), which is fed after the clock was read.
"""

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h11

from refute.targets.base import TargetError
from refute.wire.endpoint import Endpoint, Event, Reply
from refute.wire.sse import EventReader

_RECEIVE = 1 << 16
_CONNECT_SECONDS = 10.0
_HIDDEN = "<redacted>"
_SHORTEST_KEY = 8  # shorter ones are no secrets, and may stand in any text
_BUSY = {429: "is busy", 503: "is not ready"}
EVENT_STREAM = "text/event-stream"
Leaves = Callable[[int], bool]
"""Told after every receipt how many events came; true where the client wants no more."""


def post(
    endpoint: Endpoint, route: str, body: Mapping[str, Any] | bytes, *, leaves: Leaves | None = None
) -> Reply:
    """POST a body, JSON or bytes as they are, to a route such as `/chat/completions`; wait for all of it.

    leaves: closes the connection once it says so. Raises `TargetError` where nobody listens, or where the
    server says that it is busy or still loading: neither is an answer.
    """
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = _exchange(endpoint, "POST", route, raw, leaves)
    if reply.status in _BUSY:
        raise TargetError(f"{endpoint.base} {_BUSY[reply.status]} ({reply.status}): {reply.body[:200]}")
    return reply


def get(endpoint: Endpoint, route: str) -> Reply:
    """GET a route. Raises `TargetError` where nobody listens."""
    return _exchange(endpoint, "GET", route, b"", None)


@dataclass(slots=True)
class _Receiving:
    """What came so far; times are readings of the clock."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    head: int = 0
    whole: bool = False
    reader: EventReader = field(default_factory=EventReader)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def take(self, event: Any, now: int) -> None:
        match event:
            case h11.Response():
                self.status, self.head = event.status_code, now
                self.headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            case h11.Data() if self.content_type == EVENT_STREAM:
                self.events += [Event(now, data) for data in self.reader.feed(bytes(event.data))]
            case h11.Data():
                self.body += event.data
            case h11.EndOfMessage():
                self.whole = True


def _exchange(endpoint: Endpoint, method: str, route: str, body: bytes, leaves: Leaves | None) -> Reply:
    url = urlsplit(endpoint.base + route)
    headers = {"Host": url.netloc.rpartition("@")[2], "Accept": "*/*", "Connection": "close"}
    if method == "POST":
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    protocol, clock, got = h11.Connection(h11.CLIENT), endpoint.clock, _Receiving()
    path = url.path + (f"?{url.query}" if url.query else "")
    head = protocol.send(h11.Request(method=method, target=path, headers=list(headers.items())))
    content = protocol.send(h11.Data(data=body)) or b""
    broken, left = None, False
    with connect(endpoint) as connection:
        started = clock()  # before it is sent: who sleeps right after sending would find the answer there
        try:
            connection.sendall((head or b"") + content + (protocol.send(h11.EndOfMessage()) or b""))
            while not got.whole and not left:
                piece = connection.recv(_RECEIVE)
                now = clock()
                if not piece and not got.status:
                    broken = "the connection was closed before an answer began"
                    break
                protocol.receive_data(piece)
                while not got.whole and (event := protocol.next_event()) is not h11.NEED_DATA:
                    got.take(event, now)
                left = leaves is not None and not got.whole and leaves(len(got.events))
        except h11.RemoteProtocolError as error:
            broken = str(error)
        except TimeoutError:
            broken = f"not a byte came for {endpoint.silence:g} s"
        except OSError as error:
            broken = f"the connection broke: {error.strerror or error}"
        ended = clock()
    hide = _hider(endpoint.key)
    times = (*(each.ns - started for each in got.events), got.head - started, ended - started)
    *moments, head_ns, end_ns = times if endpoint.retimed is None else endpoint.retimed(times)
    return Reply(
        status=got.status,
        content_type=got.content_type,
        headers=got.headers,
        events=tuple(Event(ns, hide(event.data)) for event, ns in zip(got.events, moments, strict=True)),
        body=hide(bytes(got.body).decode("utf-8", "replace")),
        head_ns=head_ns if got.status else 0,
        end_ns=end_ns,
        broken=broken,
        left=left,
    )


def _hider(key: str | None) -> Callable[[str], str]:
    """Return what takes a key out of texts: replies go into records, and some servers repeat it."""
    if key is None or len(key) < _SHORTEST_KEY:
        return lambda text: text
    return lambda text: text.replace(key, _HIDDEN)


def connect(endpoint: Endpoint) -> socket.socket:
    """Open a connection to where an endpoint is; raises `TargetError` where nobody listens.

    TCP_NODELAY: a request must not wait for the answer to an earlier packet.
    """
    url = urlsplit(endpoint.base)
    host, secure = url.hostname or "", url.scheme == "https"
    try:
        connection = socket.create_connection((host, url.port or (443 if secure else 80)), _CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(endpoint.silence)
        if secure:
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    except OSError as error:
        raise TargetError(f"cannot reach {endpoint.base}: {error.strerror or error}") from None
    return connection

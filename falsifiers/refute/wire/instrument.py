"""How well our own reader tells times: it reads a stream whose sender notes when it sends each event.

A claim about gaps counts only where the reader's error is small against its bound. Sender and reader are two
threads of this process on one clock, so the error also holds what this host's load does to them now.
"""

import math
import socket
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from refute.wire.client import EVENT_STREAM, post
from refute.wire.endpoint import Dialect, Endpoint

_PATIENCE = 10.0  # seconds until either side gives up
_HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {EVENT_STREAM}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


def check_instrument(events: int = 40, gap_ms: float = 2.0) -> dict[str, Any]:
    """Read `events` events that are sent `gap_ms` apart, and compare the times with the sender's own.

    lag_us: what lies between the moment before an event is sent and its receipt. gap_error_us: by how much
    the time between two receipts differs from the time between the two sendings, without its sign. Both in
    microseconds, as median, p99 (nearest rank) and worst. sent_gap_us: the median gap as it was sent, which
    is longer than asked for where the host wakes the sender late.

    Raises ValueError for numbers that make no stream, RuntimeError where the reader lost or made up events.
    """
    if events < 2 or not 0 < gap_ms < math.inf:
        raise ValueError(f"{events} events, {gap_ms} ms apart: expected at least 2, more than 0 ms apart")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(_PATIENCE)
        sender = _Sender(listening, events, gap_ms / 1e3)
        sender.start()
        try:
            received = _received(listening.getsockname()[1])
        finally:
            sender.join(2 * _PATIENCE)
    if sender.failure is not None:
        raise RuntimeError(f"the instrument's check could not send: {sender.failure}")
    return errors(sender.sent, received, gap_ms=gap_ms)


def errors(sent: Sequence[int], received: Sequence[int], *, gap_ms: float) -> dict[str, Any]:
    """Compare times of sending and receipt, in nanoseconds. Raises RuntimeError for unlike counts."""
    if len(sent) != len(received):
        raise RuntimeError(f"the instrument's check sent {len(sent)} events, and {len(received)} were read")
    gaps = [[later - sooner for sooner, later in pairwise(times)] for times in (sent, received)]
    return {
        "events": len(sent),
        "gap_ms": gap_ms,
        "sent_gap_us": _microseconds(median(gaps[0])),
        "lag_us": _spread([there - here for here, there in zip(sent, received, strict=True)]),
        "gap_error_us": _spread([abs(read - gap) for gap, read in zip(*gaps, strict=True)]),
    }


class _Sender(threading.Thread):
    """Answers one request with a stream, as servers send it: one chunk for each event."""

    def __init__(self, listening: socket.socket, events: int, gap: float) -> None:
        super().__init__(name="instrument", daemon=True)
        self._listening, self._events, self._gap = listening, events, gap
        self.sent: list[int] = []
        self.failure: str | None = None

    def run(self) -> None:
        try:
            connection, _ = self._listening.accept()
            with connection:
                connection.settimeout(_PATIENCE)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answer(connection)
        except OSError as error:
            self.failure = str(error)

    def _answer(self, connection: socket.socket) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n{}"):
            piece = connection.recv(4096)
            if not piece:
                raise OSError("the reader left before its request was whole")
            request += piece
        connection.sendall(_HEAD)
        for number in range(self._events):
            time.sleep(self._gap)
            event = b"data: %d\n\n" % number
            chunk = b"%x\r\n%s\r\n" % (len(event), event)
            self.sent.append(time.perf_counter_ns())
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")


def _received(port: int) -> list[int]:
    """Read the stream as every claim's stream is read; times of receipt on the clock itself."""
    readings = [0]

    def clock() -> int:
        readings[0] = time.perf_counter_ns()
        return readings[0]

    dialect = Dialect("instrument", frozenset())
    reply = post(
        Endpoint(f"http://127.0.0.1:{port}", "instrument", dialect, silence=_PATIENCE, clock=clock), "/", {}
    )
    if reply.broken is not None:
        raise RuntimeError(f"the instrument's check was not read to its end: {reply.broken}")
    started = readings[0] - reply.end_ns  # the clock was last read when all was over
    return [started + event.ns for event in reply.events]


def _spread(errors: Sequence[int]) -> dict[str, float]:
    ranked = sorted(errors)
    figures = median(ranked), ranked[math.ceil(0.99 * len(ranked)) - 1], ranked[-1]
    return dict(zip(("median", "p99", "worst"), map(_microseconds, figures), strict=True))


def _microseconds(nanoseconds: float) -> float:
    return round(nanoseconds / 1e3, 3)

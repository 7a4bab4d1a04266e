"""Where an OpenAI-compatible server answers, and what it answered, as the socket gave it.

Nothing here holds an opinion: a reply that breaks off, or is no JSON, is a reply. Times are nanoseconds since
the last byte of the request was handed to the socket.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from refute.targets.base import Clock

Times = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an engine promises on the wire, and how it wants to be asked where engines differ.

    capabilities: those of `Target` that begin with `http`. fresh: body fields with which a request reuses
    nothing of earlier ones; None where there is no way to say it. salt: the field that does so by a text that
    no earlier request had. untruncated: body fields with which nothing but the temperature shapes what is
    drawn, for engines that do more unasked. counters: body fields that ask for what the engine did; only with
    the capability http_counters.
    """

    name: str
    capabilities: frozenset[str]
    fresh: Mapping[str, Any] | None = None
    salt: str | None = None
    untruncated: Mapping[str, Any] = field(default_factory=dict)
    counters: Mapping[str, Any] | None = None

    def unshared(self) -> dict[str, Any]:
        """Body fields for one request that is to reuse nothing, as far as the engine lets it say so."""
        salted = {} if self.salt is None else {self.salt: secrets.token_hex(16)}
        return {**(self.fresh or {}), **salted}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    base: the URL that routes are appended to, `http://127.0.0.1:8080/v1` for one. key: sent as a bearer
    token. silence: seconds without a byte after which an answer counts as broken off. clock: monotonic
    nanoseconds. retimed: what makes the times that a reply shows of those that were read (clock faults).
    """

    base: str
    model: str
    dialect: Dialect
    key: str | None = field(default=None, repr=False)
    silence: float = 60.0
    clock: Clock = time.perf_counter_ns
    retimed: Callable[[Times], Times] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event: its data, and when the byte that completed it was received."""

    ns: int
    data: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    status: 0 where no answer began. content_type: without parameters, in lower case. events: of a
    text/event-stream; body: the text of any other. head_ns, end_ns: when the head was there, and when all
    was over. broken: why the answer is not whole, in one sentence; None where it ended as HTTP says it
    must. left: the client itself went away.
    """

    status: int
    content_type: str
    headers: Mapping[str, str]
    events: tuple[Event, ...]
    body: str
    head_ns: int
    end_ns: int
    broken: str | None = None
    left: bool = False

    def to_samples(self) -> dict[str, Any]:
        """Return it as what a record holds; headers are left out, but for the type."""
        return {
            "status": self.status,
            "content_type": self.content_type,
            "events": [[event.ns, event.data] for event in self.events],
            "body": self.body,
            "head_ns": self.head_ns,
            "end_ns": self.end_ns,
            "broken": self.broken,
            "left": self.left,
        }

    @classmethod
    def of_samples(cls, samples: Mapping[str, Any]) -> Self:
        """Read back what `to_samples` gave."""
        events = tuple(Event(ns, data) for ns, data in samples["events"])
        return cls(**{**samples, "events": events, "headers": {}})

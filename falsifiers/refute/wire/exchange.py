"""What a proxy lets happen to one exchange: as it stands nothing, and what a fault overrides.

A request is looked at where its body is a JSON object, an answer where it is JSON or server-sent events; all
else passes as it came.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer without the engine: whole, or the bytes of a stream's events."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is sent for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection is closed in the middle of the answer."""


Sent = bytes | Pause | Cut


@dataclass(frozen=True, slots=True)
class Block:
    """One event of a stream, as it came. value: its data, where that is a JSON object."""

    raw: bytes

    @property
    def data(self) -> str:
        lines = re.split(rb"\r\n|\n|\r", self.raw)
        found = (line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        return b"\n".join(found).decode("utf-8", "replace")

    @property
    def value(self) -> Json | None:
        return object_of(self.data)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Block":
        return cls(b"data: " + json.dumps(value).encode() + b"\n\n")


@dataclass(slots=True)
class Blocks:
    """Cuts a stream, fed in pieces of any size, behind every event. rest: what is no whole event yet."""

    rest: bytes = b""

    def feed(self, piece: bytes) -> list[Block]:
        """Return the events that are complete now; all of them and the rest are the bytes that came."""
        data, complete, start = self.rest + piece, [], 0
        for end in _EVENT_END.finditer(data, max(0, len(self.rest) - 3)):
            complete.append(Block(data[start : end.end()]))
            start = end.end()
        self.rest = data[start:]
        return complete


class Exchange:
    """One request and its answer; an instance is of one exchange alone.

    keeps: the engine is not told when the client leaves.
    """

    keeps = False

    def request(self, body: Json) -> Json:
        """Return the body that the engine gets."""
        return body

    def instead(self, route: str, body: Json) -> Canned | None:  # noqa: ARG002 (for subclasses)
        """Return an answer that the engine is not asked for."""
        return None

    def whole(self, answer: Canned) -> Iterable[Sent] | Canned:
        """Return the whole answer that the client gets, or what it gets of it."""
        return answer

    def event(self, block: Block) -> Iterable[Sent]:
        """Return what the client gets for one event."""
        return (block.raw,)

    def end(self) -> Iterable[Sent]:
        """Return what the client gets when the engine ended the stream."""
        return ()


def object_of(text: str | bytes) -> Json | None:
    """Return the JSON object that a text is; None where it is anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

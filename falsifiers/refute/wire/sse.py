"""Server-sent events from pieces of bytes, as the HTML standard parses them; only their data is kept.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from dataclasses import dataclass, field

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(slots=True)
class EventReader:
    """Give it the bytes in pieces of any size; it returns the data of the events that each completes.

    Comments, names, ids and retry times are skipped; an event without data is none; what the stream breaks
    off in is dropped, as the standard says.
    """

    _rest: bytes = b""
    _data: list[str] = field(default_factory=list)
    _fed: bool = False

    def feed(self, piece: bytes) -> list[str]:
        """Return the data of the events that are complete now."""
        buffer = self._rest + piece
        if not self._fed:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._rest = buffer  # perhaps a byte order mark
                return []
            buffer, self._fed = buffer.removeprefix(b"\xef\xbb\xbf"), True
        complete, start = [], 0
        for end in _LINE_END.finditer(buffer):
            if end[0] == b"\r" and end.end() == len(buffer):
                break  # a line feed that belongs to it may follow
            if (event := self._line(buffer[start : end.start()])) is not None:
                complete.append(event)
            start = end.end()
        self._rest = buffer[start:]
        return complete

    def _line(self, line: bytes) -> str | None:
        if not line:
            data, self._data = self._data, []
            return "\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None

"""Texts that end an answer, found in text that arrives in pieces."""

from collections.abc import Sequence

from refute_runtime.errors import RequestError


class StopTexts:
    """Shows text up to the first stop text, and holds back what may still become one.

    The first is the one that is complete first, the longest where several are complete at one character,
    so that what is shown does not depend on how the text is cut into pieces. Raises `RequestError` for an
    empty one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise RequestError("stop has an empty text, expected texts of at least one character")
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> tuple[str, bool]:
        """Take more text; return what may be shown now, and whether a stop text ends it."""
        text = self._held + piece
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """End the text: what was held back has become no stop text."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`, without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)

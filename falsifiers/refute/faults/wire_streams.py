"""Faults of streams on the wire, by dose: when events are sent, how many, and where the stream ends."""

from collections.abc import Callable, Iterable, Mapping
from random import Random

from refute.faults.wire_parts import content_of, with_content
from refute.wire.exchange import Block, Canned, Cut, Exchange, Json, Pause, Sent

_DONE = "[DONE]"
_STALLED = 3  # the content event before which a stream stands still


class Buffered(Exchange):
    """Events are held back until `most` are there."""

    def __init__(self, most: float, _: int) -> None:
        self._most = most
        self._held: list[bytes] = []

    def event(self, block: Block) -> Iterable[Sent]:
        self._held.append(block.raw)
        return self.end() if len(self._held) >= self._most else ()

    def end(self) -> Iterable[Sent]:
        held, self._held = self._held, []
        return (b"".join(held),)


class Merged(Exchange):
    """The contents of `most` events, with their log probabilities, come as one."""

    def __init__(self, most: float, _: int) -> None:
        self._most = most
        self._held: list[Json] = []

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        if value is None or not content_of(value):
            return (*self.end(), block.raw)
        self._held.append(value)
        return self.end() if len(self._held) >= self._most else ()

    def end(self) -> Iterable[Sent]:
        held, self._held = self._held, []
        if len(held) < 2:
            return tuple(Block.of(value).raw for value in held)
        merged = with_content(held[0], "".join(map(content_of, held)))
        tokens = [_tokens(value) for value in held]
        if any(tokens):
            choice = merged["choices"][0]
            named = {**choice["logprobs"], "content": [token for some in tokens for token in some]}
            merged["choices"] = [{**choice, "logprobs": named}]
        return (Block.of(merged).raw,)


class Stalled(Exchange):
    def __init__(self, milliseconds: float, _: int) -> None:
        self._pause = Pause(milliseconds / 1e3)
        self._contents = 0

    def event(self, block: Block) -> Iterable[Sent]:
        self._contents += bool(content_of(block.value))
        if self._contents != _STALLED:
            return (block.raw,)
        self._contents += 1  # once
        return (self._pause, block.raw)


class Jitter(Exchange):
    def __init__(self, milliseconds: float, number: int) -> None:
        self._most = milliseconds / 1e3
        self._random = Random(number)  # noqa: S311

    def event(self, block: Block) -> Iterable[Sent]:
        return (Pause(self._random.uniform(0, self._most)), block.raw)


class CutOff(Exchange):
    """A stream breaks off after so many events with content, at the latest before [DONE]."""

    def __init__(self, contents: float, _: int) -> None:
        self._left = int(contents)

    def event(self, block: Block) -> Iterable[Sent]:
        content = bool(content_of(block.value))
        if block.data == _DONE or (content and self._left == 0):
            return (Cut(),)
        self._left -= content
        return (block.raw,)

    def whole(self, answer: Canned) -> Iterable[Sent]:
        return (answer.body[: len(answer.body) // 2], Cut())


def _tokens(value: Json) -> list[Json]:
    logprobs = value["choices"][0].get("logprobs") or {}
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return content if isinstance(content, list) else []


OF_STREAMS: Mapping[str, Callable[[float, int], Exchange]] = {
    "wire-buffered": Buffered,
    "wire-merged": Merged,
    "wire-stalled": Stalled,
    "wire-jitter": Jitter,
    "wire-cut": CutOff,
}

"""Faults of streams on the wire, by dose: when events are sent, how many, and where the stream ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from refute.faults.wire_parts import choices_of, content_of, said_of, text_of, with_said, with_text
from refute.wire.answers import DONE
from refute.wire.exchange import Block, Canned, Cut, Exchange, Json, Pause, Sent

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
    """The contents of `most` events come as one, with all log probabilities, and an end that came along."""

    def __init__(self, most: float, _: int) -> None:
        self._most = most
        self._held: list[Block] = []
        self._of: object = None

    def event(self, block: Block) -> Iterable[Sent]:
        choices = choices_of(block.value)
        if len(choices) != 1 or not text_of(choices[0]):
            return (*self.end(), block.raw)
        index = choices[0].get("index")
        others = self.end() if index != self._of else ()
        self._of = index
        self._held.append(block)
        return (*others, *(self.end() if len(self._held) >= self._most else ()))

    def end(self) -> Iterable[Sent]:
        held, self._held = self._held, []
        if len(held) < 2:
            return tuple(block.raw for block in held)
        return (Block.of(_joined([block.value or {} for block in held])).raw,)


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
        if block.data == DONE or (content and self._left == 0):
            return (Cut(),)
        self._left -= content
        return (block.raw,)

    def whole(self, answer: Canned) -> Iterable[Sent] | Canned:
        return answer if answer.status != 200 else (answer.body[: len(answer.body) // 2], Cut())


def _joined(chunks: Sequence[Json]) -> Json:
    """One chunk of several with one choice each: texts and lists of log probabilities put together."""
    choices = [choices_of(chunk)[0] for chunk in chunks]
    said = _united([said_of(choice) or {} for choice in choices])
    choice = with_text(with_said(_united(choices), lambda _: said), "".join(map(text_of, choices)))
    logprobs = [each for each in (choice.get("logprobs") for choice in choices) if isinstance(each, dict)]
    if logprobs:
        told = _united(logprobs)
        lists = {name for name, value in told.items() if isinstance(value, list)}
        choice["logprobs"] = told | {
            name: [token for each in logprobs for token in each.get(name) or ()] for name in lists
        }
    return {**_united(chunks), "choices": [choice]}


def _united(values: Sequence[Json]) -> Json:
    """All fields of some objects: the last value of each that is not null."""
    united: Json = {}
    for value in values:
        united |= {name: each for name, each in value.items() if each is not None or name not in united}
    return united


OF_STREAMS: Mapping[str, Callable[[float, int], Exchange]] = {
    "wire-buffered": Buffered,
    "wire-merged": Merged,
    "wire-stalled": Stalled,
    "wire-jitter": Jitter,
    "wire-cut": CutOff,
}

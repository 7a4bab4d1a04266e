"""From the steps of a job to what a client is told of them, step by step; a whole answer is the sum of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from refute_runtime.serving.jobs import Step
from refute_runtime.serving.tool_calls import Call, Content, Event

Finish = Literal["stop", "length", "tool_calls"]


class ParsesCalls(Protocol):
    """Takes a text in pieces and tells calls of tools from what is said."""

    def push(self, text: str) -> Iterable[Event]: ...

    def finish(self) -> Iterable[Event]: ...


@dataclass(frozen=True, slots=True)
class Delta:
    """What a step adds to an answer. steps: the tokens whose likelihood is told here, in order."""

    content: str = ""
    calls: tuple[Call, ...] = ()
    steps: tuple[Step, ...] = ()
    finish: Finish | None = None


class Telling:
    """Makes deltas of steps. A step that shows nothing yet gives none; its likelihood goes with the next."""

    def __init__(self, parser: ParsesCalls | None = None) -> None:
        self._parser = parser
        self._untold: list[Step] = []
        self._called = False

    def tell(self, step: Step) -> Delta | None:
        self._untold.append(step)
        events = list(self._events(step))
        content = "".join(event.text for event in events if isinstance(event, Content))
        calls = tuple(event for event in events if isinstance(event, Call))
        self._called |= bool(calls)
        finish: Finish | None = "tool_calls" if step.finish == "stop" and self._called else step.finish
        if not (content or calls or finish):
            return None
        told, self._untold = tuple(self._untold), []
        return Delta(content, calls, told, finish)

    def _events(self, step: Step) -> Iterable[Event]:
        if self._parser is None:
            return (Content(step.text),)
        return (*self._parser.push(step.text), *(self._parser.finish() if step.finish else ()))


def summed(deltas: Sequence[Delta]) -> Delta:
    """Add deltas up, all of an answer."""
    return Delta(
        content="".join(delta.content for delta in deltas),
        calls=tuple(call for delta in deltas for call in delta.calls),
        steps=tuple(step for delta in deltas for step in delta.steps),
        finish=deltas[-1].finish,
    )

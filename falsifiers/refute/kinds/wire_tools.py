"""Tool calls over HTTP: objects with arguments that are JSON, never the text in which a model writes them."""

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import whole_number
from refute.kinds.wire_conformance import misformed
from refute.kinds.wire_requests import CHAT, Answers, common, shown, unserved
from refute.targets.base import Target
from refute.wire.answers import Answer, message_of
from refute.wire.client import post

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_WORDS = ("apple", "river", "stone", "light", "orange", "garden", "paper", "music")
_MARKUP = ("<tool_call>", "</tool_call>", "<function=", "<parameter=", "[TOOL_CALLS]", "<|python_tag|>")
_NAME = "Read"
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Read a file.",
        "parameters": {
            "type": "object",
            "properties": {"file_path": {"type": "string"}},
            "required": ["file_path"],
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """max_tokens: enough for a call."""

    max_tokens: int

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 16)


class ToolCalls(Answers[Called]):
    """A call is told as one, with finish_reason tool_calls and arguments that are a JSON object."""

    requires = frozenset({"http", "http_tools"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})
    tries = 3

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages that ask to read a file, with a tool that does."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        word = st.sampled_from(_WORDS)
        return st.fixed_dictionaries(
            {
                "content": st.builds("Read {}.{}".format, word, st.sampled_from(["txt", "py", "md"])),
                "max_tokens": st.just(self.parameters.max_tokens),
                "sampling": st.just({"temperature": 0}),
            }
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer, and for a stream."""
        replies = {}
        for name, stream in (("whole", False), ("streamed", True)):
            body = {
                "model": target.endpoint.model,
                "messages": [{"role": "user", "content": case["content"]}],
                "tools": [_TOOL],
                **common(target.endpoint, case, stream=stream),
            }
            replies[name] = post(target.endpoint, CHAT, body).to_samples()
        return Observation(case, replies)

    def wrong(self, observation: Observation) -> str | None:
        """Whether one was not served, tells a call as text, or a broken one, or they differ."""
        whole, streamed = (Answer.of(observation.samples[name]) for name in ("whole", "streamed"))
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            why = unserved(answer) or misformed(answer, stream=answer is streamed) or _miscalled(answer)
            if why is not None:
                return f"{name}: {why}"
        once, again = (
            [(call["name"], call["arguments"]) for call in answer.calls] for answer in (whole, streamed)
        )
        return None if once == again else f"calls {shown(once)} as a whole, {shown(again)} as a stream"

    def informative(self, observation: Observation) -> bool:
        """A case counts when the model called, and was not cut off."""
        whole = Answer.of(observation.samples["whole"])
        return bool(whole.calls) and whole.finish == "tool_calls"


def _miscalled(answer: Answer) -> str | None:
    """Say what is wrong with the calls of an answer. One that ended for its length may hold half a call."""
    if answer.finish == "length":
        return None
    if any(each in answer.text for each in _MARKUP):
        return f"content {shown(answer.text)} is the text of a call"
    if not answer.calls:
        return "finish_reason 'tool_calls' without a call" if answer.finish == "tool_calls" else None
    if answer.finish != "tool_calls":
        return f"finish_reason {answer.finish!r} with a call, expected 'tool_calls'"
    if answer.streamed and (twice := _named_twice(answer)) is not None:
        return f"call {twice} is given an id or a name again, which clients append to the first"
    for call in answer.calls:
        if call["name"] != _NAME or not call["id"]:
            return f"call {shown(call)}, expected an id and the name {_NAME!r}"
        try:
            arguments = json.loads(call["arguments"])
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            return f"arguments {shown(call['arguments'])}, expected a JSON object"
    return None


def _named_twice(answer: Answer) -> int | None:
    """Return the index of a call with an id or a name in more than its first part."""
    begun: set[int] = set()
    for choice in answer.choices:
        for part in message_of(choice).get("tool_calls") or ():
            again = part["index"] in begun
            if again and (part.get("id") or part.get("function", {}).get("name")):
                return int(part["index"])
            begun.add(part["index"])
    return None

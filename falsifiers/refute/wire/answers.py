"""What a reply says, streamed or whole, on both routes: read leniently, so that any claim can judge it.

Pure functions of what was stored. Whether a reply has the right form is another question, another claim's.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from refute.wire.endpoint import Reply

DONE = "[DONE]"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as a client would put it together.

    chunks: every JSON object, with the time when it came (a whole answer is one chunk). done: whether [DONE]
    came, and came last. text_ns: when each event with text came; texts: what it brought. finish: the last
    finish_reason that was told. usage, error: as they stand. logprobs: those of all tokens, in order.
    calls: tool calls, their arguments put together.
    """

    reply: Reply
    chunks: tuple[tuple[int, Mapping[str, Any]], ...]
    done: bool
    role: str | None
    texts: tuple[str, ...]
    text_ns: tuple[int, ...]
    finish: str | None
    usage: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    logprobs: tuple[Mapping[str, Any], ...]
    calls: tuple[Mapping[str, Any], ...]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def choices(self) -> tuple[Mapping[str, Any], ...]:
        """Every choice of every chunk, in order."""
        return tuple(choice for _, chunk in self.chunks for choice in _choices(chunk))

    @property
    def streamed(self) -> bool:
        return self.reply.content_type == "text/event-stream"

    @property
    def completion_tokens(self) -> int | None:
        """What usage says, where it does."""
        count = (self.usage or {}).get("completion_tokens")
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    @property
    def served(self) -> bool:
        """Whether the request was served to its end: nothing less lets a claim pass."""
        whole = self.reply.status == 200 and self.reply.broken is None and self.error is None
        return whole and bool(self.chunks)

    @classmethod
    def of(cls, samples: Mapping[str, Any]) -> "Answer":
        """Read what `Reply.to_samples` gave."""
        return cls.of_reply(Reply.of_samples(samples))

    @classmethod
    def of_reply(cls, reply: Reply) -> "Answer":
        sent = [(event.ns, event.data) for event in reply.events] or [(reply.head_ns, reply.body)]
        chunks = tuple((ns, value) for ns, data in sent if isinstance(value := _json(data), Mapping))
        choices = [(ns, choice) for ns, chunk in chunks for choice in _choices(chunk)]
        said = [(ns, message_of(choice)) for ns, choice in choices]
        texts = [(ns, text) for ns, each in said if isinstance(text := each.get("content"), str) and text]
        return cls(
            reply=reply,
            chunks=chunks,
            done=[place for place, (_, data) in enumerate(sent, 1) if data == DONE] == [len(sent)],
            role=next((each["role"] for _, each in said if isinstance(each.get("role"), str)), None),
            texts=tuple(text for _, text in texts),
            text_ns=tuple(ns for ns, _ in texts),
            finish=next((c["finish_reason"] for _, c in choices[::-1] if c.get("finish_reason")), None),
            usage=next((c["usage"] for _, c in chunks[::-1] if isinstance(c.get("usage"), Mapping)), None),
            error=next((c["error"] for _, c in chunks if isinstance(c.get("error"), Mapping)), None),
            logprobs=tuple(token for _, choice in choices for token in likelihoods(choice)),
            calls=_calls([each for _, each in said]),
        )


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _no_number(name: str) -> NoReturn:
    """Refuse NaN and infinite numbers: Python reads them, but they are no JSON."""
    raise ValueError(f"{name} is no number of JSON")


def _choices(chunk: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    choices = chunk.get("choices")
    return (each for each in (choices if isinstance(choices, list) else ()) if isinstance(each, Mapping))


def message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The delta or message of a choice; the older route's text as content."""
    for name in ("delta", "message"):
        if isinstance(choice.get(name), Mapping):
            said: Mapping[str, Any] = choice[name]
            return said
    return {"content": choice.get("text")}


def likelihoods(choice: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return [each for each in content if isinstance(each, Mapping)] if isinstance(content, list) else []


def spelling(likelihood: Mapping[str, Any]) -> bytes:
    """Return the bytes of a token; its text where a server does not give them."""
    spelt = likelihood.get("bytes")
    if isinstance(spelt, list) and all(isinstance(each, int) and 0 <= each < 256 for each in spelt):
        return bytes(spelt)
    return str(likelihood.get("token", "")).encode("utf-8", "replace")


def _calls(said: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Put the parts of calls together, by their index; a whole answer's have none and come in order."""
    calls: dict[object, dict[str, Any]] = {}
    for message in said:
        parts = message.get("tool_calls")
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, Mapping):
                index = part.get("index")
                known = index if isinstance(index, int) else place
                call = calls.setdefault(known, {"id": None, "name": "", "arguments": ""})
                function = part.get("function")
                function = function if isinstance(function, Mapping) else {}
                call["id"] = part.get("id") or call["id"]
                call["name"] += str(function.get("name") or "")
                call["arguments"] += str(function.get("arguments") or "")
    return tuple(calls.values())

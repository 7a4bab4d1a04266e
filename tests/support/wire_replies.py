"""Replies of a chat server as records hold them: streams event by event, and whole answers."""

import json
from collections.abc import Sequence
from typing import Any

from refute.wire.endpoint import Event, Reply

Json = dict[str, Any]
MS = 1_000_000
DONE = "[DONE]"
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m"}


def delta(finish: str | None = None, *, tokens: Sequence[bytes] = (), **said: Any) -> Json:
    """One chunk. tokens: those whose log probabilities come with it."""
    named = [{"token": token.decode("utf-8", "replace"), "bytes": list(token)} for token in tokens]
    logprobs = {"content": named} if tokens else None
    choice = {"index": 0, "delta": said, "logprobs": logprobs, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def usage(tokens: int) -> Json:
    """The chunk that says how many tokens there were."""
    told = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": told}


ROLE = delta(role="assistant", content="")


def stream(*events: Json | str, broken: str | None = None, status: int = 200) -> Json:
    """A stream of these events, 10 ms apart from 10 ms on; it ends 10 ms after the last."""
    datas = [each if isinstance(each, str) else json.dumps(each) for each in events]
    came = tuple(Event(10 * MS * place, data) for place, data in enumerate(datas, 1))
    end = 10 * MS * (len(came) + 1)
    return Reply(status, "text/event-stream", {}, came, "", 5 * MS, end, broken).to_samples()


def whole(text: str | None, finish: str = "stop", *, tokens: int = 3, **message: Any) -> Json:
    """A whole answer."""
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    return reply(json.dumps({**usage(tokens), "object": "chat.completion", "choices": [choice]}))


def reply(body: str, status: int = 200, content_type: str = "application/json") -> Json:
    """Any other answer."""
    return Reply(status, content_type, {}, (), body, 5 * MS, 6 * MS).to_samples()

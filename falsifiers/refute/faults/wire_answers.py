"""Faults of answers on the wire: what the engine says is not what the client reads."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refute.faults.wire_parts import choice_of, content_of, with_choice, with_content, with_said, without
from refute.wire.exchange import Block, Canned, Exchange, Json, Sent, object_of

_DONE = "[DONE]"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Changed(Exchange):
    """Every object of an answer, a chunk or the whole, is changed; what stays the same passes as it came."""

    def change(self, value: Json) -> Json:
        return value

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        return (block.raw,) if value is None else (_written(self.change(value), value, block.raw),)

    def whole(self, answer: Canned) -> Canned:
        value = object_of(answer.body)
        if value is None or answer.status != 200:
            return answer
        changed = self.change(value)
        body = answer.body if changed == value else json.dumps(changed, ensure_ascii=False).encode()
        return Canned(answer.status, answer.content_type, body)


class DoneDropped(Exchange):
    def event(self, block: Block) -> Iterable[Sent]:
        return () if block.data == _DONE else (block.raw,)


class FinishDropped(Changed):
    def change(self, value: Json) -> Json:
        return with_choice(value, lambda choice: {**choice, "finish_reason": None})


class RoleDropped(Changed):
    def change(self, value: Json) -> Json:
        return with_said(value, lambda said: without(said, "role"))


class UsageDropped(Changed):
    def change(self, value: Json) -> Json:
        return without(value, "usage")

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        if value is not None and value.get("usage") and choice_of(value) is None:
            return ()
        return super().event(block)


class UsageWrong(Changed):
    def change(self, value: Json) -> Json:
        usage = value.get("usage")
        if not isinstance(usage, dict):
            return value
        more = {name: usage.get(name, 0) + 1 for name in ("completion_tokens", "total_tokens")}
        return {**value, "usage": {**usage, **more}}


class UsageUnasked(Exchange):
    """Where the client did not ask for usage, the engine is asked and its usage is not kept back."""

    def request(self, body: Json) -> Json:
        if body.get("stream") is not True:
            return body
        return {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}


class TokenRepeated(Exchange):
    """The first event with content comes twice."""

    def __init__(self) -> None:
        self._done = False

    def event(self, block: Block) -> Iterable[Sent]:
        if self._done or not content_of(block.value):
            return (block.raw,)
        self._done = True
        return (block.raw, block.raw)


class TextEmptied(Exchange):
    def whole(self, answer: Canned) -> Canned:
        value = object_of(answer.body)
        if value is None or not content_of(value):
            return answer
        return Canned(answer.status, answer.content_type, json.dumps(with_content(value, "")).encode())


class Utf8Cut(Exchange):
    """Characters beyond ASCII come as halves, each of which is no character."""

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        text = content_of(value)
        if value is None or text.isascii():
            return (block.raw,)
        first = "".join(each if each.isascii() else _REPLACEMENT for each in text)
        second = with_choice(with_content(value, _REPLACEMENT), lambda choice: {**choice, "logprobs": None})
        return (Block.of(with_content(value, first)).raw, Block.of(second).raw)


class LogprobsShifted(Changed):
    def change(self, value: Json) -> Json:
        return with_choice(value, lambda choice: {**choice, "logprobs": _raised(choice.get("logprobs"))})


class ToolsAsText(Exchange):
    """Calls come as the text that a model writes them in, the stream's at its end."""

    def __init__(self) -> None:
        self._calls: dict[object, Json] = {}

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        choice = choice_of(value)
        if value is None or choice is None:
            return (block.raw,)
        parts = (choice.get("delta") or {}).get("tool_calls") or []
        for part in parts:
            call = self._calls.setdefault(part.get("index"), {"name": "", "arguments": ""})
            for name in call:
                call[name] += (part.get("function") or {}).get(name) or ""
        if choice.get("finish_reason") != "tool_calls":
            said = with_said(value, lambda delta: without(delta, "tool_calls"))
            return () if parts and not content_of(said) else (_written(said, value, block.raw),)
        told = with_choice(
            value, lambda old: {**old, "finish_reason": None, "delta": {"content": self._text()}}
        )
        ended = with_choice(value, lambda old: {**old, "finish_reason": "stop", "delta": {}})
        return (Block.of(told).raw, Block.of(ended).raw)

    def whole(self, answer: Canned) -> Canned:
        value = object_of(answer.body)
        message = (choice_of(value) or {}).get("message")
        if value is None or not isinstance(message, dict) or not message.get("tool_calls"):
            return answer
        self._calls = {place: call["function"] for place, call in enumerate(message["tool_calls"])}
        text = (message.get("content") or "") + self._text()
        said = {**without(message, "tool_calls"), "content": text}
        changed = with_choice(value, lambda choice: {**choice, "message": said, "finish_reason": "stop"})
        return Canned(answer.status, answer.content_type, json.dumps(changed).encode())

    def _text(self) -> str:
        calls = ({"name": call["name"], "arguments": call["arguments"]} for call in self._calls.values())
        return "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls)


class ErrorsHidden(Exchange):
    def whole(self, answer: Canned) -> Canned:
        return Canned(200 if answer.status >= 400 else answer.status, answer.content_type, answer.body)


class ErrorsPlain(Exchange):
    def whole(self, answer: Canned) -> Canned:
        if answer.status < 400:
            return answer
        error = (object_of(answer.body) or {}).get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return Canned(answer.status, "text/plain", str(message or "refused").encode())


class CountersZero(Changed):
    def change(self, value: Json) -> Json:
        told = value.get("refute")
        counters = told.get("counters") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(counters, dict):
            return value
        return {**value, "refute": {**told, "counters": dict.fromkeys(counters, 0)}}


def _raised(logprobs: Any) -> Any:
    """Add 1 to every log probability, wherever it stands."""
    if isinstance(logprobs, list):
        return [each + 1 if isinstance(each, float | int) else _raised(each) for each in logprobs]
    if not isinstance(logprobs, dict):
        return logprobs
    listed = {"content", "top_logprobs"}  # of objects with a field of their own
    return {
        name: each + 1
        if name == "logprob" and isinstance(each, float | int)
        else _raised(each)
        if name in listed or name == "token_logprobs"
        else each
        for name, each in logprobs.items()
    }


def _written(value: Json, before: Json, raw: bytes) -> bytes:
    return raw if value == before else Block.of(value).raw


OF_ANSWERS: Mapping[str, Callable[[], Exchange]] = {
    "wire-done-dropped": DoneDropped,
    "wire-finish-dropped": FinishDropped,
    "wire-role-dropped": RoleDropped,
    "wire-usage-dropped": UsageDropped,
    "wire-usage-unasked": UsageUnasked,
    "wire-usage-wrong": UsageWrong,
    "wire-token-repeated": TokenRepeated,
    "wire-text-emptied": TextEmptied,
    "wire-utf8-cut": Utf8Cut,
    "wire-logprobs-shifted": LogprobsShifted,
    "wire-tools-as-text": ToolsAsText,
    "wire-errors-hidden": ErrorsHidden,
    "wire-errors-plain": ErrorsPlain,
    "wire-counters-zero": CountersZero,
}

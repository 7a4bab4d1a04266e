"""Faults of answers on the wire: what the engine says is not what the client reads."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from refute.faults.wire_parts import (
    choices_of,
    content_of,
    is_number,
    nulled,
    said_of,
    text_of,
    with_choices,
    with_said,
    with_text,
    without,
)
from refute.wire.answers import DONE
from refute.wire.exchange import Block, Canned, Exchange, Json, Sent, object_of

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
        body = answer.body if changed == value else json.dumps(changed).encode()
        return Canned(answer.status, answer.content_type, body)


class DoneDropped(Exchange):
    def event(self, block: Block) -> Iterable[Sent]:
        return () if block.data == DONE else (block.raw,)


class FinishDropped(Changed):
    def change(self, value: Json) -> Json:
        return with_choices(value, lambda choice: nulled(choice, "finish_reason"))


class RoleDropped(Changed):
    def change(self, value: Json) -> Json:
        return with_choices(value, lambda choice: with_said(choice, lambda said: without(said, "role")))


class UsageDropped(Changed):
    def change(self, value: Json) -> Json:
        return without(value, "usage")

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        if value is not None and value.get("usage") and not choices_of(value):
            return ()
        return super().event(block)


class UsageWrong(Changed):
    def change(self, value: Json) -> Json:
        usage = value.get("usage")
        if not isinstance(usage, dict):
            return value
        more = usage.keys() & {"completion_tokens", "total_tokens"}
        return {**value, "usage": {**usage, **{name: _raised(usage[name]) for name in more}}}


class UsageUnasked(Exchange):
    """Where the client did not ask for usage, the engine is asked and its usage is not kept back."""

    def request(self, body: Json) -> Json:
        options = body.get("stream_options") or {}
        if body.get("stream") is not True or not isinstance(options, dict):
            return body
        return {**body, "stream_options": {**options, "include_usage": True}}


class TokenRepeated(Exchange):
    """The first event with content comes twice."""

    def __init__(self) -> None:
        self._done = False

    def event(self, block: Block) -> Iterable[Sent]:
        if self._done or not content_of(block.value):
            return (block.raw,)
        self._done = True
        return (block.raw, block.raw)


class TextEmptied(Changed):
    """Streams pass."""

    def change(self, value: Json) -> Json:
        return with_choices(value, lambda choice: with_text(choice, "") if text_of(choice) else choice)

    def event(self, block: Block) -> Iterable[Sent]:
        return (block.raw,)


class Utf8Cut(Exchange):
    """An event with a character beyond ASCII is cut within it, and neither half is a character.

    A role and log probabilities come with the first half alone, an end and usage with the last.
    """

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        if value is None or content_of(value).isascii():
            return (block.raw,)
        first = with_choices(without(value, "usage"), _first_half)
        return (Block.of(first).raw, Block.of(with_choices(value, _last_half)).raw)


class LogprobsShifted(Changed):
    def change(self, value: Json) -> Json:
        return with_choices(value, _likelier)


class ToolsAsText(Exchange):
    """Calls come as the text that a model writes them in, the stream's at its end."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, str]] = {}

    def event(self, block: Block) -> Iterable[Sent]:
        value = block.value
        choice = next(iter(choices_of(value)), {})
        delta = said_of(choice)
        if value is None or delta is None:
            return (block.raw,)
        parts, rest = delta.get("tool_calls"), without(delta, "tool_calls")
        self._collect(parts)
        if choice.get("finish_reason") and self._calls:
            text = text_of(choice) + self._text()
            called = {**nulled(choice, "finish_reason"), "delta": {**rest, "content": text}}
            ended = {**_stopped(choice), "delta": {}}
            first = {**without(value, "usage"), "choices": [called]}
            return (Block.of(first).raw, Block.of({**value, "choices": [ended]}).raw)
        if not parts:
            return (block.raw,)
        told = {**value, "choices": [{**choice, "delta": rest}]}
        return (Block.of(told).raw,) if any(rest.values()) else ()

    def whole(self, answer: Canned) -> Canned:
        value = object_of(answer.body)
        choice = next(iter(choices_of(value)), {})
        message = said_of(choice)
        self._collect((message or {}).get("tool_calls"))
        if value is None or message is None or not self._calls:
            return answer
        said = {**without(message, "tool_calls"), "content": text_of(choice) + self._text()}
        changed = {**value, "choices": [{**_stopped(choice), "message": said}]}
        return Canned(answer.status, answer.content_type, json.dumps(changed).encode())

    def _collect(self, parts: Any) -> None:
        for place, part in enumerate(parts if isinstance(parts, list) else ()):
            function = part.get("function") if isinstance(part, dict) else None
            if isinstance(function, dict):
                call = self._calls.setdefault(str(part.get("index", place)), {"name": "", "arguments": ""})
                for name in call:
                    call[name] += str(function.get(name) or "")

    def _text(self) -> str:
        called = (
            f'{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"] or "{}"}}}'
            for call in self._calls.values()
        )
        return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in called)


class ErrorsHidden(Exchange):
    def whole(self, answer: Canned) -> Canned:
        return Canned(200 if answer.status >= 400 else answer.status, answer.content_type, answer.body)


class ErrorsPlain(Exchange):
    def whole(self, answer: Canned) -> Canned:
        if answer.status < 400:
            return answer
        error = (object_of(answer.body) or {}).get("error")
        message = error.get("message") if isinstance(error, dict) else None
        return Canned(answer.status, "text/plain", str(message or "refused").encode("utf-8", "replace"))


class CountersZero(Changed):
    def change(self, value: Json) -> Json:
        told = value.get("refute")
        counters = told.get("counters") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(counters, dict):
            return value
        zero = {name: 0 if is_number(count) else count for name, count in counters.items()}
        return {**value, "refute": {**told, "counters": zero}}


def _first_half(choice: Json) -> Json:
    text, place = text_of(choice), _beyond_ascii(choice)
    return nulled(with_text(choice, text[:place] + _REPLACEMENT * (place < len(text))), "finish_reason")


def _last_half(choice: Json) -> Json:
    text, place = text_of(choice), _beyond_ascii(choice)
    rest = "".join(each if each.isascii() else 2 * _REPLACEMENT for each in text[place + 1 :])
    halved = with_text(choice, _REPLACEMENT * (place < len(text)) + rest)
    return nulled(with_said(halved, lambda said: without(said, "role")), "logprobs")


def _beyond_ascii(choice: Json) -> int:
    """Return where the first character beyond ASCII is; the length of the text where there is none."""
    text = text_of(choice)
    return next((place for place, each in enumerate(text) if not each.isascii()), len(text))


def _likelier(choice: Json) -> Json:
    """Raise the log probabilities of a choice by 1, in the form of either route."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return choice
    changes: Mapping[str, Callable[[Any], Any]] = {
        "content": _likelier_token,
        "token_logprobs": _raised,
        "top_logprobs": _each_raised,
    }
    raised = {
        name: [change(each) for each in logprobs[name]]
        for name, change in changes.items()
        if isinstance(logprobs.get(name), list)
    }
    return {**choice, "logprobs": {**logprobs, **raised}}


def _likelier_token(token: Any) -> Any:
    if not isinstance(token, dict):
        return token
    top = token.get("top_logprobs")
    others = {"top_logprobs": [_likelier_token(each) for each in top]} if isinstance(top, list) else {}
    return {**token, **{name: _raised(token[name]) for name in ("logprob",) if name in token}, **others}


def _each_raised(logprobs: Any) -> Any:
    """Raise the values of an object of tokens; the older route may have null in its place."""
    if not isinstance(logprobs, dict):
        return logprobs
    return {token: _raised(value) for token, value in logprobs.items()}


def _raised(value: Any) -> Any:
    """Add 1 to what is a number."""
    return value + 1 if is_number(value) else value


def _stopped(choice: Json) -> Json:
    """A choice that ended without calls."""
    return {**choice, "finish_reason": "stop"} if choice.get("finish_reason") == "tool_calls" else choice


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

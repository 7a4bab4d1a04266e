"""What the simulated engine's server takes: bodies of requests, all checked, nothing ignored."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from refute.targets.fake_model import CONTEXT
from refute.targets.fake_tools import call_of
from refute.targets.fake_words import END, Prompt, Settings, encode, prompt_of

MODEL = "fake"
_COMPLETION_TOKENS = 16  # as many as OpenAI's API gives where max_tokens is not said


class Refused(Exception):  # noqa: N818 (an answer to a client)
    """An error as a client is told of it."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. top None: no log probabilities. calls: the tool that is called, instead of content."""

    prompt: Prompt
    max_tokens: int
    settings: Settings
    stop: tuple[str, ...]
    top: int | None
    stream: bool
    include_usage: bool
    counters: bool
    calls: str | None = None


Check = tuple[Callable[[Any], bool], str]


def _number(least: float, most: float) -> Check:
    return lambda value: _real(value) and least <= value <= most, f"a number from {least:g} to {most:g}"


def _whole(least: int, most: int) -> Check:
    return (
        lambda value: type(value) is int and least <= value <= most,
        f"a whole number from {least} to {most}",
    )


def _only(*values: object) -> Check:
    return lambda value: any(value == each and type(value) is type(each) for each in values), " or ".join(
        map(json.dumps, values)
    )


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) <= 4 and all(isinstance(each, str) and each for each in value)
    )


def _ids(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < END for each in value)


def _tools(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(tool, dict)
        and tool.get("type") == "function"
        and isinstance(function := tool.get("function"), dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("parameters", {}), dict)
        for tool in value
    )


def _messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_message, value))


def _message(value: object) -> bool:
    if not isinstance(value, dict) or value.get("role") not in {"system", "user", "assistant", "tool"}:
        return False
    calls = value["role"] == "assistant" and bool(value.get("tool_calls"))
    return _content(value.get("content")) is not None or (calls and value.get("content") is None)


def _content(value: object) -> str | None:
    """The text of a content: a string, or parts of text."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    texts = [
        part["text"]
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    ]
    return "".join(texts) if len(texts) == len(parts) else None


_FLAG = _only(True, False)
_COMMON: Mapping[str, Check] = {
    "model": (lambda value: isinstance(value, str), "a string"),
    "max_tokens": _whole(1, 2**31),
    "temperature": _number(0, 2),
    "top_p": (lambda value: _real(value) and 0 < value <= 1, "a number above 0 and at most 1"),
    "top_k": _whole(0, 2**31),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 100),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _whole(-(2**63), 2**63 - 1),
    "stop": (
        lambda value: _texts([value] if isinstance(value, str) else value),
        "a string that is not empty, or a list of up to 4",
    ),
    "stream": _FLAG,
    "stream_options": (
        lambda value: (
            isinstance(value, dict)
            and set(value) <= {"include_usage"}
            and type(value.get("include_usage", False)) is bool
        ),
        "an object with include_usage",
    ),
    "refute_counters": _FLAG,
    "n": _only(1),
    "user": (lambda value: isinstance(value, str), "a string"),
}
_CHAT: Mapping[str, Check] = {
    **_COMMON,
    "messages": (_messages, "a list of messages, at least one, each with a role and a text"),
    "max_completion_tokens": _whole(1, 2**31),
    "logprobs": _FLAG,
    "top_logprobs": _whole(0, 20),
    "tools": (_tools, "a list of functions"),
    "tool_choice": _only("auto", "none"),
    "response_format": _only({"type": "text"}),
}
_COMPLETION: Mapping[str, Check] = {
    **_COMMON,
    "prompt": (lambda value: (isinstance(value, str) or _ids(value)) and bool(value), "a text, or token ids"),
    "logprobs": _whole(0, 5),
}


def chat(raw: bytes) -> Asked:
    """Read the body of a chat. Raises `Refused`."""
    body = _checked(raw, _CHAT, "messages")
    if "top_logprobs" in body and not body.get("logprobs"):
        raise _invalid("top_logprobs", "is there, expected only where logprobs is true")
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most != body.get("max_tokens", most):
        raise _invalid("max_completion_tokens", "and max_tokens differ, expected one of them")
    messages = [(each["role"], _content(each.get("content")) or "") for each in body["messages"]]
    text = "".join(f"{role}\n{content}\n" for role, content in messages) + "assistant\n"
    role, last = messages[-1]
    prompt = prompt_of(text, last if role == "user" else "")
    tools = [each["function"] for each in body.get("tools", ())]
    call = None
    if role == "user" and body.get("tool_choice") != "none":
        call = next((tool for tool in tools if tool["name"] in last), None)
    if call is not None:
        prompt = Prompt(prompt.tokens, encode(call_of(call)), sure=True)
    top = body.get("top_logprobs", 0) if body.get("logprobs") else None
    return _asked(body, prompt, most, top, calls=call["name"] if call else None)


def completion(raw: bytes) -> Asked:
    """Read the body of a completion. Raises `Refused`."""
    body = _checked(raw, _COMPLETION, "prompt")
    said = body["prompt"]
    prompt = prompt_of(said, said) if isinstance(said, str) else Prompt(tuple(said))
    return _asked(body, prompt, body.get("max_tokens", _COMPLETION_TOKENS), body.get("logprobs"))


def _checked(raw: bytes, checks: Mapping[str, Check], prompt: str) -> dict[str, Any]:
    """Parse a body; null is as good as nothing."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is no JSON object", code="invalid_value")
    body = {name: value for name, value in body.items() if value is not None}
    for name in ("model", prompt):
        if name not in body:
            raise Refused(400, f"{name} is missing", name, "missing_field")
    for name, value in body.items():
        if name not in checks:
            raise Refused(400, f"{name} is not supported", name, "unsupported_parameter")
        fits, expected = checks[name]
        if not fits(value):
            raise _invalid(name, f"is wrong, expected {expected}")
    if body["model"] != MODEL:
        raise unknown_model()
    if "stream_options" in body and not body.get("stream"):
        raise _invalid("stream_options", "is there, expected only where stream is true")
    return body


def unknown_model() -> Refused:
    return Refused(404, f"there is no such model, expected {MODEL}", "model", "model_not_found")


def _asked(
    body: Mapping[str, Any], prompt: Prompt, most: int | None, top: int | None, *, calls: str | None = None
) -> Asked:
    used = len(prompt.tokens)
    left = CONTEXT - used
    if left < (most or 1):
        message = f"{used} prompt tokens and {most or 1} new ones exceed the context of {CONTEXT}"
        param = "messages" if "messages" in body else "prompt"
        raise Refused(400, message, param, "context_length_exceeded")
    stop = body.get("stop", ())
    return Asked(
        prompt=prompt,
        max_tokens=left if most is None else most,
        settings=Settings(**{each.name: body[each.name] for each in fields(Settings) if each.name in body}),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        top=top,
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage", False),
        counters=body.get("refute_counters", False),
        calls=calls,
    )


def _invalid(param: str, what: str) -> Refused:
    return Refused(400, f"{param} {what}", param, "invalid_value")

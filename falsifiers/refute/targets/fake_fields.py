"""The fields of requests that the simulated engine's server takes: all are checked, no other is ignored."""

import json
from collections.abc import Callable, Mapping
from typing import Any

MODEL = "fake"
_ROLES = ("system", "user", "assistant", "tool")
Check = tuple[Callable[[Any], bool], str]
"""Whether a value is right; and what would be, after the word "expected"."""


class Refused(Exception):  # noqa: N818 (an answer to a client)
    """An error as a client is told of it."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str, allow: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = {} if allow is None else {"Allow": allow}

    @property
    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _number(least: float, most: float) -> Check:
    return lambda value: _real(value) and least <= value <= most, f"a number from {least:g} to {most:g}"


def _whole(least: int, most: int) -> Check:
    return (
        lambda value: type(value) is int and least <= value <= most,
        f"a whole number from {least} to {most}",
    )


def _only(*values: Any) -> Check:
    return (
        lambda value: any(value == each and type(value) is type(each) for each in values),
        " or ".join(json.dumps(each) for each in values),
    )


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) <= 4 and all(isinstance(each, str) and each for each in value)
    )


def _ids(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 256 for each in value)


def _tools(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(tool, dict)
        and tool.get("type") == "function"
        and isinstance(function := tool.get("function"), dict)
        and isinstance(function.get("name"), str)
        and function["name"]
        and isinstance(function.get("parameters", {}), dict)
        for tool in value
    )


def _messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_message, value))


def _message(value: object) -> bool:
    if not isinstance(value, dict) or value.get("role") not in _ROLES:
        return False
    if value.get("content") is None:
        return value["role"] == "assistant" and bool(value.get("tool_calls"))
    return content(value["content"]) is not None


def content(value: object) -> str | None:
    """Return the text of a message's content, a string or parts of text; None where it is neither."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    texts: list[Any] = [
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
CHAT: Mapping[str, Check] = {
    **_COMMON,
    "messages": (_messages, "a list of messages, at least one, each with a role and a text"),
    "max_completion_tokens": _whole(1, 2**31),
    "logprobs": _FLAG,
    "top_logprobs": _whole(0, 20),
    "tools": (_tools, "a list of functions"),
    "tool_choice": _only("auto", "none"),
    "parallel_tool_calls": _FLAG,  # one call at most is kept either way
    "response_format": _only({"type": "text"}),
}
COMPLETION: Mapping[str, Check] = {
    **_COMMON,
    "prompt": (lambda value: (isinstance(value, str) or _ids(value)) and bool(value), "a text, or token ids"),
    "logprobs": _whole(0, 5),
}


def checked(raw: bytes, checks: Mapping[str, Check], prompt: str) -> dict[str, Any]:
    """Parse a body; null is as good as nothing."""
    try:
        body = json.loads(raw)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        raise Refused(400, "the body is no JSON, expected it in UTF-8", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is JSON, expected an object", code="invalid_value")
    body = {name: value for name, value in body.items() if value is not None}
    for name in ("model", prompt):
        if name not in body:
            raise Refused(400, f"{name} is missing", param=name, code="missing_field")
    for name, value in body.items():
        if name not in checks:
            message = f"{name} is not supported, expected only {', '.join(sorted(checks))}"
            raise Refused(400, message, param=name, code="unsupported_parameter")
        fits, expected = checks[name]
        if not fits(value):
            raise invalid(name, f"is wrong, expected {expected}")
    if body["model"] != MODEL:
        raise unknown_model()
    if "stream_options" in body and not body.get("stream"):
        raise invalid("stream_options", "is there, expected only where stream is true")
    return body


def unknown_model() -> Refused:
    return Refused(404, f"there is no such model, expected {MODEL}", param="model", code="model_not_found")


def invalid(param: str, what: str) -> Refused:
    return Refused(400, f"{param} {what}", param=param, code="invalid_value")

"""Chat messages as clients send them, brought into the form that chat templates are written for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from refute_runtime.errors import RequestError
from refute_runtime.tokenizer import LONE_SURROGATE

_DEEPEST_JSON = 64


def normalize_messages(messages: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Bring OpenAI-style messages into the form that templates are written for.

    Content becomes a string: text parts are joined by newlines as other servers do, `None` is empty.
    Tool-call arguments become objects. Raises RequestError, naming the message, for anything else.
    """
    return [_message(message, f"messages[{i}]") for i, message in enumerate(sequence(messages, "messages"))]


def _message(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RequestError(f"{where} is of type {type(message).__name__}; expected an object.")
    plain: dict[str, Any] = plain_json(message, where)
    if not isinstance(plain.get("role"), str):
        raise RequestError(f"{where}.role is {plain.get('role')!r}; expected a string.")
    plain["content"] = _content(plain.get("content"), f"{where}.content")
    if plain.get("tool_calls") is not None:
        calls = sequence(plain["tool_calls"], f"{where}.tool_calls")
        for index, call in enumerate(calls):
            _parse_arguments(call, f"{where}.tool_calls[{index}]")
    return plain


def _content(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(f"{where} is of type {type(content).__name__}; expected a string or text parts.")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text":
            raise RequestError(f"{where}[{index}] is a part of type {kind!r}; expected 'text'.")
        if not isinstance(part.get("text"), str):
            raise RequestError(f"{where}[{index}].text is {part.get('text')!r}; expected a string.")
        texts.append(part["text"])
    return "\n".join(texts)


def _parse_arguments(call: object, where: str) -> None:
    """Read a call's `arguments` in place: the API sends a string of JSON, templates walk an object."""
    if not isinstance(call, dict):
        raise RequestError(f"{where} is of type {type(call).__name__}; expected an object.")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestError(f"{where} names no function; expected function.name, a string.")
    arguments = function.get("arguments")
    if arguments is None:
        arguments = {}
    elif isinstance(arguments, str):
        try:
            arguments = json.loads(arguments.strip() or "{}")
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{where}: its arguments are no JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise RequestError(f"{where}: its arguments are {type(arguments).__name__}; expected an object.")
    function["arguments"] = plain_json(arguments, f"{where}: arguments")


def plain_json(value: object, where: str, depth: int = 0) -> Any:
    """Copy JSON values, so that no other object reaches a template; RequestError for anything else."""
    if depth > _DEEPEST_JSON:
        raise RequestError(f"{where} is nested too deeply; expected {_DEEPEST_JSON} levels at most.")
    if isinstance(value, str):
        if LONE_SURROGATE.search(value):
            raise RequestError(f"{where} holds a lone surrogate; expected text that UTF-8 can write.")
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RequestError(f"{where} has the key {key!r}; expected strings.")
        return {
            plain_json(key, where): plain_json(item, f"{where}.{key}", depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    raise RequestError(f"{where} is of type {type(value).__name__}; expected JSON values.")


def sequence(value: object, where: str) -> Sequence[Any]:
    """Return a value that is an array; RequestError otherwise."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise RequestError(f"{where} is of type {type(value).__name__}; expected an array.")
    return value


def strings(value: object) -> Iterator[str]:
    """Every string in JSON values, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)

"""Chat messages as clients send them, brought into the form that chat templates are written for."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from refute_runtime.errors import RequestError
from refute_runtime.tokenizer import LONE_SURROGATE

_DEEPEST_JSON = 64
# The API's roles, and what templates call them. `developer` is its newer name for `system`. Templates do not
# know it, and some leave out what they do not know, so it is passed on as what it means.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
# Fields of the API that say something to the model, and that no template shows it.
_UNSHOWN = ("audio", "function_call", "refusal")


def normalize_messages(messages: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Bring OpenAI-style messages into the form that templates are written for.

    Content becomes a string: text parts are joined by newlines as other servers do, `None` is empty; other
    fields that are `None` are left out. Tool-call arguments become objects. Results stand in the order of
    their calls, for templates show no ids. Raises RequestError, naming the message, for anything else.
    """
    plain = [_message(message, f"messages[{i}]") for i, message in enumerate(sequence(messages, "messages"))]
    return _in_order_of_calls(plain)


def normalize_tools(tools: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Copy tools, without fields that are `None`; each is a function or, as OpenAI writes it, holds one.

    A function without parameters gets the schema that this stands for: not every template does without.
    Raises RequestError, naming the tool, for anything else.
    """
    return [_tool(tool, f"tools[{i}]") for i, tool in enumerate(sequence(tools, "tools"))]


def _tool(tool: object, where: str) -> dict[str, Any]:
    plain = _object(tool, where)
    if "function" in plain:
        if plain.get("type", "function") != "function":
            raise RequestError(f"{where}.type is {plain['type']!r}; expected 'function'.")
        where = f"{where}.function"
        function = plain["function"] = _object(plain["function"], where)
    else:
        function = plain
    for field, default in (("name", None), ("description", "")):
        if not isinstance(function.get(field, default), str):
            raise RequestError(f"{where}.{field} is {function.get(field)!r}; expected a string.")
    parameters = function.setdefault("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, dict) or not isinstance(parameters.get("properties", {}), dict):
        raise RequestError(f"{where}.parameters is no JSON Schema of an object; expected one.")
    return plain


def _message(message: object, where: str) -> dict[str, Any]:
    plain = _object(message, where)
    role = plain.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(f"{where}.role is {role!r}; expected one of {', '.join(map(repr, _ROLES))}.")
    plain["role"] = _ROLES[role]
    plain["content"] = _content(plain.get("content"), f"{where}.content")
    for field in _UNSHOWN:
        if field in plain:
            raise RequestError(f"{where}.{field} is not supported; expected a message without it.")
    if "tool_calls" in plain:
        if role != "assistant":
            raise RequestError(f"{where}.tool_calls is in a message of role {role!r}; expected 'assistant'.")
        calls = sequence(plain["tool_calls"], f"{where}.tool_calls")
        for index, call in enumerate(calls):
            _parse_arguments(call, f"{where}.tool_calls[{index}]")
    return plain


def _object(value: object, where: str) -> dict[str, Any]:
    """Copy an object of JSON values, without fields that are null."""
    if not isinstance(value, Mapping):
        raise RequestError(f"{where} is of type {type(value).__name__}; expected an object.")
    plain: dict[str, Any] = plain_json(value, where)
    return {key: item for key, item in plain.items() if item is not None}


def _in_order_of_calls(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the results behind an assistant's message into the order of its calls, where all tell their ids."""
    ordered: list[dict[str, Any]] = []
    for results, run in groupby(enumerate(messages), lambda item: item[1]["role"] == "tool"):
        numbered = list(run)
        if results:
            calls = ordered[-1].get("tool_calls", ()) if ordered else ()
            places = {
                call["id"]: place for place, call in enumerate(calls) if isinstance(call.get("id"), str)
            }
            for index, message in numbered:
                answered = message.get("tool_call_id")
                if answered is not None and not (isinstance(answered, str) and answered in places):
                    raise RequestError(
                        f"messages[{index}].tool_call_id is {answered!r}; expected the id of a call in the "
                        "assistant's message before it."
                    )
            if all("tool_call_id" in message for _, message in numbered):
                numbered.sort(key=lambda item: places[item[1]["tool_call_id"]])
        ordered += [message for _, message in numbered]
    return ordered


def _content(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestError(f"{where} is of type {type(content).__name__}; expected a string or text parts.")
    texts = []
    for index, part in enumerate(content):
        if not isinstance(part, Mapping):
            raise RequestError(f"{where}[{index}] is of type {type(part).__name__}; expected a text part.")
        if part.get("type") != "text":
            raise RequestError(f"{where}[{index}].type is {part.get('type')!r}; expected 'text'.")
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

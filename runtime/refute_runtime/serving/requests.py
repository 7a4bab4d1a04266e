"""Bodies of requests, bytes to frozen dataclasses: all is checked, what is not supported is refused."""

import json
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from refute_runtime.sampling import SamplingParams
from refute_runtime.serving.refusals import Refusal
from refute_runtime.serving.schema import Departure, Schema, departure

_LONGEST_SHOWN = 100  # characters of a value in a sentence


@dataclass(frozen=True, slots=True)
class Options:
    """What both kinds of request ask for.

    max_tokens None: the request does not say. top_logprobs None: no logprobs.
    """

    max_tokens: int | None
    sampling: SamplingParams
    stop: tuple[str, ...]
    top_logprobs: int | None
    stream: bool
    include_usage: bool
    counters: bool


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Messages to answer, in the form of `refute_runtime.messages`, and tools to call."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...]
    options: Options


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A prompt to continue: text, or token ids."""

    prompt: str | tuple[int, ...]
    options: Options


def read_chat(raw: bytes, schema: Schema, model: str) -> ChatRequest:
    """Read a body that `chat_body` describes, for this model. Raises `Refusal`, naming the field."""
    body = _checked(raw, schema, model)
    messages = tuple(map(_present, body["messages"]))
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    tools = () if body.get("tool_choice") == "none" else tuple(body.get("tools", ()))
    return ChatRequest(messages, tools, _options(body, _chat_max_tokens(body), _chat_logprobs(body)))


def read_completion(raw: bytes, schema: Schema, model: str) -> CompletionRequest:
    """Read a body that `completion_body` describes. Raises `Refusal`, naming the field."""
    body = _checked(raw, schema, model)
    prompt = body["prompt"]
    if isinstance(prompt, list):
        prompt = prompt[0] if isinstance(prompt[0], str) else tuple(map(int, prompt))
    options = _options(body, _whole(body.get("max_tokens")), _whole(body.get("logprobs")))
    return CompletionRequest(prompt, options)


def _checked(raw: bytes, schema: Schema, model: str) -> dict[str, Any]:
    body = _json(raw)
    asked = body.get("model") if isinstance(body, dict) else None
    if isinstance(asked, str) and asked != model:
        raise unknown_model(asked, model)
    found = departure(body, schema)
    if found:
        raise _refused(found)
    return _present(body)


def unknown_model(asked: str, served: str) -> Refusal:
    """Say that another model is served."""
    message = f"model is {_shown(asked)}, expected {served!r}, the one that is served"
    return Refusal(404, message, param="model", code="model_not_found")


def _json(raw: bytes) -> Any:
    try:
        # Python reads NaN, infinite numbers and keys twice; nobody else can be relied on to.
        body = json.loads(
            raw.decode("utf-8"), parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_once
        )
        json.dumps(body, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise _no_json("it has a lone surrogate, which is no character") from None
    except UnicodeDecodeError as error:
        raise _no_json(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    except ValueError as error:
        raise _no_json(str(error)) from None
    return body


def _no_json(why: str) -> Refusal:
    return Refusal(400, f"the body is no JSON that the server reads: {why}", code="invalid_json")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{_shown(text)} is too large")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{_shown(twice)} is there twice")
    return whole


def _refused(found: Departure) -> Refusal:
    """Say which field departs from what the server takes, and what it expects there."""
    param = found.where
    if not param.isprintable() or len(param) > _LONGEST_SHOWN:
        param = _shown(param)
    if found.kind == "unknown":
        return Refusal(400, f"{param} is not supported; leave it out", param, "unsupported_parameter")
    if found.kind == "missing":
        return Refusal(400, f"{param} is missing, expected {found.expected}", param, "missing_parameter")
    message = f"{param or 'the body'} is {_shown(found.found)}, expected {found.expected}"
    return Refusal(400, message, param or None, "invalid_value")


def _shown(value: object) -> str:
    """Write a value, however large it is, as part of a sentence."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _LONGEST_SHOWN
    shown = short.repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]} ..."


def _present(value: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is null: it is as if it were not there."""
    return {name: item for name, item in value.items() if item is not None}


def _check_message(message: Mapping[str, Any], where: str) -> None:
    """Check what belongs to a message by its role."""
    role = message["role"]
    needs = {"assistant": (), "tool": ("content", "tool_call_id")}.get(role, ("content",))
    for name in needs:
        if name not in message:
            raise _invalid(f"{where}.{name}", f"is missing, expected a string in a message of role {role!r}")
    for name, owner in (
        ("tool_calls", "assistant"),
        ("reasoning_content", "assistant"),
        ("tool_call_id", "tool"),
    ):
        if name in message and role != owner:
            raise _invalid(f"{where}.{name}", f"is in a message of role {role!r}, expected one of {owner!r}")


def _chat_max_tokens(body: Mapping[str, Any]) -> int | None:
    old, new = body.get("max_tokens"), body.get("max_completion_tokens")
    if None not in {old, new} and old != new:
        raise _invalid("max_completion_tokens", f"is {new} and max_tokens {old}, expected one of them")
    return _whole(old if new is None else new)


def _chat_logprobs(body: Mapping[str, Any]) -> int | None:
    if not body.get("logprobs"):
        if "top_logprobs" in body:
            raise _invalid("top_logprobs", "is there, expected only where logprobs is true")
        return None
    return _whole(body.get("top_logprobs", 0))


def _options(body: Mapping[str, Any], max_tokens: int | None, top_logprobs: int | None) -> Options:
    stop = body.get("stop", [])
    stream = body.get("stream", False)
    if "stream_options" in body and not stream:
        raise _invalid("stream_options", "is there, expected only where stream is true")
    seed = _whole(body.get("seed"))
    return Options(
        max_tokens=max_tokens,
        sampling=SamplingParams(
            temperature=body.get("temperature", 1.0),
            top_k=int(body.get("top_k", 0)),
            top_p=body.get("top_p", 1.0),
            min_p=body.get("min_p", 0.0),
            repetition_penalty=body.get("repetition_penalty", 1.0),
            presence_penalty=body.get("presence_penalty", 0.0),
            frequency_penalty=body.get("frequency_penalty", 0.0),
            seed=None if seed is None else seed % 2**64,  # a generator takes no negative ones
        ),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        top_logprobs=top_logprobs,
        stream=stream,
        include_usage=bool(body.get("stream_options", {}).get("include_usage")),
        counters=body.get("refute_counters", False),
    )


def _whole(value: float | None) -> int | None:
    """The whole number that a schema has seen to: 16.0 is one, too."""
    return None if value is None else int(value)


def _invalid(param: str, what: str) -> Refusal:
    return Refusal(400, f"{param} {what}", param=param, code="invalid_value")

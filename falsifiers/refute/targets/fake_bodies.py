"""What the simulated engine's server is asked: a request's body becomes a prompt, and how to answer it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from refute.targets.fake_fields import CHAT, COMPLETION, Refused, checked, content, invalid
from refute.targets.fake_model import CONTEXT
from refute.targets.fake_tokenizer import FakeTokenizer, chat_segments
from refute.targets.fake_tools import arguments_for
from refute.targets.fake_words import Prompt, Settings

_COMPLETION_TOKENS = 16  # as many as OpenAI's API gives where max_tokens is not said


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. top None: no log probabilities. call: the tool that is called; the
    answer is its arguments then.
    """

    prompt: Prompt
    max_tokens: int
    settings: Settings
    stop: tuple[str, ...]
    top: int | None
    stream: bool
    include_usage: bool
    counters: bool
    call: str | None = None


def chat(raw: bytes) -> Asked:
    """Read the body of a chat. Raises `Refused`."""
    body = checked(raw, CHAT, "messages")
    if "top_logprobs" in body and not body.get("logprobs"):
        raise invalid("top_logprobs", "is there, expected only where logprobs is true")
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most != body.get("max_tokens", most):
        raise invalid("max_completion_tokens", "and max_tokens differ, expected one of them")
    tools = body.get("tools", []) if body.get("tool_choice") != "none" else []
    messages = [{"role": "system", "content": json.dumps(tools)}] if tools else []
    for message in body["messages"]:
        calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
        text = (content(message.get("content")) or "") + calls
        messages.append({"role": message["role"], "content": text})
    last = messages[-1]["content"] if messages[-1]["role"] == "user" else ""
    tokens = FakeTokenizer().encode_segments(chat_segments(messages))
    called = next((each["function"] for each in tools if each["function"]["name"] in last), None)
    if called is None:
        prompt = Prompt(tuple(tokens), _to_repeat(last))
    else:
        prompt = Prompt(tuple(tokens), arguments_for(called), sure=True)
    top = body.get("top_logprobs", 0) if body.get("logprobs") else None
    return _asked(body, prompt, most, top, call=called["name"] if called else None)


def completion(raw: bytes) -> Asked:
    """Read the body of a completion. Raises `Refused`."""
    body = checked(raw, COMPLETION, "prompt")
    given = body["prompt"]
    if isinstance(given, str):
        prompt = Prompt(tuple(FakeTokenizer().encode(given)), _to_repeat(given))
    else:
        prompt = Prompt(tuple(given))
    return _asked(body, prompt, body.get("max_tokens", _COMPLETION_TOKENS), body.get("logprobs"))


def _to_repeat(text: str) -> str:
    """Return what a text asks to repeat, as in `Please repeat: ...`."""
    order, _, quoted = text.partition(":")
    return quoted.strip() if "repeat" in order.lower() else ""


def _asked(
    body: Mapping[str, Any], prompt: Prompt, most: int | None, top: int | None, *, call: str | None = None
) -> Asked:
    used = len(prompt.tokens)
    left = CONTEXT - used
    if left < (most or 1):
        message = f"{used} prompt tokens and {most or 1} new ones exceed the context of {CONTEXT}"
        param = "messages" if "messages" in body else "prompt"
        raise Refused(400, message, param=param, code="context_length_exceeded")
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
        call=call,
    )

"""What the server takes: the bodies of requests as JSON Schema, for checking and for documenting.

Every schema has a description that completes the sentence "expected ...". An optional field may be null,
which is as if it were not there. What would change an answer and is not here is refused.
"""

from collections.abc import Mapping
from typing import Any, Final

from refute_runtime.serving.schema import Schema

_LONGEST_PROMPT: Final = 2**20  # token ids; no model that the runtime reads has as many positions
_MOST_TOOLS: Final = 128


def _field(expected: str, kind: str, **keywords: Any) -> Schema:
    return {"description": expected, "type": kind, **keywords}


def _only(expected: str, kind: str, *values: object) -> Schema:
    return _field(expected, kind, enum=list(values))


def _either(expected: str, *schemas: Schema) -> Schema:
    return {"description": expected, "anyOf": list(schemas)}


def _list(expected: str, items: Schema, **keywords: Any) -> Schema:
    return _field(expected, "array", items=items, **keywords)


def _object(expected: str, required: Mapping[str, Schema], optional: Mapping[str, Schema]) -> Schema:
    return _field(
        expected,
        "object",
        required=list(required),
        additionalProperties=False,
        properties={**required, **{name: _nullable(schema) for name, schema in optional.items()}},
    )


def _nullable(schema: Schema) -> Schema:
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if schema["type"] == "null":
        return schema
    values = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **values}


_TEXT: Final = _field("a string", "string")
_NULL: Final = {"description": "null: the server does not produce it", "type": "null"}

_ANSWERING: Final[Mapping[str, Schema]] = {
    "temperature": _field("a number from 0 (greedy) to 2; by default 1", "number", minimum=0, maximum=2),
    "top_p": _field("a number above 0 and at most 1; by default 1", "number", exclusiveMinimum=0, maximum=1),
    "top_k": _field("a whole number, 0 for all tokens; by default 0", "integer", minimum=0, maximum=2**31),
    "min_p": _field("a number from 0 to 1; by default 0", "number", minimum=0, maximum=1),
    "seed": _field(
        "a whole number of 64 bits; by default each answer is drawn anew",
        "integer",
        minimum=-(2**63),
        maximum=2**63 - 1,
    ),
    "stop": _either(
        "a string that is not empty, or up to 4 of them",
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 4},
    ),
    "repetition_penalty": _field(
        "a number from 0.01 to 100; by default 1", "number", minimum=0.01, maximum=100
    ),
    "presence_penalty": _field("a number from -2 to 2; by default 0", "number", minimum=-2, maximum=2),
    "frequency_penalty": _field("a number from -2 to 2; by default 0", "number", minimum=-2, maximum=2),
    "stream": _field("true for the answer as server-sent events, or false", "boolean"),
    "stream_options": _object(
        "an object with include_usage; only where stream is true",
        {},
        {"include_usage": _field("true for a last chunk with usage, or false", "boolean")},
    ),
    "refute_counters": _field(
        "true for an object `refute` in the answer: what the engine did for it; or false", "boolean"
    ),
    "n": _only("1: the server gives one answer", "integer", 1),
    "logit_bias": _field("an empty object: logits are not biased", "object", maxProperties=0),
    "user": _field("a string; it changes nothing", "string"),
}
_MAX_TOKENS: Final = _field("a whole number of at least 1", "integer", minimum=1)

_CALL: Final = _object(
    "a call as the server gave it",
    {
        "id": _TEXT,
        "type": _only("'function'", "string", "function"),
        "function": _object(
            "the function's name and its arguments as a string of JSON",
            {"name": _TEXT, "arguments": _TEXT},
            {},
        ),
    },
    {},
)
_PART: Final = _object("a part of text", {"type": _only("'text'", "string", "text"), "text": _TEXT}, {})
_MESSAGE: Final = _object(
    "a message: its role, its content",
    {
        "role": _only(
            "'system' or 'developer', which are one, 'user', 'assistant' or 'tool'",
            "string",
            *("system", "developer", "user", "assistant", "tool"),
        )
    },
    {
        "content": _either(
            "a string or a list of text parts; only an assistant's may be null",
            {"type": "string"},
            _list("", _PART),
        ),
        "name": _field("a string; templates decide whether they show it", "string"),
        "tool_calls": _list("the calls in an assistant's message", _CALL),
        "tool_call_id": _field("the id of the call that a tool's message answers", "string"),
        "reasoning_content": _field(
            "a string in an assistant's message, for templates that show it", "string"
        ),
        "refusal": _NULL,
        "audio": _NULL,
        "function_call": _NULL,
    },
)
_TOOL: Final = _object(
    "a tool: its type and function",
    {
        "type": _only("'function'", "string", "function"),
        "function": _object(
            "the function's name, description and parameters",
            {"name": _field("up to 64 letters, digits, _ or -", "string", pattern="^[a-zA-Z0-9_-]{1,64}$")},
            {
                "description": _TEXT,
                "parameters": _field("a JSON Schema of the arguments, an object", "object"),
                "strict": _only("false: calls are not held to a schema", "boolean", False),
            },
        ),
    },
    {},
)


def chat_body(model: str) -> Schema:
    """Return the schema of a body for /v1/chat/completions, where this model is served."""
    return _object(
        "a JSON object",
        {
            "model": _only(f"{model!r}, the model that is served", "string", model),
            "messages": _list("a list of messages, at least one", _MESSAGE, minItems=1),
        },
        {
            "max_tokens": _MAX_TOKENS,
            "max_completion_tokens": _field(
                "a whole number of at least 1, the same as max_tokens where both are there; by default as "
                "many as the context has left",
                "integer",
                minimum=1,
            ),
            **_ANSWERING,
            "logprobs": _field("true for the log probability of every token, or false", "boolean"),
            "top_logprobs": _field(
                "a whole number from 0 to 20; only where logprobs is true", "integer", minimum=0, maximum=20
            ),
            "tools": _list(f"a list of up to {_MOST_TOOLS} tools", _TOOL, maxItems=_MOST_TOOLS),
            "tool_choice": _only("'auto', or 'none' for an answer without tools", "string", "auto", "none"),
            "parallel_tool_calls": _only("true: the model decides how many it makes", "boolean", True),
            "response_format": _object(
                "{'type': 'text'}: answers are not held to a schema",
                {"type": _only("'text'", "string", "text")},
                {},
            ),
            "modalities": _list("['text']", _only("'text'", "string", "text"), minItems=1, maxItems=1),
            "metadata": _field(
                "an object of strings; it changes nothing", "object", additionalProperties=_TEXT
            ),
            "store": _only("false: nothing is stored", "boolean", False),
        },
    )


def completion_body(model: str) -> Schema:
    """Return the schema of a body for /v1/completions, where this model is served."""
    return _object(
        "a JSON object",
        {
            "model": _only(f"{model!r}, the model that is served", "string", model),
            "prompt": _either(
                "a string that is not empty, alone or in a list, or a list of token ids",
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 1},
                {
                    "type": "array",
                    "maxItems": _LONGEST_PROMPT,
                    "items": {"type": "integer", "minimum": 0},
                    "minItems": 1,
                },
            ),
        },
        {
            "max_tokens": {**_MAX_TOKENS, "description": "a whole number of at least 1; by default 16"},
            **_ANSWERING,
            "logprobs": _field(
                "a whole number from 0 to 5: how many likeliest tokens", "integer", minimum=0, maximum=5
            ),
            "best_of": _only("1: the server computes one answer", "integer", 1),
            "echo": _only("false: the prompt is not repeated", "boolean", False),
            "suffix": {**_NULL, "description": "null: text is only continued"},
        },
    )

"""The objects of OpenAI's chat API as JSON Schema: keys that must be there, and their types.

After the published description of the API (openapi 2.3.0), with one liberty that every client takes:
`logprobs` of a choice may be missing where none were asked for. What is not listed may be there: servers
tell more.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FINISH = ["stop", "length", "tool_calls", "content_filter", "function_call"]


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "required": [*required],
        "properties": {**required, **(optional or {})},
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_NAMED = _object(
    {"token": _TEXT, "logprob": {"type": "number"}, "bytes": _or_null({"type": "array", "items": _COUNT})}
)
_LIKELIHOOD = {
    "allOf": [_NAMED, _object({"top_logprobs": {"type": "array", "items": _NAMED}})],
}
_LOGPROBS = _or_null(_object({"content": _or_null({"type": "array", "items": _LIKELIHOOD})}))
_FUNCTION = _object({"name": _TEXT, "arguments": _TEXT})
_CALL = _object({"id": _TEXT, "type": {"const": "function"}, "function": _FUNCTION})
_CALL_PART = _object(
    {"index": _COUNT},
    {
        "id": _TEXT,
        "type": {"const": "function"},
        "function": _object({}, {"name": _TEXT, "arguments": _TEXT}),
    },
)
USAGE = _object({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT})


def _answer(name: str, choice: Schema, *, least: int, usage: Schema) -> Schema:
    head = {"id": _TEXT, "object": {"const": name}, "created": {"type": "integer"}, "model": _TEXT}
    choices = {"type": "array", "items": choice, "minItems": least}
    return _object({**head, "choices": choices}, {"usage": usage})


CHUNK = _answer(
    "chat.completion.chunk",
    _object(
        {
            "index": _COUNT,
            "delta": _object(
                {},
                {
                    "role": _TEXT,
                    "content": _TEXT_OR_NULL,
                    "refusal": _TEXT_OR_NULL,
                    "tool_calls": _or_null({"type": "array", "items": _CALL_PART}),
                },
            ),
            "finish_reason": {"enum": [*_FINISH, None]},
        },
        {"logprobs": _LOGPROBS},
    ),
    least=0,
    usage=_or_null(USAGE),
)
"""One event of a stream. Its choices are empty where it tells usage."""

COMPLETION = _answer(
    "chat.completion",
    _object(
        {
            "index": _COUNT,
            "message": _object(
                {"role": {"const": "assistant"}, "content": _TEXT_OR_NULL},
                {
                    "refusal": _TEXT_OR_NULL,
                    "tool_calls": _or_null({"type": "array", "items": _CALL}),
                },
            ),
            "finish_reason": {"enum": _FINISH},
        },
        {"logprobs": _LOGPROBS},
    ),
    least=1,
    usage=USAGE,
)
"""A whole answer."""

ERROR = _object(
    {
        "error": _object(
            {
                "message": {"type": "string", "minLength": 1},
                "type": _TEXT,
                "param": _TEXT_OR_NULL,
                "code": _TEXT_OR_NULL,
            }
        )
    }
)
"""The body of every refusal."""


def misfit(value: object, form: Schema) -> str | None:
    """Say where a value departs from a form; None where it does not."""
    from jsonschema import Draft202012Validator  # noqa: PLC0415 (only few claims need it)
    from jsonschema.exceptions import best_match  # noqa: PLC0415

    error = best_match(Draft202012Validator(form).iter_errors(value))
    return None if error is None else f"{error.json_path}: {error.message[:160]}"

"""The OpenAPI document: requests as the tables in `fields.py` say, which are what checks them."""

from collections.abc import Iterable
from typing import Any

from refute_runtime.serving.schema import Schema

_JSON = "application/json"
_STRING = {"type": "string"}
_NULLABLE_STRING = {"type": ["string", "null"]}
_INTEGER = {"type": "integer"}
_ERRORS = {
    400: "The request asks for what the server does not do; `param` names the field",
    401: "The API key is missing or wrong",
    404: "There is no such path or model",
    405: "The path does not take this method",
    408: "The body came too slowly",
    413: "The body is too large",
    415: "The body is not application/json",
    429: "The queue is full; Retry-After says when to come again, in seconds",
    500: "The server failed",
    503: "The model is loading, or the server shuts down",
    504: "The answer took too long",
}


def document(chat: Schema, completion: Schema, *, protected: bool) -> dict[str, Any]:
    """Return the document of a server that takes these bodies; protected: where clients show a key."""
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "refute serve",
            "version": "1",
            "description": "A subset of OpenAI's API. What is not here is refused, never ignored.",
        },
        "paths": {
            "/v1/chat/completions": {"post": _answering("Answer messages", "Chat", chat)},
            "/v1/completions": {"post": _answering("Continue a prompt", "Completion", completion)},
            "/v1/models": {"get": _asking("List the one model that is served", "ModelList")},
            "/v1/models/{model}": {
                "get": _asking("Describe the model", "Model", 404) | {"parameters": [_NAME]}
            },
            "/health": {"get": _asking("Tell whether the model can be asked", "Health") | {"security": []}},
            "/openapi.json": {"get": _asking("Return this document", "Document")},
        },
        "components": {"schemas": _SCHEMAS},
    }
    if protected:
        whole["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        }
        whole["security"] = [{"bearer": []}, {"header": []}]
    return whole


def _answering(summary: str, name: str, body: Schema) -> dict[str, Any]:
    # OpenAPI 3.1 has no schema of single events, and readers take one of the whole stream for that.
    answers = {_JSON: _named(name), "text/event-stream": {}}
    about = "An answer; as events where `stream` is true: chunks, then [DONE], or an error and nothing more"
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}}},
        "responses": {"200": {"description": about, "content": answers}, **_errors(_ERRORS)},
    }


def _asking(summary: str, name: str, *errors: int) -> dict[str, Any]:
    found = {"description": summary, "content": {_JSON: _named(name)}}
    return {"summary": summary, "responses": {"200": found, **_errors((401, 405, *errors, 500, 503))}}


def _errors(statuses: Iterable[int]) -> dict[str, Any]:
    content = {_JSON: _named("Error")}
    return {str(status): {"description": _ERRORS[status], "content": content} for status in statuses}


def _named(name: str) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _object(*optional: str, **properties: Schema) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_NAME = {"name": "model", "in": "path", "required": True, "schema": _STRING}
_FINISH = {"enum": ["stop", "length", "tool_calls"]}
_TOKEN = {"token": _STRING, "logprob": {"type": "number"}, "bytes": _list(_INTEGER)}
_LOGPROBS = _object(
    content=_list(_object(**_TOKEN, top_logprobs=_list(_object(**_TOKEN)))), refusal={"type": "null"}
)
_LEGACY_LOGPROBS = _object(
    tokens=_list(_STRING),
    token_logprobs=_list({"type": "number"}),
    top_logprobs=_list({"type": "object", "additionalProperties": {"type": "number"}}),
    text_offset=_list(_INTEGER),
)
_CALL = _object(id=_STRING, type={"const": "function"}, function=_object(name=_STRING, arguments=_STRING))
_USAGE = _object(prompt_tokens=_INTEGER, completion_tokens=_INTEGER, total_tokens=_INTEGER)
_REFUTE = _object(
    backend=_STRING,
    device=_STRING,
    numerics=_STRING,
    counters={"type": "object", "additionalProperties": _INTEGER},
)


def _answer(name: str, **choice: Schema) -> Schema:
    whole = _object(index=_INTEGER, **choice, finish_reason=_FINISH)
    return _object(
        "refute",
        id=_STRING,
        object={"const": name},
        created=_INTEGER,
        model=_STRING,
        choices=_list(whole),
        usage=_USAGE,
        refute=_REFUTE,
    )


_MESSAGE = _object(
    "tool_calls",
    role={"const": "assistant"},
    content=_NULLABLE_STRING,
    refusal={"type": "null"},
    tool_calls=_list(_CALL),
)
_MODEL = _object(
    id=_STRING,
    object={"const": "model"},
    created=_INTEGER,
    owned_by=_STRING,
    max_model_len=_INTEGER,
    build=_STRING,
)
_SCHEMAS = {
    "Chat": _answer("chat.completion", message=_MESSAGE, logprobs=_or_null(_LOGPROBS)),
    "Completion": _answer("text_completion", text=_STRING, logprobs=_or_null(_LEGACY_LOGPROBS)),
    "Model": _MODEL,
    "ModelList": _object(object={"const": "list"}, data=_list(_MODEL)),
    "Health": _object(status={"const": "ok"}),
    "Document": {"type": "object"},
    "Error": _object(
        error=_object(message=_STRING, type=_STRING, param=_NULLABLE_STRING, code=_NULLABLE_STRING)
    ),
}

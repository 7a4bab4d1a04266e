"""Values of tool calls that are written as bare text, read as the types that the tool's schema names.

`5` is a number where the schema says so and the text of a file where it says string. Templates write
scalars as Python spells them (`True`, `None`), models also as JSON does, so both are read. A value that
fits none of its types stays the text that it is: the tool sees what the model wrote, and may refuse it.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from refute_runtime.errors import RequestError
from refute_runtime.messages import plain_json

Kinds = frozenset[str]
"""Names of JSON Schema's types; none where a schema does not tell."""

_MOST_SCHEMAS = 100  # looked at for one parameter; a hostile schema refers to others without end
_KINDS_OF_PYTHON = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
# What a JSON-like value looks like in Python, token by token. Nothing else is worth a parser's time.
_PYTHON = re.compile(
    r"""(?:
        [\s\[\](){},:]
        | '(?:[^'\\\n]|\\[\\'"abfnrtv])*+'
        | "(?:[^"\\\n]|\\[\\'"abfnrtv])*+"
        | -?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?\d++)?+(?!\w)
        | (?:True|False|None)(?!\w)
    )*+""",
    re.VERBOSE | re.ASCII,
)


def parameter_kinds(parameters: object) -> dict[str, Kinds]:
    """Return the types that a function's schema allows for each of its parameters."""
    if not isinstance(parameters, Mapping) or not isinstance(parameters.get("properties"), Mapping):
        return {}
    properties: Mapping[str, object] = parameters["properties"]
    return {name: frozenset(_kinds(schema, parameters)) for name, schema in properties.items()}


def typed(text: str, kinds: Kinds) -> object:
    """Read a value as the first type that fits; `string` comes last, for every text fits it."""
    if not kinds - {"string"}:
        return text
    try:
        value = _literal(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, RequestError):
        return text
    kind = _KINDS_OF_PYTHON[type(value)]
    if kind == "number" and "integer" in kinds and value.is_integer():
        return int(value)
    fits = kind in kinds or (kind == "integer" and "number" in kinds)
    return value if fits and kind != "string" else text


def strict_json(text: str) -> Any:
    """Parse JSON of which a client can send every value back.

    Raises ValueError, RecursionError or RequestError for anything else: NaN, numbers past a double's range,
    lone surrogates, deep nesting.
    """
    value = plain_json(json.loads(text, parse_constant=_refuse), "the value")
    json.dumps(value, allow_nan=False)
    return value


def _literal(text: str) -> Any:
    try:
        return strict_json(text)
    except ValueError:
        if not _PYTHON.fullmatch(text):
            raise
        value = plain_json(ast.literal_eval(text), "the value")
        json.dumps(value, allow_nan=False)
        return value


def _kinds(schema: object, root: Mapping[str, object]) -> Iterator[str]:
    waiting, seen, followed = [schema], 0, set[str]()
    while waiting and seen < _MOST_SCHEMAS:
        schema, seen = waiting.pop(), seen + 1
        if not isinstance(schema, Mapping):
            continue
        kinds = schema.get("type")
        yield from (kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str))
        if schema.get("nullable") is True:
            yield "null"
        if kinds is None:
            values = schema.get("enum", [schema["const"]] if "const" in schema else [])
            yield from (
                _KINDS_OF_PYTHON[type(value)] for value in (values if isinstance(values, list) else [])
            )
            yield from (kind for key, kind in (("properties", "object"), ("items", "array")) if key in schema)
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in followed:  # each once: they may go in circles
            followed.add(reference)
            waiting.append(_referred(reference, root))
        for key in ("anyOf", "oneOf", "allOf"):
            alternatives = schema.get(key)
            if isinstance(alternatives, list):
                waiting += alternatives[:_MOST_SCHEMAS]


def _referred(reference: str, root: Mapping[str, object]) -> object:
    """Follow a reference within the schema, as `#/$defs/Point` is one."""
    if not reference.startswith("#/"):
        return None
    found: object = root
    for step in reference[2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")

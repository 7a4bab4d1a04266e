"""The part of JSON Schema that `fields.py` is written in: where a value first departs from a schema.

General validators collect every error, which takes minutes for a prompt of a million tokens.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Schema = Mapping[str, Any]

_TYPES: Mapping[str, Callable[[object], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _number(value) and (not isinstance(value, float) or value.is_integer()),
    "number": lambda value: _number(value),  # noqa: PLW0108 (it is defined below)
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "enum": lambda value, among: value in among,
    "minimum": lambda value, least: not _number(value) or value >= least,
    "maximum": lambda value, most: not _number(value) or value <= most,
    "exclusiveMinimum": lambda value, bound: not _number(value) or value > bound,
    "minLength": lambda value, least: not isinstance(value, str) or len(value) >= least,
    "pattern": lambda value, pattern: not isinstance(value, str) or bool(re.fullmatch(pattern, value)),
    "minItems": lambda value, least: not isinstance(value, list) or len(value) >= least,
    "maxItems": lambda value, most: not isinstance(value, list) or len(value) <= most,
    "maxProperties": lambda value, most: not isinstance(value, dict) or len(value) <= most,
}
KEYWORDS = frozenset(
    {"description", "anyOf", "type", "items", "required", "properties", "additionalProperties", *_BOUNDS}
)


@dataclass(frozen=True, slots=True)
class Departure:
    """Where a value departs from a schema: messages[0].content, for example; "" for the value itself.

    expected: a sentence's end, from the schema. found: the value there, if it is one.
    """

    kind: Literal["value", "missing", "unknown"]
    where: str
    expected: str = ""
    found: object = None


def departure(value: object, schema: Schema, where: str = "") -> Departure | None:
    """Return the first departure, None where there is none. The value is what JSON can hold."""
    if "anyOf" in schema:
        fits = any(departure(value, each, where) is None for each in schema["anyOf"])
        return None if fits else Departure("value", where, schema["description"], value)
    kinds = schema["type"]
    typed = _TYPES[kinds](value) if isinstance(kinds, str) else any(_TYPES[kind](value) for kind in kinds)
    if not typed or not all(_BOUNDS[word](value, schema[word]) for word in schema if word in _BOUNDS):
        return Departure("value", where, schema.get("description", ""), value)
    if isinstance(value, dict):
        return next(_in_object(value, schema, where), None)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            if departure(item, schema["items"]):  # and only then write where
                return departure(item, schema["items"], f"{where}[{index}]")
    return None


def _in_object(value: Mapping[str, object], schema: Schema, where: str) -> Iterator[Departure]:
    fields, others = schema.get("properties", {}), schema.get("additionalProperties")
    inside = f"{where}." if where else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield Departure("missing", inside + name, fields[name]["description"])
    for name, item in value.items():
        expected = fields.get(name, others)
        if expected is False:
            yield Departure("unknown", inside + name)
        elif expected is not None and (found := departure(item, expected, inside + name)):
            yield found


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

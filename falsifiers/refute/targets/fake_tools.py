"""What the simulated engine says to a tool: plain arguments that its JSON Schema allows."""

import json
from collections.abc import Mapping
from typing import Any

from refute.targets.fake_fields import invalid

_MOST = 100  # items of an array, characters of a string


def arguments_for(tool: Mapping[str, Any]) -> str:
    """Return arguments of a function as JSON. Raises `Refused` for a schema that `_value` cannot meet."""
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 (only few requests need it)

    schema = {"type": "object", **tool.get("parameters", {})}
    if '"$' in json.dumps(schema):
        raise invalid("tools", "have parameters with $ref or its like, expected a schema without")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise invalid("tools", f"have parameters that are no JSON Schema: {error.message}") from None
    value = _value(schema)
    if not isinstance(value, dict) or not Draft202012Validator(schema).is_valid(value):
        raise invalid("tools", "have parameters of a kind that this simple engine finds no arguments for")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # a byte is a token


def _value(schema: Any) -> Any:
    """A value of a simple schema: its constant, its first choice, or the plainest of its first type."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            properties = dict.fromkeys(schema.get("required", ())) | schema.get("properties", {})
            return {name: _value(each) for name, each in properties.items()}
        case "array":
            return [_value(schema.get("items", {}))] * min(schema.get("minItems", 1), _MOST)
        case "integer" | "number":
            return max(schema.get("minimum", 3), min(schema.get("maximum", 3), 3))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "né".ljust(min(schema.get("minLength", 0), _MOST), ".")

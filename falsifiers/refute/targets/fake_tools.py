"""What the simulated engine says to a tool: plain arguments that its JSON Schema allows."""

import json
from collections.abc import Mapping
from typing import Any


def call_of(tool: Mapping[str, Any]) -> str:
    """Return arguments for a function of OpenAI's API, as JSON."""
    return json.dumps(_value({"type": "object", **tool.get("parameters", {})}), ensure_ascii=False)


def _value(schema: Mapping[str, Any]) -> Any:
    """A value of types, enum, const, least and largest numbers, and required properties."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "object":
            return {name: _value(each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [_value(schema.get("items", {}))] * max(schema.get("minItems", 1), 1)
        case "integer" | "number":
            return max(schema.get("minimum", 3), min(schema.get("maximum", 3), 3))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "light é".ljust(schema.get("minLength", 0), ".")

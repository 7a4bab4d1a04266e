"""The schemas of contracts and records (JSON Schema 2020-12), and what they say in sentences."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.marked_yaml import Document, Pointer, Problem, did_you_mean

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_NAMES = {
    str: "text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}


def contract_faults(document: Document) -> Iterator[tuple[Pointer, Problem]]:
    """Yield where a document departs from the contract schema: the path in the data, and the sentence."""
    for error in _validator("contract").iter_errors(document.data):
        at: Pointer = tuple(error.absolute_path)
        schema: Any = error.schema
        wanted: Any = error.validator_value
        value: Any = error.instance
        expected = schema.get("description", "")
        match error.validator:
            case "additionalProperties":
                known = tuple(schema["properties"])
                for key in (key for key in value if key not in schema["properties"]):
                    fix = did_you_mean(key, known)
                    what = f"unknown key {key!r}"
                    yield (*at, key), document.key_problem("key-unknown", (*at, key), what, "", fix)
            case "required":
                # jsonschema reports one error for each missing key and names the key in its message only.
                key = next(key for key in wanted if error.message.startswith(repr(key)))
                of = schema["properties"][key]
                expected = of.get("description") or _resolve(of).get("description", "")
                what = f"{key!r} is missing"
                yield at, document.problem("key-missing", at, what, expected, f"add {key}:")
            case "enum":
                fix = did_you_mean(value, wanted)
                what = f"{_shown(value)} does not fit"
                yield at, document.problem("value-choice", at, what, expected, fix)
            case "type" if schema == _resolve({"$ref": "#/$defs/quantity"}) and _number(value):
                what, fix = f"{value} has no unit", f"write its unit, such as {value} ms"
                yield at, document.problem("quantity-unit", at, what, expected, fix)
            case "type":
                what = f"{_shown(value)} is {_name(value)}"
                yield (
                    at,
                    document.problem("value-type", at, what, expected, _quoted(error) or _such_as(schema)),
                )
            case "minItems":
                yield at, document.problem("list-empty", at, "the list is empty", expected, "add an entry")
            case "uniqueItems":
                fix = "remove one of them"
                yield at, document.problem("list-twice", at, "an entry stands twice", expected, fix)
            case _:
                what = f"{_shown(value)} does not fit"
                yield at, document.problem("value-form", at, what, expected, _such_as(schema))


def schema_text(name: str) -> str:
    """Return a schema as it is published: of `contract` for editors, of `finding` and others for readers."""
    return (Path(__file__).parent / f"{name}.schema.json").read_text(encoding="utf-8")


@functools.cache
def _schema(name: str) -> Any:
    return json.loads((Path(__file__).parent / f"{name}.schema.json").read_bytes())


@functools.cache
def _validator(name: str) -> "Validator":
    # Imported here: jsonschema takes longer to import than everything else that reads a contract.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return Draft202012Validator(_schema(name))


def _resolve(schema: Any) -> Any:
    return _schema("contract")["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name(value: Any) -> str:
    return "empty" if value is None else _NAMES.get(type(value), "a number")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)
    if value is None:
        return "this value"
    return text if len(text) <= 60 else text[:59] + "…"


def _such_as(schema: Any) -> str:
    example = next(iter(schema.get("examples", ())), None)
    return (
        "" if example is None else f"such as {example if isinstance(example, str) else json.dumps(example)}"
    )


def _quoted(error: Any) -> str:
    """Offer quotes where text was meant and YAML read something else."""
    wants_text = "string" in error.validator_value and isinstance(error.instance, bool | int | float)
    return "quote it if text is meant" if wants_text else ""

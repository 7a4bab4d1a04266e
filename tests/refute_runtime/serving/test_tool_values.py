"""Text of a tool's parameters, read as the types of its schema."""

import json
import math
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute_runtime.serving.tool_values import parameter_kinds, typed

NULLABLE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
MANY = {"type": ["integer", "boolean", "null", "array", "string"]}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def read(text: str, schema: object, **root: object) -> object:
    return typed(text, parameter_kinds({"properties": {"p": schema}, **root})["p"])


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", {"type": "integer"}, 5),
        (" -5\n", {"type": "integer"}, -5),
        ("5.0", {"type": "integer"}, 5),
        ("5.5", {"type": "integer"}, "5.5"),
        ("five", {"type": "integer"}, "five"),
        ("True", {"type": "integer"}, "True"),
        ("1" * 5000, {"type": "integer"}, "1" * 5000),
        ("5", {"type": "number"}, 5),
        ("5.50", {"type": "number"}, 5.5),
        (".5", {"type": "number"}, 0.5),
        ("1e-3", {"type": "number"}, 0.001),
        ("1e999", {"type": "number"}, "1e999"),
        ("NaN", {"type": "number"}, "NaN"),
        ("-Infinity", {"type": "number"}, "-Infinity"),
        ("5 kg", {"type": "number"}, "5 kg"),
        ("true", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("1", {"type": "boolean"}, "1"),
        ("yes", {"type": "boolean"}, "yes"),
        ("null", {"type": "null"}, None),
        ("None", NULLABLE, None),
        ("null", NULLABLE, None),
        ("None", {"type": "string"}, "None"),
        ("null", {"type": "integer"}, "null"),
        ("null", {"type": "integer", "nullable": True}, None),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        (
            "{'a': [1, True, None, 'it\\'s'], 'b': (2,)}",
            {"type": "object"},
            {"a": [1, True, None, "it's"], "b": [2]},
        ),
        ('{"a": 1', {"type": "object"}, '{"a": 1'),
        ("[1]", {"type": "object"}, "[1]"),
        ("{1: 2}", {"type": "object"}, "{1: 2}"),
        ("{[]: 2}", {"type": "object"}, "{[]: 2}"),
        ("{1, 2}", {"type": "array"}, "{1, 2}"),
        ('{"a": "\\ud800"}', {"type": "object"}, '{"a": "\\ud800"}'),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ("['a', \"b\"]", {"type": "array"}, ["a", "b"]),
        ("[" * 100 + "]" * 100, {"type": "array"}, "[" * 100 + "]" * 100),
        ("(" * 100_000 + ")" * 100_000, {"type": "array"}, "(" * 100_000 + ")" * 100_000),
        ("[" * 100_000, {"type": "array"}, "[" * 100_000),
        ("__import__('os')", {"type": "array"}, "__import__('os')"),
        ("a, b", {"type": "array"}, "a, b"),
        ("", {"type": "array"}, ""),
        ("5", {"type": "string"}, "5"),
        (" x\n", {"type": "string"}, " x\n"),
        ("5", {}, "5"),
        ("5", True, "5"),
        ("5", {"type": "unheard-of"}, "5"),
        # Several types: the first that fits, a string where none does.
        ("5", MANY, 5),
        ("[5]", MANY, [5]),
        ("5.5", MANY, "5.5"),
        ('"5"', MANY, '"5"'),
        ("5", {"oneOf": [{"type": "number"}, {"type": "string"}]}, 5),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"enum": ["1", "2"]}, "2"),
        ("2", {"const": 2}, 2),
        ('{"x": 1}', {"properties": {"x": {}}}, {"x": 1}),
        ("[1]", {"items": {}}, [1]),
    ],
)
def test_typed(text: str, schema: object, value: object) -> None:
    found = read(text, schema)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("#/$defs/Point", {"x": 1}),
        ("#/$defs/a~1b~0", {"x": 1}),
        ("#/$defs/Missing", '{"x": 1}'),
        ("#/$defs/Loop", '{"x": 1}'),
        ("https://example.com/point", '{"x": 1}'),
        (5, '{"x": 1}'),
    ],
)
def test_references_within_the_schema_are_followed(reference: object, value: object) -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}}}
    defs = {"Point": point, "a/b~": point, "Loop": {"$ref": "#/$defs/Loop"}}
    assert read('{"x": 1}', {"$ref": reference}, **{"$defs": defs}) == value
    assert read('{"x": 1}', {"allOf": [{"$ref": reference}]}, **{"$defs": defs}) == value


def test_references_that_multiply_are_followed_once() -> None:
    many = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in range(30)]}
    defs = {str(name): many for name in range(30)} | {"29": {"type": "integer"}}
    assert read("5", many, **{"$defs": defs}) == 5


def test_a_chain_of_references_is_followed_for_a_while() -> None:
    chain = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(5000)} | {"5000": {"type": "integer"}}
    assert read("5", {"$ref": "#/$defs/4950"}, **{"$defs": chain}) == 5
    assert read("5", {"$ref": "#/$defs/0"}, **{"$defs": chain}) == "5"


@pytest.mark.parametrize("parameters", [None, 5, {}, {"properties": None}, {"properties": []}])
def test_a_schema_that_names_no_parameters_tells_no_types(parameters: object) -> None:
    assert parameter_kinds(parameters) == {}


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"type": [5]}, {"enum": 5}, {"anyOf": 5}, {"anyOf": [5]}, {"$ref": {}}, None]
)
def test_a_schema_that_is_none_reads_strings(schema: object) -> None:
    assert read("5", schema) == "5"


@given(JSON_VALUES)
def test_what_json_and_python_write_is_read_by_the_type_that_it_has(value: Any) -> None:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    schema = {"type": names.get(type(value), "null")}
    if not isinstance(value, str):
        assert read(json.dumps(value, ensure_ascii=False), schema) == value
        assert read(json.dumps(value), schema) == value
    if value is None or isinstance(value, (bool, int, float)):
        assert read(str(value), schema) == value


@given(st.text(alphabet="[](){},: '\"\\1.eE-TrueNonFals\n", max_size=30))
def test_any_text_gives_a_value_that_fits_or_itself(text: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = read(text, {"type": ["array", "object", "number"]})
    assert not caught
    assert value == text or isinstance(value, (list, dict, int, float))
    assert not isinstance(value, bool)
    assert not (isinstance(value, float) and not math.isfinite(value))

"""Our reading of JSON Schema against the library's."""

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_server import MODEL, chat, completion

from refute_runtime.serving.fields import chat_body, completion_body
from refute_runtime.serving.schema import KEYWORDS, departure

TABLES = [(chat(), chat_body(MODEL)), (completion(), completion_body(MODEL))]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
PIECES = [
    *(None, True, False, 0, 1, -1, 1.0, 0.5, 2, 3.5, 16, 2**63, 10**400, "", "a", "text", "auto", "function"),
    *(
        [],
        [1, 2],
        [1, -1],
        ["a"],
        ["a", "b"],
        ["a"] * 5,
        ["text"],
        {},
        {"type": "text"},
        {"a": "b"},
        {"a": 1},
    ),
    *({"include_usage": True}, {"include_usage": None}, {"else": 1}, TOOL, [TOOL], [TOOL, CALL], [CALL]),
    *([{"role": "user"}], [{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
    *([{"role": "assistant", "tool_calls": [CALL], "content": None}], [{"role": "nobody"}]),
]


def schemas(schema):
    yield schema
    inner = [*schema.get("anyOf", ()), *schema.get("properties", {}).values()]
    others = [schema.get("items"), schema.get("additionalProperties")]
    for each in [*inner, *(other for other in others if isinstance(other, dict))]:
        yield from schemas(each)


@pytest.mark.parametrize("schema", [schema for _, schema in TABLES])
def test_the_tables_use_what_is_read_of_json_schema(schema):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert {keyword for each in schemas(schema) for keyword in each} <= KEYWORDS


@pytest.mark.parametrize(("usual", "schema"), TABLES)
def test_every_field_says_what_it_expects(usual, schema):
    library = jsonschema.Draft202012Validator(schema)
    for name in schema["properties"]:
        for piece in PIECES:
            body = usual | {name: piece}
            found = departure(body, schema)
            assert (found is None) == library.is_valid(body), (name, piece)
            if found and found.kind != "unknown":
                assert found.expected, (name, piece)


@pytest.mark.parametrize(("usual", "schema"), TABLES)
def test_bodies_are_sound_where_the_library_finds_them_so(usual, schema):
    library = jsonschema.Draft202012Validator(schema)

    @settings(max_examples=200)
    @given(
        st.dictionaries(st.sampled_from([*schema["properties"], "else"]), st.sampled_from(PIECES), max_size=4)
    )
    def compare(fields):
        body = usual | fields
        assert (departure(body, schema) is None) == library.is_valid(body)

    compare()


def test_a_name_ends_where_its_pattern_ends():
    schema = {"type": "string", "pattern": "^a$"}
    assert departure("a", schema) is None
    assert departure("a\n", schema)


def test_the_place_of_a_departure_is_written_as_fields_are():
    (usual, schema), _ = TABLES
    body = usual | {"messages": [*usual["messages"], {"role": "assistant", "tool_calls": [CALL | {"id": 1}]}]}
    assert departure(body, schema).where == "messages[1].tool_calls[0].id"

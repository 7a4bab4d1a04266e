"""JSON that reads back as it was written, floats and all, or is refused."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refute import strict_json
from refute.strict_json import StrictJsonError, dump_strict, load_strict


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "c": 2, "b": 3}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 9007199254740993}',
        '{"a": -9007199254740993}',
        '{"a": 1' + "0" * 5000 + "}",
        "[" * 100_000,
        '{"a": 1} {"b": 2}',
        '{"a": 1e400}',
        '{"a": -1E400}',
        '{"a":1.25e0400}',
        '{"a":\t1e+400}',
        "1e400",
        "-9007199254740993",
        '{"a": 0.' + "1" * 600 + "e999}",
        '{"a": 1, "\\u0061": 1}',
        "",
        "\xef\xbb\xbf{}",
    ],
)
def test_ambiguous_json_is_refused(text):
    with pytest.raises(StrictJsonError):
        load_strict(text.encode("latin-1"))


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(StrictJsonError):
        load_strict(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53 + 1,
        {1: 2},
        {"x"},
        b"x",
        "\ud800",
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_would_not_read_back_is_not_written(value):
    with pytest.raises(StrictJsonError):
        dump_strict({"a": [value]})


def test_a_refusal_names_the_place():
    with pytest.raises(StrictJsonError, match="/a~1b/0/c"):
        dump_strict({"a/b": [{"c": float("nan")}]})


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain))
def test_documents_read_back_the_same(document):
    assert repr(load_strict(dump_strict(document))) == repr(document)


# --- two parsers, one meaning


def outcome(read, data):
    try:
        return repr(read(data))
    except StrictJsonError:
        return "refused"


numbers = st.from_regex(r"\A-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?0{0,2}[0-9]{1,4})?\Z")
tokens = numbers | st.sampled_from(
    ["NaN", "Infinity", "null", '"e400"', '"9e999"', '"\\ud800"', '{"a": 1, "a": 2}', "[", "01", "1.", '"\t"']
)


@given(st.lists(tokens, max_size=4), st.sampled_from([",", ", ", " ,\n\t", ":"]))
@example(["1e400"], ", ")
def test_the_fast_parser_reads_what_the_other_one_reads_and_nothing_else(parts, between):
    data = f"[{between.join(parts)}]".encode()
    assert outcome(load_strict, data) == outcome(strict_json._load, data)


@given(st.lists(numbers, min_size=1))
def test_numbers_that_anyone_writes_are_read_alike(texts):
    data = f"[{','.join(texts)}]".encode()
    assert outcome(load_strict, data) == outcome(strict_json._load, data)
    if outcome(load_strict, data) != "refused":
        assert repr(load_strict(data)) == repr(json.loads(data))


def test_an_ordinary_record_needs_only_the_fast_parser(monkeypatch):
    digest = "0e999" + "1e123" * 11 + "beef"
    data = dump_strict({"sha256": digest, "time": 2**52, "rate": [1e-05, 1e16, 0.1234567890123456789]})
    monkeypatch.setattr(strict_json, "_load", None)
    assert load_strict(data)["sha256"] == digest

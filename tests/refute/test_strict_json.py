"""JSON that reads back as it was written, floats and all, or is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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

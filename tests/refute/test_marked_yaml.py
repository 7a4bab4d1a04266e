"""YAML as contracts have it: scalars of YAML 1.2, plain data only."""

import pytest
from contract_texts import problems_of

from refute.contract import ContractError
from refute.marked_yaml import DEPTH_LIMIT, read_yaml


def read_value(folder, text):
    path = folder / "value.yaml"
    path.write_text(f"value: {text}\n", encoding="utf-8")
    document = read_yaml(path)
    if document.problems:
        raise ContractError(list(document.problems))
    return document.data["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-23", "2026-11-23"),
        ("'2026-11-23'", "2026-11-23"),
        ("1.0.0", "1.0.0"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'on'", "on"),
        ("'5'", "5"),
        ("true", True),
        ("5", 5),
        ("-5", -5),
        ("1e3", 1000.0),
        ("0.5", 0.5),
        ("~", None),
        ("=", "="),
        ("|\n  12\n", "12\n"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(folder, text, value):
    found = read_value(folder, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["on", "off", "yes", "No", "YES"])
def test_a_word_that_is_a_boolean_to_some_readers_is_refused(folder, text):
    with pytest.raises(ContractError, match="is a boolean to some YAML readers and text to others"):
        read_value(folder, text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("010", "octal"),
        ("9007199254740992", "too large"),
        ("1" * 5000, "too large"),
        ("1e999", "too large"),
        (".nan", "no finite number"),
        ("-.inf", "no finite number"),
        ("!!str 5", "a tag"),
        ("!!python/object/apply:os.system [echo]", "a tag"),
        ("&a 5", "an anchor &a"),
        ("&a [*a]", "an alias"),
        ("{a: 1, a: 2}", "duplicate key 'a', first on line 1"),
        ("{[1]: 2}", "a key that is not a word"),
        ("1\n---\nb: 2", "a second document"),
        ("[1", "not YAML"),
        ("\x01", "not YAML"),
        ("{<<: {a: 1}, b: *c}", "an alias"),
        ('"\\ud800"', "not YAML|surrogate"),
        ('"\\U00110000"', "not YAML"),
    ],
)
def test_what_is_no_plain_data_is_refused(folder, text, sentence):
    with pytest.raises(ContractError, match=sentence):
        read_value(folder, text)


def test_an_alias_bomb_is_refused_without_being_expanded(folder):
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 100)]
    assert "an alias *a0" in " ".join(problems_of(folder, "\n".join(lines)))


@pytest.mark.parametrize("bracket", ["[", "{a: ", "- "])
def test_deep_nesting_is_refused(folder, bracket):
    assert f"at most {DEPTH_LIMIT} levels" in problems_of(folder, bracket * 50_000)[0]

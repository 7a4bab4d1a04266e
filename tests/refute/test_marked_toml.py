"""A TOML file with positions: of every key and value, and of what is no TOML."""

import json
import string
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.marked_toml import SIZE_LIMIT, read_toml
from refute.marked_yaml import ContractError

SAMPLE = """\
# comment = "[no.table]"
[tool.refute]
evidence = ["evidence", # first
            'other']
[tool.refute.profiles.release]
max-age-days = 90 # days
text = \"\"\"
[not.a.table]
x = 1 \\"\"\" still text\"\"\"
"quoted key".inner = {a = 1, "b\\"c" = [{d = 2}]}

[[tool.refute.waivers]]
claim = "a/b"
[[tool.refute.waivers]]
claim = "c/d"
expires = 2026-12-31
[tool.refute.waivers.sub]
x = true
"""


def written(tmp_path, text):
    path = tmp_path / "pyproject.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("pointer", "value", "key"),
    [
        (("tool", "refute", "evidence"), (3, 12), (3, 1)),
        (("tool", "refute", "evidence", 0), (3, 13), None),
        (("tool", "refute", "evidence", 1), (4, 13), None),
        (("tool", "refute", "profiles", "release"), (5, 1), (5, 23)),
        (("tool", "refute", "profiles", "release", "max-age-days"), (6, 16), (6, 1)),
        (("tool", "refute", "profiles", "release", "quoted key", "inner"), (10, 22), (10, 14)),
        (("tool", "refute", "profiles", "release", "quoted key", "inner", 'b"c', 0, "d"), (10, 45), (10, 41)),
        (("tool", "refute", "waivers", 0, "claim"), (13, 9), (13, 1)),
        (("tool", "refute", "waivers", 1), (14, 1), None),
        (("tool", "refute", "waivers", 1, "expires"), (16, 11), (16, 1)),
        (("tool", "refute", "waivers", 1, "sub", "x"), (18, 5), (18, 1)),
    ],
)
def test_every_key_and_value_has_its_place(tmp_path, pointer, value, key):
    document = read_toml(written(tmp_path, SAMPLE))
    assert document.values[pointer] == value
    assert document.keys.get(pointer) == key


def test_lines_that_end_in_crlf_count_the_same(tmp_path):
    unix = read_toml(written(tmp_path, SAMPLE))
    other = read_toml(written(tmp_path, SAMPLE.replace("\n", "\r\n")))
    assert (other.values, other.keys, other.data) == (unix.values, unix.keys, unix.data)


def test_the_whole_file_of_this_project_has_positions():
    document = read_toml(Path(__file__).parents[2] / "pyproject.toml")
    assert pointers(document.data) <= document.values.keys()


@pytest.mark.parametrize(
    ("text", "line", "column", "rule"),
    [
        ("a = 1\nb = \n", 2, 5, "toml-syntax"),
        ("a = 1\na = 2\n", 2, 6, "toml-syntax"),
        ("a = [1,\n", 2, 1, "toml-syntax"),
        (b"a = 1\nb = '\xff'", 2, 6, "file-encoding"),
        ("a = " + "[" * 5000, 1, 1, "toml-depth"),
        ("#" * (SIZE_LIMIT + 1), 1, 1, "file-size"),
    ],
    ids=["no value", "twice", "cut", "not utf-8", "deep", "large"],
)
def test_what_is_no_toml_is_told_with_its_place(tmp_path, text, line, column, rule):
    with pytest.raises(ContractError) as refused:
        read_toml(written(tmp_path, text))
    (problem,) = refused.value.problems
    assert (problem.line, problem.column, problem.rule) == (line, column, rule)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ContractError, match="cannot be read: No such file"):
        read_toml(tmp_path / "nothing.toml")


def pointers(data, at=()):
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return {at}.union(*(pointers(member, (*at, step)) for step, member in steps))


def lines(table, at=()):
    """Write a table with headers for the tables in it, and all else in one line each."""
    headed = {key: each for key, each in table.items() if isinstance(each, dict)}
    yield from (f"{json.dumps(key)} = {inline(table[key])}\n" for key in table.keys() - headed.keys())
    for key, member in headed.items():
        name = ".".join(map(json.dumps, (*at, key)))
        yield f"[{name}] # a table\n"
        yield from lines(member, (*at, key))


def inline(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n ".join(map(inline, value)) + "]"
    return str(value) if isinstance(value, date) else json.dumps(value)


KEYS = st.text(st.sampled_from(string.ascii_letters + "-_. \"'\\#[]=é\n\t"), min_size=1, max_size=6)
LEAVES = st.one_of(
    st.integers(-9, 9), st.booleans(), st.dates(), st.text(string.printable.replace("\r", ""), max_size=12)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of its own: a pyproject.toml above the folders of other tests is theirs too."""
    return tmp_path_factory.mktemp("toml")


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_is_written_every_key_and_value_has_a_place(folder, data):
    text = "".join(lines(data))
    document = read_toml(written(folder, text))
    assert document.data == tomllib.loads(text)
    assert pointers(document.data) <= document.values.keys()

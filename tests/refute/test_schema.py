"""The published schema: complete enough for an editor, and of one mind with the reader."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from contract_texts import FAULTS, KINDS, contract_data
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import refute
from refute.cli import main
from refute.contract_files import find_contracts
from refute.faults import FAULTS as ALL_FAULTS
from refute.kinds import BUILT_IN
from refute.lint import lint
from refute.schemas import schema_text
from refute.targets.base import CAPABILITIES

SCHEMA = json.loads(schema_text("contract"))
VALIDATOR = Draft202012Validator(SCHEMA)


def resolved(schema):
    """The schema with what it refers to; its own words come first."""
    if "$ref" not in schema:
        return schema
    return {**resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]), **schema}


def parts(schema, at="contract"):
    """Every property and every entry of a list, by where it stands."""
    schema = resolved(schema)
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{at}.{name}")
    if "items" in schema:
        yield from parts(schema["items"], f"{at}[]")


PARTS = dict(parts(SCHEMA))


def test_it_is_a_schema_with_a_version_in_its_name(capsys):
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == "urn:refute:schema:contract:1"
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


@pytest.mark.parametrize("at", PARTS)
def test_an_editor_can_say_what_each_part_is(at):
    assert PARTS[at].get("description")


@pytest.mark.parametrize("at", [at for at in PARTS if "examples" in PARTS[at]])
def test_an_example_fits(at):
    for example in PARTS[at]["examples"]:
        Draft202012Validator({**PARTS[at], "$defs": SCHEMA["$defs"]}).validate(example)


def test_examples_of_names_exist():
    falsifier = "contract.falsifiers[]"
    assert set(PARTS[f"{falsifier}.kind"]["examples"]) <= set(BUILT_IN)
    assert set(PARTS[f"{falsifier}.requires[]"]["examples"]) <= CAPABILITIES
    assert {name.partition("=")[0] for name in PARTS[f"{falsifier}.must_catch[]"]["examples"]} <= set(
        ALL_FAULTS
    )


def test_the_bundled_contracts_name_the_schema_in_their_first_line():
    package = Path(refute.__file__).parent
    for path in find_contracts(package, [Path(__file__).parents[2] / "contracts"]):
        line, first = path.read_text().splitlines()[0], "# yaml-language-server: $schema="
        assert line.startswith(first), f"{path} has no modeline"
        assert line.removeprefix(first) == "../falsifiers/refute/schemas/contract.schema.json"
        checkout = path.parents[1] / "falsifiers"
        assert not checkout.is_dir() or (path.parent / line.removeprefix(first)).is_file()


_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 1e300, 2**60])
    | st.text("ab/-.=1 \n", max_size=5)
    | st.sampled_from(
        ["", "a" * 101, "1.0", "1.2.3", "median", "p100", "5 ms", "2026-11-23", "full-model", "A_1"]
    )
    | st.sampled_from([[], {}, [1], ["a", "a"], {"extra": 1}])
)


def _places(data, at=()):
    if at:
        yield at
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from _places(data[key], (*at, key))


_PLACES = list(_places(contract_data()))


@given(st.sampled_from(_PLACES), _VALUES, st.sampled_from(["set", "remove", "add"]))
def test_what_breaks_the_schema_is_said_and_what_is_clean_fits_it(tmp_path_factory, place, value, edit):
    data = contract_data()
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    if edit == "remove":
        del inside[place[-1]]
    elif edit == "add" and isinstance(inside, dict):
        inside["extra"] = value
    else:
        inside[place[-1]] = copy.deepcopy(value)
    path = tmp_path_factory.mktemp("schema") / "example-v1.yaml"
    path.write_text(json.dumps(data))
    fits = VALIDATOR.is_valid(data)
    problems = lint([path], kinds=KINDS, faults=FAULTS)
    assert fits or problems
    if not problems:
        VALIDATOR.validate(yaml.safe_load(path.read_text()))

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from contract_texts import (
    change,
    contract_data,
    load,
    load_data,
    problems_of,
    problems_of_data,
    write_contract,
)
from hypothesis import example, given
from hypothesis import strategies as st

from refute.contract import Bound, ContractError, Scope, load_contract
from refute.contract_files import find_contracts
from refute.faults.base import Fault
from refute.marked_yaml import SIZE_LIMIT
from refute.verdict import Level

# what is read


def test_a_contract_is_read_whole(folder):
    path = write_contract(folder, contract_data())
    contract = load(path)
    assert (contract.id, contract.version, contract.title) == ("example-v1", "1.1.0", "An example")
    assert contract.model.sha256 == ("a" * 64, "b" * 64)
    assert contract.scope == Scope(("one sequence",), ())
    assert [change.date for change in contract.history] == ["2026-11-23", "2026-11-24"]
    assert contract.source == path.read_bytes()
    assert contract.bytes_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_falsifier_is_read_whole(folder):
    exact, fast = load_data(folder, contract_data()).falsifiers
    assert exact.parameters == {"max_tokens": 32, "margin": "0.01 logit"}
    assert exact.must_catch == (Fault("stale-row", 8.0), Fault("temperature-scaled", 1.25))
    assert exact.bound == Bound(confidence=0.95, cases=40)
    assert exact.discharge is Level.FULL_MODEL
    assert (exact.alias, fast.alias) == ("EXACT_1", None)
    assert fast.needs == ("example-v1/exact",)


def test_a_falsifier_knows_its_line(folder):
    path = write_contract(folder, contract_data())
    lines = path.read_text().splitlines()
    for falsifier in load(path).falsifiers:
        assert lines[falsifier.line - 1][falsifier.column - 1 :] == f"id: {falsifier.id}"


@pytest.mark.parametrize(
    ("text", "value", "unit"), [("5 tok/s", 5.0, "tok/s"), ("500 ms", 0.5, "s"), ("40 us", 4e-5, "s")]
)
def test_a_threshold_is_read_in_its_base_unit(folder, text, value, unit):
    data = contract_data()
    data["falsifiers"][1]["bound"]["above"] = text
    bound = load_data(folder, data).falsifiers[1].bound
    assert (bound.above, bound.unit) == (value, unit)


def test_optional_parts_of_a_falsifier_may_be_left_out(folder):
    data = contract_data()
    for key in ("alias", "with", "needs"):
        del data["falsifiers"][0][key]
    falsifier = load_data(folder, data).falsifiers[0]
    assert (falsifier.alias, falsifier.parameters, falsifier.needs) == (None, {}, ())


def test_the_bundled_contracts_are_read():
    bundled = find_contracts(Path(__file__).parent)
    assert [load_contract(path).id for path in bundled] == [path.stem for path in bundled]


# faults of a file


def test_a_problem_is_one_sentence_with_file_line_and_column(folder):
    data = contract_data()
    data["titel"] = data.pop("title")
    path = write_contract(folder, data)
    with pytest.raises(ContractError) as caught:
        load(path)
    line = path.read_text().splitlines().index("titel: An example") + 1
    assert str(caught.value).splitlines() == [
        f"{path}:1:1: 'title' is missing; expected a text: the contract in one line; add title:",
        f"{path}:{line}:1: unknown key 'titel'; did you mean 'title'?",
    ]


def test_both_lines_of_a_duplicate_key_are_named(folder):
    path = write_contract(folder, contract_data())
    text = path.read_text() + "title: Again\n"
    last = len(text.splitlines())
    assert problems_of(folder, text) == [
        f"{last}:1: duplicate key 'title', first on line 3; expected every key once; remove one of them"
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n", "the file is empty"),
        (b"- 1\n", "is a list; expected"),
        (b"text", "is text; expected"),
        (b"\xff\xfeid", "not UTF-8"),
        (b"id: x\nname: \xe9\n", ":2:7: not UTF-8"),
        (b"#" * (SIZE_LIMIT + 1), "too large for a contract"),
    ],
)
def test_a_file_that_holds_no_contract(folder, content, sentence):
    path = folder / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=sentence):
        load(path)


def test_a_file_that_is_not_there(folder):
    with pytest.raises(ContractError, match="no such file"):
        load(folder / "absent.yaml")


def test_a_folder_is_no_file(folder):
    with pytest.raises(ContractError, match="not a file"):
        load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ContractError, match="not a file"):
        load(tmp_path / "pipe.yaml")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@`,?\n \t0159.~\ud7ff\U0001f600\0"), max_size=60))
@example("? a\n: b")
@example("falsifiers: {a: 1}")
@example("falsifiers: [[], 1, {}]")
def test_any_text_is_a_contract_or_a_contract_error(folder, text):
    path = folder / "fuzz.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError):
        load(path)


_ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


def _places(data, at=()):
    yield at
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from _places(data[key], (*at, key))


_PLACES = [place for place in _places(contract_data()) if place]


@given(st.sampled_from(_PLACES), _ANY)
def test_any_value_anywhere_is_read_or_refused_in_a_sentence(folder, place, value):
    data = contract_data()
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    try:
        load_data(folder, data)
    except ContractError as error:
        problems = error.problems
    else:
        return
    assert all(problem.what and problem.line >= 1 and problem.column >= 1 for problem in problems)


@pytest.mark.parametrize(
    "place",
    [
        place
        for place in _PLACES
        if isinstance(place[-1], str)
        and place[-1] not in ("alias", "with", "needs", "testbeds", "of", "statistic")
        if "with" not in place and place != ("falsifiers", 1, "bound", "above")
        if place[-1] != "cases"
    ],
)
def test_a_missing_key_is_named(folder, place):
    data = contract_data()
    inside = data
    for key in place[:-1]:
        inside = inside[key]
    del inside[place[-1]]
    assert any(what == f"{place[-1]!r} is missing" for what, _, _ in problems_of_data(folder, data))


# faults of a falsifier


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (change(1, "above", 5, "bound"), "5 has no unit"),
        (change(1, "above", "5", "bound"), "has no unit; units are tok/s"),
        (change(1, "above", "5 parsec", "bound"), "unknown unit 'parsec'"),
        (change(1, "below", "9 tok/s", "bound"), "above and below in one bound"),
        (change(1, "cases", 9, "bound"), "threshold and cases in one bound"),
        (change(1, "bound", {"confidence": 0.9}), "the bound bounds nothing"),
        (change(1, "bound", {"confidence": 0.9, "above": "2 x"}), "'runs' is missing"),
        (change(1, "bound", {"confidence": 0.9, "above": "2 s", "runs": 9}), "names no testbeds"),
        (change(1, "above", "2 x", "bound"), "testbeds for a bound that does not depend on the host"),
        (change(1, "confidence", 1, "bound"), "1 does not fit"),
        (change(1, "confidence", 0.0, "bound"), "0.0 does not fit"),
        (change(1, "runs", 1.5, "bound"), "1.5 is a number"),
        (change(1, "runs", True, "bound"), "True is a boolean"),
        (change(0, "kind", "serched"), "no kind is called 'serched'"),
        (change(0, "must_catch", ["stale-rows"]), "did you mean 'stale-row'?"),
        (change(0, "must_catch", ["stale-row=x"]), "dose 'x' of fault stale-row is no number"),
        (change(0, "must_catch", ["stale-row="]), "is not above zero and finite"),
        (change(0, "must_catch", ["stale-row=nan"]), "is not above zero and finite"),
        (change(0, "must_catch", []), "the list is empty"),
        (change(0, "must_catch", ["stale-row", "stale-row"]), "an entry stands twice"),
        (change(0, "id", "fast"), "duplicate id 'fast'"),
        (change(0, "id", "Exact"), '"Exact" does not fit'),
        (change(0, "id", "exact\n"), "does not fit"),
        (change(0, "discharge", "other"), '"other" does not fit'),
        (change(0, "claim", ""), "does not fit"),
        (change(0, "claim", None), "this value is empty"),
        (change(0, "with", {"a": 1, "extra": None}), None),
        (change(0, "needs", ["exact"]), "does not fit"),
        (change(0, "status", "discharged"), "unknown key 'status'"),
    ],
)
def test_a_fault_of_a_falsifier_is_said(folder, data, sentence):
    if sentence is None:
        load_data(folder, data)
        return
    assert any(sentence in "; ".join(parts) for parts in problems_of_data(folder, data))


def test_every_fault_is_reported_at_once(folder):
    data = change(0, "kind", "serched")
    data["version"] = "one"
    data["falsifiers"][1]["bound"]["above"] = "5"
    assert len(problems_of_data(folder, data)) == 3


def test_reading_a_contract_imports_neither_numpy_nor_hypothesis(folder):
    path = write_contract(folder, contract_data(), "light")
    code = (
        "import sys; from pathlib import Path; from refute.contract import load_contract;"
        "assert 'jsonschema' not in sys.modules;"
        "load_contract(Path(sys.argv[1]), kinds=('searched', 'measured'));"
        "print(*sorted({'numpy', 'hypothesis', 'refute_runtime', 'pytest'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""

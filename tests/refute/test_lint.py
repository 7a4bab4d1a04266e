import copy
import re

import pytest
from contract_texts import FAULTS, KINDS, contract_data, write_contract
from hypothesis import given
from hypothesis import strategies as st

from refute.contract_files import find_contracts
from refute.lint import lint


def sentences(folder, *data, name="example-v1"):
    """Lint a folder of contracts, each in the file of its id; what, expected, fix in one text each."""
    for path in folder.glob("*.yaml"):
        path.unlink()
    for each in data:
        write_contract(folder, each, each["id"] if name is None else name)
    return [
        f"{problem.line}: {problem.what}; {problem.expected}; {problem.fix}"
        for problem in lint([folder], kinds=KINDS, faults=FAULTS)
    ]


def changed(change):
    data = contract_data()
    change(data)
    return data


def entry(index, **values):
    return changed(lambda data: data["falsifiers"][index].update(values))


def test_a_contract_without_a_fault_has_no_problem(tmp_path):
    assert sentences(tmp_path, contract_data()) == []


def test_a_parameter_that_cannot_be_read_is_one_problem(tmp_path):
    (bundled,) = (path for path in find_contracts(tmp_path) if "repetition-penalty" in path.name)
    text = bundled.read_text()
    before = re.search(r"temperature: [0-9.]+", text)
    broken = tmp_path / bundled.name
    broken.write_text(text.replace(before[0], "temperature: .inf", 1))
    assert [problem.rule for problem in lint([broken])] == ["yaml-not-finite"]


def test_the_bundled_contracts_have_no_problem(tmp_path):
    assert lint(find_contracts(tmp_path)) == []


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            changed(lambda data: data.update(id="other-v1")),
            "id 'other-v1' is not the file's name; 'example-v1'",
        ),
        (
            changed(lambda data: data.update(version="1.2.0")),
            "version 1.2.0 is not the last of the history, 1.1.0",
        ),
        (changed(lambda data: data["history"].reverse()), "version 1.0.0 does not follow 1.1.0"),
        (changed(lambda data: data["history"].reverse()), "date 2026-11-23 is before 2026-11-24"),
        (changed(lambda data: data["history"][0].update(date="2026-02-30")), "'2026-02-30' is no date"),
        (
            changed(lambda data: data["history"][0].update(version="1.10.0")),
            "version 1.1.0 does not follow 1.10.0",
        ),
        (
            entry(0, requires=["token_id"]),
            "no target has a capability 'token_id'; ; did you mean 'token_ids'?",
        ),
        (
            entry(0, bound={"cases": 9, "confidence": 0.9, "statistic": "p10"}),
            "searched cannot use 'statistic'",
        ),
        (
            entry(1, bound={"above": "2 x", "runs": 9, "confidence": 0.9}),
            "measured needs 'statistic' in its bound",
        ),
        (entry(1, bound={"within": "2 %", "runs": 9, "confidence": 0.9}), "measured cannot use 'within'"),
        (
            entry(1, bound={"above": "5 logit", "runs": 9, "confidence": 0.9, "statistic": "median"}),
            "measured measures in tok/s, and this threshold is in logit; a quantity in tok/s",
        ),
        (
            entry(1, bound={"below": "4 KiB", "runs": 9, "confidence": 0.9, "statistic": "median"}),
            "measured measures in tok/s, and this threshold is in B; a quantity in tok/s",
        ),
        (entry(0, id="findings"), "a falsifier called 'findings' would have the file"),
        (entry(0, **{"with": {}}), "searched needs parameter 'max_tokens'; int; add max_tokens: to with:"),
        (
            entry(0, **{"with": {"max_token": 5}}),
            "searched has no parameter 'max_token'; ; did you mean 'max_tokens'?",
        ),
        (
            entry(0, **{"with": {"max_tokens": 1}}),
            "searched refuses its parameters: max_tokens is 1, expected at least 2",
        ),
        (entry(0, **{"with": {"max_tokens": "many"}}), "searched refuses its parameters"),
        (entry(0, **{"with": {"max_tokens": None}}), "searched refuses its parameters"),
        (
            entry(1, needs=["example-v1/exacter"]),
            "no falsifier 'example-v1/exacter'; contract/falsifier; did you mean",
        ),
        (
            entry(1, needs=["example-v1/fast"]),
            "a claim that needs itself can never be discharged",
        ),
        (
            entry(0, needs=["example-v1/fast"]),
            "circle: example-v1/exact -> example-v1/fast -> example-v1/exact",
        ),
        (entry(1, alias="EXACT_1"), "alias 'EXACT_1' is taken at"),
        (entry(0, kind="serched"), "no kind is called 'serched'; ; did you mean 'searched'?"),
        (entry(0, must_catch=[]), "the list is empty; a list of at least one fault"),
    ],
)
def test_a_fault_is_said_with_what_to_do(tmp_path, data, sentence):
    assert any(sentence in problem for problem in sentences(tmp_path, data))


def test_a_circle_is_said_once(tmp_path):
    problems = sentences(tmp_path, entry(0, needs=["example-v1/fast"]))
    assert sum("circle" in problem for problem in problems) == 1


def test_a_parameter_is_pointed_at(tmp_path):
    path = write_contract(tmp_path, entry(0, **{"with": {"margin": "1 logit", "max_tokens": 1}}))
    (problem,) = lint([path], kinds=KINDS, faults=FAULTS)
    assert path.read_text().splitlines()[problem.line - 1].strip() == "max_tokens: 1"


@pytest.mark.parametrize(("runs", "problems"), [(6, 1), (7, 0)])
def test_runs_that_cannot_bound_the_statistic_are_too_few(tmp_path, runs, problems):
    bound = {"of": "decode-rate", "statistic": "median", "above": "2 x", "confidence": 0.99, "runs": runs}
    found = sentences(tmp_path, entry(1, bound=bound))
    assert sum("cannot bound a median at confidence 0.99; at least 7" in each for each in found) == problems


def test_falsifiers_are_checked_beside_one_that_the_schema_refuses(tmp_path):
    data = entry(1, **{"with": {"max_tokens": 1}})
    data["falsifiers"][0]["id"] = "Not A Name"
    found = sentences(tmp_path, data)
    assert any("measured refuses" in each for each in found)
    assert any('"Not A Name" does not fit' in each for each in found)


def other(**values):
    data = contract_data()
    data["id"] = "other-v1"
    data["falsifiers"] = data["falsifiers"][:1]
    data["falsifiers"][0] |= {"alias": "OTHER_1"} | values
    return data


def test_needs_reach_into_other_contracts(tmp_path):
    assert sentences(tmp_path, entry(1, needs=["other-v1/exact"]), other(), name=None) == []


def test_needs_reach_into_contracts_beside_the_one_that_is_linted(tmp_path):
    path = write_contract(tmp_path, entry(1, needs=["other-v1/exact"]))
    write_contract(tmp_path, other(), "other-v1")
    assert lint([path], kinds=KINDS, faults=FAULTS) == []


def test_a_circle_through_two_contracts_is_found(tmp_path):
    first = entry(0, needs=["other-v1/exact"])
    found = sentences(tmp_path, first, other(needs=["example-v1/exact"]), name=None)
    assert any("circle: example-v1/exact -> other-v1/exact -> example-v1/exact" in each for each in found)


def test_an_alias_is_not_shared_between_contracts(tmp_path):
    found = sentences(tmp_path, contract_data(), other(alias="EXACT_1"), name=None)
    assert any("alias 'EXACT_1' is taken at" in each and "example-v1.yaml:" in each for each in found)


def test_an_id_is_not_shared_between_contracts(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_contract(tmp_path / folder, contract_data())
    found = [problem.what for problem in lint([tmp_path / "a", tmp_path / "b"], kinds=KINDS, faults=FAULTS)]
    assert any(what.startswith("contract id 'example-v1' is taken by") for what in found)


def test_problems_are_sorted_by_position(tmp_path):
    data = entry(0, kind="serched", requires=["x"], must_catch=["y"])
    data["version"] = "9.9.9"
    write_contract(tmp_path, data)
    (tmp_path / "zz.yaml").write_text("on: off\n")
    problems = lint([tmp_path], kinds=KINDS, faults=FAULTS)
    positions = [(problem.path, problem.line, problem.column) for problem in problems]
    assert positions == sorted(positions)
    assert {path.name for path, _, _ in positions} == {"example-v1.yaml", "zz.yaml"}


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path):
    write_contract(tmp_path, entry(0, kind="serched"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff")
    absent = tmp_path / "absent"
    what = [problem.what for problem in lint([absent, tmp_path], kinds=KINDS, faults=FAULTS)]
    assert "no such file or folder" in what
    assert "not UTF-8" in what
    assert "no kind is called 'serched'" in what


def test_an_empty_folder_is_a_problem(tmp_path):
    assert [problem.what for problem in lint([tmp_path])] == ["no contract in this folder"]


def test_a_contract_ends_in_yaml(tmp_path):
    path = write_contract(tmp_path, contract_data())
    found = lint([path.rename(path.with_suffix(".yml"))], kinds=KINDS, faults=FAULTS)
    assert [problem.fix for problem in found] == ["rename it"]


_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.text("ab/-.=1", max_size=5)
    | st.just([])
    | st.just({})
)


@given(st.lists(st.tuples(st.integers(0, 200), _VALUES), min_size=1, max_size=3))
def test_any_change_is_linted_without_an_exception(tmp_path_factory, changes):
    data = contract_data()
    for place, value in changes:
        spots = [
            (inside, key)
            for inside in _containers(data)
            for key in (inside if isinstance(inside, dict) else range(len(inside)))
        ]
        inside, key = spots[place % len(spots)]
        inside[key] = copy.deepcopy(value)
        if not data:
            return
    folder = tmp_path_factory.mktemp("fuzz")
    write_contract(folder, data)
    assert all(problem.line >= 1 for problem in lint([folder], kinds=KINDS, faults=FAULTS))


def _containers(data):
    if isinstance(data, dict | list) and data:
        yield data
        for value in data.values() if isinstance(data, dict) else data:
            yield from _containers(value)

"""Counterexamples as files: what is kept, what is found again, and what is passed over."""

import json

import pytest
from records import RED, contract_at, finding, run_id

from refute.counterexample import NEWEST, Counterexample, known_cases
from refute.replay import CannotReplay, load_counterexample
from refute.strict_json import load_strict


@pytest.fixture
def exact(tmp_path):
    return contract_at(tmp_path / "contracts").falsifiers[0]


@pytest.fixture
def keep(tmp_path):
    """Keep a counterexample in the tree, changed as told; give its file."""
    contract = contract_at(tmp_path / "contracts")

    def kept(number, value=99, **changes):
        found = Counterexample.of(finding(contract, "exact", run_id(number), values={"exact": (value,)}))
        assert found is not None
        document = {**load_strict(found.to_bytes()), "case": {"case": value}, **changes}
        path = tmp_path / "evidence" / "demo-v1" / run_id(number) / found.file
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(document))
        return path

    return kept


def test_what_is_written_reads_back_the_same(tmp_path) -> None:
    contract = contract_at(tmp_path)
    found = Counterexample.of(finding(contract, "exact", run_id(1), values=RED))
    assert found is not None
    assert found.replays is True
    assert Counterexample.read(load_strict(found.to_bytes())) == found


def test_a_finding_without_one_gives_none(tmp_path) -> None:
    assert Counterexample.of(finding(contract_at(tmp_path), "exact", run_id(1))) is None


def test_the_newest_different_cases_come_back(tmp_path, exact, keep) -> None:
    for number, value in enumerate((11, 12, 13, 14, 14, 15), start=1):
        keep(number, value)
    cases = known_cases(tmp_path / "evidence", "demo-v1", exact)
    assert [case["case"] for case in cases] == [15, 14, 13][:NEWEST]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "determinism"},
        {"parameters": {"limit": 11}},
        {"falsifier": "small"},
        {"contract": "other-v1"},
        {"case": [1]},
        {"note": "mine"},
        {"schema": "urn:refute:schema:finding:1"},
    ],
    ids=str,
)
def test_a_file_that_does_not_fit_is_passed_over(tmp_path, exact, keep, changes) -> None:
    keep(1, 42)
    keep(2, 43, **changes)
    assert known_cases(tmp_path / "evidence", "demo-v1", exact) == [{"case": 42}]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"case": NaN}'])
def test_a_file_that_cannot_be_read_is_passed_over(tmp_path, exact, keep, data) -> None:
    keep(1, 42)
    keep(2).write_bytes(data)
    assert known_cases(tmp_path / "evidence", "demo-v1", exact) == [{"case": 42}]


def test_a_link_is_not_followed(tmp_path, exact, keep) -> None:
    path = keep(1)
    elsewhere = tmp_path / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert known_cases(tmp_path / "evidence", "demo-v1", exact) == []


def test_a_tree_that_is_not_there_holds_none(tmp_path, exact) -> None:
    assert known_cases(tmp_path / "nowhere", "demo-v1", exact) == []


def test_an_edited_file_cannot_be_replayed_and_says_where(keep) -> None:
    with pytest.raises(CannotReplay, match=r"counterexample\.json#.*note"):
        load_counterexample(keep(1, note="mine"))

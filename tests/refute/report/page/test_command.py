"""`refute report`: what it writes, says, and refuses."""

from pathlib import Path

import pytest
from records import contract_at, run_id, write_run
from small_contract import REPEATS, contract

from refute.cli import main
from refute.verdict import Exit


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(contract(REPEATS))
    return tmp_path


def test_a_report_is_one_file_and_one_line_that_says_what_is_in_it(project, capsys) -> None:
    assert main(["report", "--out", "out.html"]) == Exit.OK
    said = capsys.readouterr().out
    assert said.startswith("out.html: 1 claim (1 unobserved), ")
    assert (project / "out.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert [each.name for each in project.iterdir() if each.is_file()] == ["out.html"]


def test_a_place_that_cannot_be_written_is_one_sentence(project, capsys) -> None:
    assert main(["report", "--out", "no/such/folder.html"]) == Exit.USAGE
    assert capsys.readouterr().err == "refute: no/such/folder.html: No such file or directory\n"


def test_a_contract_at_fault_is_named_and_nothing_is_written(project, capsys) -> None:
    (project / "contracts/small-v1.yaml").write_text("id: [")
    assert main(["report"]) == Exit.USAGE
    assert "small-v1.yaml:" in capsys.readouterr().err
    assert not (project / "report.html").exists()


def test_markdown_goes_to_standard_output_or_where_it_is_told(project, capsys) -> None:
    assert main(["report", "--format", "markdown"]) == Exit.OK
    said = capsys.readouterr().out
    assert said.startswith("## Evidence: 🟡 1 unobserved\n")
    assert [each for each in project.iterdir() if each.is_file()] == []
    assert main(["report", "--format", "markdown", "--out", "summary.md"]) == Exit.OK
    assert (project / "summary.md").read_text().startswith("## Evidence: ")


def test_a_run_that_is_not_there_is_one_sentence(project, capsys) -> None:
    assert main(["report", "--compare", "one", "two"]) == Exit.USAGE
    said = "refute: one: no run in evidence has this id, nor is it the folder of one\n"
    assert capsys.readouterr().err == said


def test_a_comparison_takes_no_contracts(project, capsys) -> None:
    assert main(["report", "contracts", "--compare", "one", "two"]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("refute: --compare takes no PATH: ")


@pytest.mark.parametrize(("form", "begins"), [("html", b"<!DOCTYPE html>"), ("markdown", b"## Two runs: ")])
def test_two_runs_are_written_side_by_side(project, capsys, form, begins) -> None:
    own = contract_at(project / "own")
    folders = [str(write_run(project / "evidence", own, number=number)) for number in (1, 2)]
    assert main(["report", "--compare", *folders, "--format", form, "--out", "both"]) == Exit.OK
    assert capsys.readouterr().out.startswith(f"both: {run_id(1)} and {run_id(2)} (3 same), ")
    assert (project / "both").read_bytes().startswith(begins)

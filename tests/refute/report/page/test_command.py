"""`refute report`: what it writes, says, and refuses."""

from pathlib import Path

import pytest
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

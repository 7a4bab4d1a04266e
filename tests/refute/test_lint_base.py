"""Contracts beside their versions at a git revision."""

import json
import os
import subprocess

import pytest
from small_contract import CACHED, REPEATS, contract, falsifier

from refute.cli import main
from refute.lint_base import NoBase, compare
from refute.verdict import Exit


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with one commit, of `contracts/small-v1.yaml`, as working directory."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(contract(REPEATS, CACHED))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def write(project, text, version="1.0.0", name="small-v1"):
    text = text.replace("version: 1.0.0\n", f"version: {version}\n", 1)
    if version != "1.0.0":
        text += f"  - {{version: {version}, date: 2026-11-24, change: Changed.}}\n"
    (project / f"contracts/{name}.yaml").write_text(text)


OLD = contract(REPEATS, CACHED)
TIGHTER, LOOSER = OLD.replace("cases: 3", "cases: 4", 1), OLD.replace("cases: 3", "cases: 2", 1)
EDITORIAL = OLD.replace("title: A small", "title: A very small")


@pytest.mark.parametrize(
    ("text", "effect", "least"),
    [
        ("# a comment\n" + OLD, "unchanged", "1.0.0"),
        (EDITORIAL, "editorial", "1.0.1"),
        (contract(REPEATS, CACHED, falsifier("other")), "addition", "1.1.0"),
        (TIGHTER, "tightening", "1.1.0"),
        (LOOSER, "loosening", "2.0.0"),
        (contract(REPEATS), "breaking", "2.0.0"),
    ],
)
def test_a_change_calls_for_a_version(project, text, effect, least):
    versions = ["1.0.0", "1.0.1", "1.1.0", "2.0.0"]
    for version in versions:
        write(project, text, version)
        (found,) = compare([], "HEAD", root=project)
        assert (found.problems == ()) == (versions.index(version) >= versions.index(least))
        if version == "1.0.0":
            assert (found.state, str(found.effect)) == ("compared", effect)
        for problem in found.problems:
            assert problem.rule == "base-version"
            assert (problem.expected, problem.fix) == (
                f"{least} or higher",
                f"set version: {least} and add it to history",
            )


def test_a_wrong_version_is_exit_code_2_and_a_sentence_at_its_line(project, capsys):
    write(project, LOOSER, "1.1.0")
    assert main(["lint", "--base", "HEAD"]) == Exit.USAGE
    out, errors = capsys.readouterr()
    assert out.splitlines() == [
        "contracts/small-v1.yaml: loosening, version 1.0.0 -> 1.1.0; needs a major step",
        "  repeats: cases: 3 -> 2 (loosening)",
        "  history reworded (editorial)",
        "  version moved (editorial)",
    ]
    assert errors == (
        "contracts/small-v1.yaml:2:10: version 1.1.0 is a minor step from 1.0.0, and the change is "
        "a loosening; expected 2.0.0 or higher; set version: 2.0.0 and add it to history\n"
    )


def test_the_right_version_is_exit_code_0(project, capsys):
    write(project, LOOSER, "2.0.0")
    assert main(["lint", "--base", "HEAD"]) == Exit.OK
    assert capsys.readouterr().out.endswith("1 contract with 2 falsifiers: no fault found\n")


def test_json_says_the_same(project, capsys):
    write(project, TIGHTER, "1.0.1")
    assert main(["lint", "--base", "HEAD", "--json"]) == Exit.USAGE
    data = json.loads(capsys.readouterr().out)
    (each,) = data["compared"]
    assert (each["path"], each["state"], each["classification"]) == (
        "contracts/small-v1.yaml",
        "compared",
        "tightening",
    )
    assert (each["old_version"], each["new_version"], each["required"]) == ("1.0.0", "1.0.1", "minor")
    assert {"effect": "tightening", "change": "repeats: cases: 3 -> 4"} in each["changes"]
    assert [problem["rule"] for problem in data["problems"]] == ["base-version"]


def test_json_of_a_fault(project, capsys):
    write(project, OLD.replace("claim:", "clam:", 1))
    assert main(["lint", "--json"]) == Exit.USAGE
    data = json.loads(capsys.readouterr().out)
    assert data["problems"][1] == {
        "path": "contracts/small-v1.yaml",
        "line": 14,
        "column": 5,
        "rule": "key-unknown",
        "what": "unknown key 'clam'",
        "expected": "",
        "fix": "did you mean 'claim'?",
    }


def test_json_without_a_fault(project, capsys):
    assert main(["lint", "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == {
        "problems": [],
        "contracts": 1,
        "falsifiers": 2,
        "base": None,
        "compared": [],
    }


def test_a_version_does_not_go_back(project):
    write(project, OLD, "1.5.0")
    git(project, "commit", "-qam", "two")
    write(project, TIGHTER, "1.4.0")
    (found,) = compare([], "HEAD", root=project)
    assert [str(problem).partition(": ")[2] for problem in found.problems] == [
        "version 1.4.0 is lower than that of the base, 1.5.0; expected a higher version; versions only go up",
        "the history has lost its entry of 1.5.0, 2026-11-24; put it back: entries are only added",
    ]
    assert [problem.rule for problem in found.problems] == ["base-version-back", "base-history"]


def test_the_working_tree_counts_and_any_revision_can_be_the_base(project):
    write(project, TIGHTER, "1.1.0")
    git(project, "commit", "-qam", "two")
    write(project, OLD, "3.0.0")
    assert [str(each.effect) for each in compare([], "HEAD", root=project)] == ["loosening"]
    assert [str(each.effect) for each in compare([], "HEAD~1", root=project)] == ["editorial"]


def test_a_new_a_removed_and_a_renamed_contract_are_named(project):
    (project / "contracts/small-v1.yaml").unlink()
    write(project, contract(REPEATS, CACHED, id="tiny-v1"), name="tiny-v1")
    write(project, contract(falsifier("other"), id="new-v1"), name="new-v1")
    found = compare([], "HEAD", root=project)
    assert [(each.path.name, each.state, each.changes[0].sentence) for each in found] == [
        ("new-v1.yaml", "new", "a new contract"),
        ("small-v1.yaml", "removed", "removed: what it claimed is claimed no more"),
        ("tiny-v1.yaml", "new", "small-v1.yaml under another name: a new id starts without records"),
    ]
    assert not any(each.problems for each in found)


def test_a_base_without_contracts_has_only_new_ones(project):
    git(project, "rm", "-rq", "--cached", "contracts")
    git(project, "commit", "-qm", "none")
    assert [each.state for each in compare([], "HEAD", root=project)] == ["new"]


def test_an_old_version_that_cannot_be_read_counts_as_breaking(project):
    write(project, OLD.replace("kind: determinism", "kind: determinism\n    status: fine"))
    git(project, "commit", "-qam", "two")
    write(project, OLD, "1.1.0")
    (found,) = compare([], "HEAD", root=project)
    assert (found.state, str(found.effect), found.old_version) == ("incomparable", "breaking", "1.0.0")
    assert "unknown key 'status'" in found.changes[0].sentence
    assert [problem.expected for problem in found.problems] == ["2.0.0 or higher"]


def test_a_kind_that_is_gone_by_now_is_a_changed_kind(project):
    write(project, OLD.replace("kind: determinism", "kind: old-determinism"))
    git(project, "commit", "-qam", "two")
    write(project, OLD, "2.0.0")
    (found,) = compare([], "HEAD", root=project)
    assert "repeats: kind: old-determinism -> determinism" in [change.sentence for change in found.changes]


@pytest.mark.parametrize("revision", ["nope", "-x", "HEAD:contracts", ""])
def test_a_revision_that_is_none_is_a_sentence(project, capsys, revision):
    assert main(["lint", f"--base={revision}"]) == Exit.USAGE
    assert "revision" in capsys.readouterr().err


def test_a_folder_without_a_repository_is_a_sentence(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("bare")
    (other / "small-v1.yaml").write_text(OLD)
    with pytest.raises(NoBase, match="is in no git repository"):
        compare([other], "HEAD", root=project)


def test_a_host_without_git_is_a_sentence(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoBase, match="git is not installed"):
        compare([], "HEAD", root=project)

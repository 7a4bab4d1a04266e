"""What git knows of records: edits and deletions, committed or not, wherever they hide."""

import pytest
from audited import git

from refute.audit.history import Change, read_history

RUN = "demo-v1/20261124T000000.000Z-00000001"


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    write(tmp_path, "floor.json", "1\n")
    write(tmp_path, "findings.json", '{\n"state": "complete",\n}\n')
    return tmp_path


def write(repository, name, text, *, commit=True):
    path = repository / "evidence" / RUN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if commit:
        save(repository)


def save(repository):
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "--allow-empty", "-m", "a change")
    return git(repository, "rev-parse", "HEAD").strip()


def history(repository):
    return read_history(repository / "evidence")


def test_records_that_were_only_added_are_kept(repository):
    write(repository, "more.json", "2\n")
    found = history(repository)
    assert (found.unknown, found.shallow) == ("", False)
    assert (found.lost, found.restored, found.unsaved, found.untracked) == ((), (), (), ())


def test_a_committed_edit_is_a_loss(repository):
    write(repository, "floor.json", "10\n", commit=False)
    commit = save(repository)
    assert history(repository).lost == (Change(f"{RUN}/floor.json", "edited", commit),)


def test_a_committed_deletion_is_a_loss(repository):
    (repository / "evidence" / RUN / "floor.json").unlink()
    commit = save(repository)
    assert history(repository).lost == (Change(f"{RUN}/floor.json", "deleted", commit),)


def test_a_renamed_run_is_a_loss(repository):
    git(repository, "mv", f"evidence/{RUN}", "evidence/demo-v1/20261124T000000.000Z-00000002")
    save(repository)
    assert {each.what for each in history(repository).lost} == {"deleted"}


def test_what_was_put_back_is_told(repository):
    write(repository, "floor.json", "10\n")
    write(repository, "floor.json", "1\n", commit=False)
    commit = save(repository)
    found = history(repository)
    assert found.lost == ()
    assert found.restored == (Change(f"{RUN}/floor.json", "changed and put back", commit),)


@pytest.mark.parametrize(("text", "what"), [("10\n", "edited"), (None, "deleted")])
def test_an_edit_that_is_not_committed_is_told(repository, text, what):
    path = repository / "evidence" / RUN / "floor.json"
    path.unlink() if text is None else path.write_text(text)
    assert history(repository).unsaved == (Change(f"{RUN}/floor.json", what, ""),)


def test_an_edit_on_a_branch_is_a_loss_once_it_is_merged(repository):
    git(repository, "checkout", "-q", "-b", "other")
    write(repository, "floor.json", "10\n", commit=False)
    commit = save(repository)
    git(repository, "checkout", "-q", "main")
    assert history(repository).lost == ()
    write(repository, "more.json", "2\n")
    git(repository, "merge", "-q", "--no-ff", "--no-edit", "other")
    assert [(each.path, each.what) for each in history(repository).lost] == [(f"{RUN}/floor.json", "edited")]
    assert commit != git(repository, "rev-parse", "HEAD").strip()


def test_an_edit_that_only_a_merge_makes_is_a_loss(repository):
    git(repository, "checkout", "-q", "-b", "other")
    write(repository, "more.json", "2\n")
    git(repository, "checkout", "-q", "main")
    save(repository)
    git(repository, "merge", "-q", "--no-commit", "--no-ff", "other")
    write(repository, "floor.json", "10\n", commit=False)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "a merge with an edit in it")
    assert [each.path for each in history(repository).lost] == [f"{RUN}/floor.json"]


def test_runs_of_two_branches_that_are_merged_are_kept(repository):
    git(repository, "checkout", "-q", "-b", "other")
    write(repository, "of-other.json", "2\n")
    git(repository, "checkout", "-q", "main")
    write(repository, "of-main.json", "3\n")
    git(repository, "merge", "-q", "--no-edit", "other")
    found = history(repository)
    assert (found.lost, found.restored) == ((), ())


def test_a_run_that_was_committed_while_it_went_on_may_be_sealed(repository):
    name = "20261124T000000.000Z-00000003"
    path = repository / "evidence" / "demo-v1" / name
    path.mkdir()
    (path / "findings.json").write_text('{\n"state": "running",\n}\n')
    (path / "run.log").write_text("one\n")
    (path / "telemetry.jsonl").write_text('{"a": 1}\n{"a"')
    save(repository)
    (path / "findings.json").write_text('{\n"state": "complete",\n}\n')
    (path / "run.log").write_text("one\ntwo\n")
    (path / "telemetry.jsonl").write_text('{"a": 1}\n')
    save(repository)
    assert history(repository).lost == ()


def test_a_log_that_lost_a_line_is_no_continuation(repository):
    write(repository, "run.log", "one\ntwo\n")
    write(repository, "run.log", "one\n")
    assert [each.path for each in history(repository).lost] == [f"{RUN}/run.log"]


def test_files_beside_runs_are_nobodys_record(repository):
    readme = repository / "evidence" / "README.md"
    for text in ("one", "two"):
        readme.write_text(text)
        save(repository)
    assert history(repository).lost == ()


def test_runs_that_were_never_committed_are_counted_once(repository):
    for name in ("a.json", "b.json"):
        (repository / "evidence" / "demo-v1" / "new").mkdir(exist_ok=True)
        (repository / "evidence" / "demo-v1" / "new" / name).write_text("{}")
    assert history(repository).untracked == ("demo-v1/new",)


def test_a_shallow_clone_says_so(repository, tmp_path_factory):
    write(repository, "more.json", "2\n")
    clone = tmp_path_factory.mktemp("clone")
    git(clone, "clone", "-q", "--depth", "1", f"file://{repository}", "it")
    assert history(clone / "it").shallow


def test_a_folder_outside_of_git_says_so(tmp_path):
    (tmp_path / "evidence").mkdir()
    assert "not a git repository" in history(tmp_path).unknown


def test_a_repository_without_a_commit_says_so(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "evidence").mkdir()
    assert history(tmp_path).unknown != ""


def test_nothing_that_the_repository_configures_is_run(repository):
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repository}/sprung\n")
    trap.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "diff.external", str(trap))
    write(repository, "floor.json", "10\n", commit=False)
    (repository / "sprung").unlink(missing_ok=True)
    assert history(repository).unsaved != ()
    assert not (repository / "sprung").exists()


def test_a_tree_in_a_folder_below_the_root_is_the_same(repository):
    (repository / "deep").mkdir()
    git(repository, "mv", "evidence", "deep/evidence")
    save(repository)
    (repository / "deep" / "evidence" / RUN / "floor.json").write_text("10\n")
    commit = save(repository)
    found = read_history(repository / "deep" / "evidence")
    assert found.lost == (Change(f"{RUN}/floor.json", "edited", commit),)

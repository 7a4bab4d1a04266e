"""Trees as they may lie about, honest, broken or hostile: objections and a code, never a traceback."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.audit.examine import audit, examine
from refute.audit.subject import MOST_BYTES, MOST_VALUES, Folder, Library, Subject
from refute.verdict import Exit


@pytest.fixture
def copy(audited, tmp_path):
    """A copy of the honest tree, outside of git."""
    shutil.copytree(audited.tree, tmp_path / "evidence")
    return tmp_path / "evidence"


def run_of(tree):
    return min((tree / "audited-v1").iterdir())


def rules_of(report):
    return {each.rule for each in report.objections}


def test_the_honest_tree_holds(audited):
    report = audit([audited.tree], audited.here)
    assert report.code is Exit.OK
    assert rules_of(report) == {"run-whole"}
    assert (report.runs, report.findings, report.judged) == (2, 6, 6)


def test_a_report_is_plain_data(audited):
    data = json.loads(json.dumps(audit([audited.tree], audited.here).to_json()))
    assert data["exit_code"] == 0
    keys = {"rule", "severity", "file", "pointer", "found", "expected"}
    assert all(set(each) == keys for each in data["objections"])


def test_an_error_fails_the_audit_and_names_the_file(audited, copy):
    path = run_of(copy) / "floor.json"
    path.write_bytes(path.read_bytes().replace(b'"verdict": "survived"', b'"verdict": "falsified"'))
    report = audit([copy], audited.here)
    assert report.code is Exit.INVALID
    assert str(path) in {each.file for each in report.objections}


def test_warnings_alone_pass(audited, copy):
    (copy / "notes.txt").write_text("beside the runs")
    report = audit([copy], audited.here)
    assert (report.code, rules_of(report)) == (Exit.OK, {"run-whole", "history-there", "tree-tidy"})


@pytest.mark.parametrize("make", ["nothing", "empty", "a file"])
def test_nothing_to_audit_is_missing(audited, tmp_path, make):
    tree = tmp_path / "evidence"
    if make == "empty":
        tree.mkdir()
    elif make == "a file":
        tree.write_text("no tree")
    assert audit([tree], audited.here).code is Exit.MISSING


def test_a_tree_that_is_not_there_fails_beside_one_that_is(audited, tmp_path):
    assert audit([audited.tree, tmp_path / "other"], audited.here).code is Exit.INVALID


def test_two_copies_of_a_tree_agree(audited, copy):
    report = audit([audited.tree, copy], audited.here)
    assert report.code is Exit.OK


def test_a_deleted_run_breaks_the_chain(audited, copy):
    shutil.rmtree(run_of(copy))
    assert "chain-kept" in rules_of(audit([copy], audited.here))


def test_a_deleted_run_is_told_by_git(audited, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(audited.tree.parent, repository)
    shutil.rmtree(max((repository / "evidence" / "audited-v1").iterdir()))
    report = audit([repository / "evidence"], audited.here)
    assert rules_of(report) == {"history-unedited"}
    assert report.code is Exit.INVALID


def links(run):
    (run / "floor.json").rename(run / "away")
    (run / "floor.json").symlink_to("away")


def loops(run):
    (run / "loop").symlink_to("loop")


def pipes(run):
    os.mkfifo(run / "pipe")


def folders(run):
    (run / "more").mkdir()


def huge(run):
    with (run / "huge.json").open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)


def endless(run):
    (run / "floor.json").write_bytes(b"[0" + b",0" * MOST_VALUES + b",0]")


def junk(run):
    (run / "floor.json").write_bytes(bytes(range(256)) * 100)


def nested(run):
    (run / "findings.json").write_bytes(b"[" * 10**6)


def empty(run):
    (run / "findings.json").write_bytes(b"")


def no_mapping(run):
    (run / "findings.json").write_bytes(b"[]")


def strange_contract(run):
    (run / "contract.yaml").write_bytes(b"\xff\x00: [")


HOSTILE = [links, loops, pipes, folders, huge, endless, junk, nested, empty, no_mapping, strange_contract]


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_whatever_lies_in_a_run_gives_objections(audited, copy, spoil):
    spoil(run_of(copy))
    assert audit([copy], audited.here).code is Exit.INVALID


def test_a_link_to_a_folder_of_runs_is_an_error(audited, copy):
    (copy / "audited-v1").rename(copy.parent / "elsewhere")
    (copy / "audited-v1").symlink_to(copy.parent / "elsewhere")
    assert "folder-link" in rules_of(audit([copy], audited.here))


def test_a_link_to_itself_among_the_contracts_is_told(audited, copy):
    (copy / "loop-v1").symlink_to("loop-v1")
    assert "tree-tidy" in rules_of(audit([copy], audited.here))


def test_a_killed_run_that_has_nothing_is_no_error(audited, copy):
    (copy / "audited-v1" / "20991231T000000.000Z-00000000").mkdir()
    report = audit([copy], audited.here)
    assert report.code is Exit.OK
    assert "run-sealed" in rules_of(report)


@given(damage=st.data())
def test_no_damage_to_a_file_breaks_the_audit(audited, damage):
    bundle = audited.again.copy()
    name = damage.draw(st.sampled_from(sorted(bundle.files)))
    data = bytearray(bundle.files[name])
    at = damage.draw(st.integers(0, len(data) - 1))
    data[at : at + damage.draw(st.integers(0, 40))] = damage.draw(st.binary(max_size=12))
    bundle.files[name] = bytes(data)
    same = bundle.files == audited.again.files
    objections = [each for each in audited.objections(bundle) if each.rule != "run-whole"]
    assert same == (objections == [])


def test_progress_is_told(audited):
    told = []
    audit([audited.tree], audited.here, progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_a_run_that_goes_on_is_read_as_it_was_when_it_was_listed(audited, copy, monkeypatch):
    """A finding that is written and listed while the folder is read is no tampering."""
    run = run_of(copy)
    late = {name: (run / name).read_bytes() for name in ("cached.json", "findings.json")}
    summary = json.loads(late["findings.json"])
    summary["findings"] = [each for each in summary["findings"] if each["falsifier"] != "cached"]
    summary.update(state="running", time={**summary["time"], "ended": None, "monotonic_ns": None})
    (run / "cached.json").unlink()
    (run / "findings.json").write_text(json.dumps(summary))
    listed = Path.iterdir

    def written_meanwhile(path):
        names = list(listed(path))
        if path == run:
            for name, data in late.items():
                (run / name).write_bytes(data)
        return names

    monkeypatch.setattr(Path, "iterdir", written_meanwhile)
    subject = Subject.of(Folder.read(run), audited.here, Library())
    assert {each.rule for each in examine(subject)} == {"run-sealed"}

"""Reading runs: which are running or gone, and what is noticed in them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import (
    contract_at,
    edit,
    finding,
    opened,
    relist,
    run_id,
    write_run,
)

from refute.reader import read_run, read_runs
from refute.strict_json import dump_strict


def problems(path):
    return [(each.where.rpartition("/")[2], each.pointer, each.falsifier) for each in read_run(path).problems]


# --- running or gone


def test_a_run_of_a_live_process_is_running(tree, contract):
    writer = opened(tree, contract)
    assert read_run(writer.path).state == "running"


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "other"}, {"boot_id": None}])
def test_another_process_with_that_pid_is_not_it(tree, contract, change):
    writer = opened(tree, contract)
    edit(writer.path / "findings.json", lambda d: d["provenance"]["process"].update(change), rehash=False)
    assert read_run(writer.path).state == "interrupted"


def test_a_finished_finding_that_is_not_listed_counts_while_running(tree, contract):
    writer = opened(tree, contract)
    writer.write(finding(contract, "exact", writer.run))
    edit(writer.path / "findings.json", lambda d: d["findings"].clear(), rehash=False)
    run = read_run(writer.path)
    assert [record.finding.falsifier for record in run.records] == ["exact"]
    assert run.problems == ()


def test_findings_that_are_taken_as_they_are_read_are_those_of_the_run(tree, contract):
    path = write_run(tree, contract, ["exact", "small"])
    edit(path / "findings.json", lambda d: d["plan"]["falsifiers"].append("more"), rehash=False)
    edit(path / "small.json", lambda d: d.update(seed=7), rehash=False)
    (path / "left.txt").touch()
    taken = []
    run = read_run(path, take=lambda opened, record: taken.append((opened, record)))
    whole = read_run(path)
    assert run.records == ()
    assert run.problems == whole.problems
    assert tuple(record for _, record in taken) == whole.records
    # By then it is known whether the run as a whole is what it says.
    assert {each for each in whole.problems if each.falsifier is None} <= set(taken[0][0].problems)


# --- what a reader notices


def test_a_finding_that_was_not_selected_is_a_problem_even_while_running(tree, contract):
    writer = opened(tree, contract, ["exact"])
    (writer.path / "small.json").write_bytes(dump_strict(finding(contract, "small", writer.run).to_json()))
    assert problems(writer.path) == [("small.json", "", "small")]


def test_an_unlisted_finding_of_a_complete_run_is_a_problem(tree, contract):
    path = write_run(tree, contract, ["exact", "floor"])
    document = finding(contract, "small", path.name).to_json()
    (path / "small.json").write_bytes(dump_strict(document))
    assert problems(path) == [("small.json", "", "small")]


def test_a_missing_finding_is_a_problem_of_its_falsifier(tree, contract):
    path = write_run(tree, contract)
    (path / "floor.json").unlink()
    assert problems(path) == [("floor.json", "", "floor")]


def test_a_finding_struck_off_the_list_is_a_problem(tree, contract):
    path = write_run(tree, contract)
    (path / "floor.json").unlink()
    edit(path / "findings.json", lambda d: d["findings"].pop(1), rehash=False)
    assert problems(path) == [("findings.json", "/findings", None)]


def test_an_edited_finding_does_not_have_its_digest(tree, contract):
    path = write_run(tree, contract)
    edit(path / "exact.json", lambda d: d.update(reason="it was fine"), rehash=False)
    pointers = [pointer for _, pointer, _ in problems(path)]
    assert "/findings/0/sha256" in pointers


def test_an_edited_contract_does_not_have_its_digest(tree, contract):
    path = write_run(tree, contract)
    (path / "contract.yaml").write_bytes(contract.source + b"\n# harmless\n")
    assert ("contract.yaml", "", None) in problems(path)


def test_a_contract_that_was_exchanged_and_listed_again_is_noticed(tree, contract):
    path = write_run(tree, contract)
    (path / "contract.yaml").write_bytes(contract.source + b"\n# harmless\n")
    relist(path, "contract.yaml")
    assert problems(path) == [("contract.yaml", "", None)]


@pytest.mark.parametrize("name", ["exact.json", "contract.yaml"])
def test_links_are_refused(tree, contract, tmp_path, name):
    path = write_run(tree, contract)
    (path / name).rename(tmp_path / name)
    (path / name).symlink_to(tmp_path / name)
    assert (name, "", None) in problems(path)


def test_a_linked_run_is_refused(tree, contract, tmp_path):
    path = write_run(tree, contract)
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    assert problems(path) == [(path.name, "", None)]


def test_a_folder_in_a_run_is_refused(tree, contract):
    path = write_run(tree, contract)
    (path / "raw").mkdir()
    assert ("raw", "", None) in problems(path)


def test_a_listing_cannot_leave_its_run(tree, contract):
    path = write_run(tree, contract)
    edit(path / "findings.json", lambda d: d["findings"][0].update(file="../exact.json"), rehash=False)
    assert ("findings.json", "/findings/0/file", None) in problems(path)


@pytest.mark.parametrize("name", ["demo-v2", "demo-v1"])
def test_a_run_under_another_name_is_noticed(tree, contract, name):
    path = write_run(tree, contract)
    moved = tree / name / run_id(9)
    moved.parent.mkdir(exist_ok=True)
    path.rename(moved)
    assert problems(moved)


def test_no_list_of_findings_is_a_problem(tree, contract):
    path = write_run(tree, contract)
    (path / "findings.json").unlink()
    assert problems(path) == [("findings.json", "", None)]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"schema": "urn:refute:schema:findings:2"}'])
def test_an_unreadable_list_is_a_problem_and_no_traceback(tree, contract, data):
    path = write_run(tree, contract)
    (path / "findings.json").write_bytes(data)
    assert problems(path)


@settings(max_examples=20)
@given(st.data())
def test_no_damage_to_a_finding_goes_unnoticed_or_breaks_the_reader(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = write_run(folder / "evidence", contract_at(folder), ["exact"])
    name = data.draw(st.sampled_from(["exact.json", "findings.json", "contract.yaml"]))
    content = bytearray((path / name).read_bytes())
    # Drawn alike whatever the record says of its times, which no two runs have in common.
    content[data.draw(st.integers(0, 2**16)) % len(content)] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(bytes(content))
    run = read_run(path)
    if name != "findings.json":
        assert run.problems


def test_a_tree_that_is_not_there_has_no_runs(tmp_path):
    assert read_runs(tmp_path / "nothing") == []


def test_files_beside_the_runs_are_nobody_s_business(tree, contract):
    write_run(tree, contract)
    (tree / "README.md").write_text("records")
    (tree / "demo-v1" / "notes.txt").write_text("notes")
    assert len(read_runs(tree)) == 1


# --- other versions, and runs that cite others


@pytest.mark.parametrize(
    ("name", "schema"), [("findings.json", "findings"), ("exact.json", "finding")], ids=["run", "finding"]
)
def test_a_record_of_another_version_is_refused_in_one_sentence(tree, contract, name, schema):
    path = write_run(tree, contract)
    edit(
        path / name,
        lambda d: d.update(schema=f"urn:refute:schema:{schema}:2", news=1),
        rehash=name == "exact.json",
    )
    (problem,) = read_run(path).problems
    assert problem.pointer == "/schema"
    assert problem.found.startswith(f"version 2 of the {schema} format; this refute reads version 1 only")


def test_a_finding_of_another_run_is_a_problem_where_none_is_resumed(tree, contract):
    path = write_run(tree, contract)
    edit(path / "findings.json", lambda d: d["findings"][0].update(run=run_id(7)), rehash=False)
    assert problems(path) == [("findings.json", "/findings/0/run", "exact"), ("exact.json", "/run", "exact")]


def test_a_line_too_few_is_a_problem(tree, contract):
    writer = opened(tree, contract, ["small"])
    (writer.path / "telemetry.jsonl").write_bytes(b"{}\n{}\n")
    writer.seal()
    (writer.path / "telemetry.jsonl").write_bytes(b"{}\n")
    pointers = [pointer.rpartition("/")[2] for _, pointer, _ in problems(writer.path)]
    assert pointers == ["bytes", "sha256", "rows"]

"""Writing and reading runs: what is refused, what is noticed, and that floats come back the same."""

import importlib.resources
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from records import (
    blank,
    changed,
    contract_at,
    edit,
    finding,
    observations,
    opened,
    relist,
    run_id,
    write_run,
)

from refute.reader import read_run, read_runs, schema_faults
from refute.record import FileSystem, RecordError, new_run_id
from refute.strict_json import StrictJsonError, dump_strict, load_strict
from refute.verdict import Verdict


def problems(path):
    return [(each.where.rpartition("/")[2], each.pointer, each.falsifier) for each in read_run(path).problems]


# --- strict JSON


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "c": 2, "b": 3}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 9007199254740993}',
        '{"a": -9007199254740993}',
        '{"a": 1' + "0" * 5000 + "}",
        "[" * 100_000,
        '{"a": 1} {"b": 2}',
        "",
        "\xef\xbb\xbf{}",
    ],
)
def test_ambiguous_json_is_refused(text):
    with pytest.raises(StrictJsonError):
        load_strict(text.encode("latin-1"))


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(StrictJsonError):
        load_strict(b'{"a": "\xff"}')


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53 + 1,
        {1: 2},
        {"x"},
        b"x",
        "\ud800",
        pytest.param(object(), id="object"),
    ],
    ids=repr,
)
def test_what_would_not_read_back_is_not_written(value):
    with pytest.raises(StrictJsonError):
        dump_strict({"a": [value]})


def test_a_refusal_names_the_place():
    with pytest.raises(StrictJsonError, match="/a~1b/0/c"):
        dump_strict({"a/b": [{"c": float("nan")}]})


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain))
def test_documents_read_back_the_same(document):
    assert repr(load_strict(dump_strict(document))) == repr(document)


# --- schemas


@pytest.mark.parametrize("name", ["finding", "findings"])
def test_schemas_are_closed(name):
    schema = json.loads(
        importlib.resources.files("refute").joinpath(f"schemas/{name}.schema.json").read_text()
    )
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:refute:schema:{name}:1"

    def walk(node, path):
        if isinstance(node, dict):
            if "properties" in node and "type" in node and path[-1:] != ("then",):
                assert node.get("additionalProperties") is False, path
                assert set(node.get("required", [])) == set(node["properties"]) or path[-1:] == ("bound",), (
                    path
                )
            for key, value in node.items():
                walk(value, (*path, key))
        elif isinstance(node, list):
            for index, value in enumerate(node):
                walk(value, (*path, index))

    walk(schema, ())


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/started", "yesterday"),
        ("/started", "2026-11-24T00:00:00+01:00"),
        ("/seed", -1),
        ("/verdict", "green"),
        ("/contract_semantic_sha256", "zz"),
        ("/extra", 1),
        ("/judgement", None),
        ("/target", {}),
    ],
)
def test_findings_that_no_run_could_write_are_refused(contract, pointer, value):
    document = load_strict(dump_strict(finding(contract, "exact", run_id(1)).to_json()))
    assert list(schema_faults(document, "finding")) == []
    document[pointer[1:]] = value
    assert list(schema_faults(document, "finding"))


# --- writing


def test_a_run_reads_back_as_it_was_written(tree, contract):
    path = write_run(tree, contract)
    (run,) = read_runs(tree)
    assert run.path == path
    assert (run.state, run.problems) == ("complete", ())
    assert [record.finding for record in run.records] == [
        finding(contract, name, run.run) for name in ("exact", "floor", "small")
    ]
    assert (path / "contract.yaml").read_bytes() == run.source == contract.source


def test_run_ids_sort_by_time():
    ids = [new_run_id() for _ in range(20)]
    assert len(set(ids)) == 20
    assert [each[:19] for each in ids] == sorted(each[:19] for each in ids)


def test_a_run_is_never_opened_twice(tree, contract):
    opened(tree, contract, run=run_id(1))
    with pytest.raises(RecordError, match="there already"):
        opened(tree, contract, run=run_id(1))


def test_a_verdict_is_never_written_twice(tree, contract):
    writer = opened(tree, contract)
    writer.write(finding(contract, "exact", writer.run))
    with pytest.raises(RecordError, match="never written again"):
        writer.write(finding(contract, "exact", writer.run))


@pytest.mark.parametrize("name", ["floor"])
def test_what_was_not_selected_is_not_written(tree, contract, name):
    writer = opened(tree, contract, ["exact"])
    with pytest.raises(RecordError, match="not selected"):
        writer.write(finding(contract, name, writer.run))


def test_selecting_what_is_not_declared_is_refused(tree, contract):
    with pytest.raises(RecordError, match="nothing-of-the-kind"):
        opened(tree, contract, ["nothing-of-the-kind"])
    assert not tree.exists()


def test_a_finding_of_another_run_is_refused(tree, contract):
    writer = opened(tree, contract)
    with pytest.raises(RecordError, match="belongs to run"):
        writer.write(finding(contract, "exact", run_id(7)))


def test_a_sample_that_is_no_number_is_refused_and_leaves_nothing(tree, contract):
    writer = opened(tree, contract)
    broken = changed(finding(contract, "exact", writer.run), observations=observations(float("nan")))
    with pytest.raises(RecordError, match="/observations/0/samples/value"):
        writer.write(broken)
    assert not (writer.path / "exact.json").exists()
    writer.write(finding(contract, "exact", writer.run))


def test_a_finding_outside_the_schema_is_refused(tree, contract):
    writer = opened(tree, contract)
    with pytest.raises(RecordError, match="/target"):
        writer.write(changed(finding(contract, "exact", writer.run), target={"engine": "x"}))


def test_a_sealed_run_takes_nothing_more(tree, contract):
    writer = opened(tree, contract)
    assert writer.seal() == "interrupted"
    with pytest.raises(RecordError, match="sealed"):
        writer.write(finding(contract, "exact", writer.run))
    with pytest.raises(RecordError, match="sealed"):
        writer.seal()


@pytest.mark.parametrize(
    "name", ["../x", "a/b", ".hidden", "", "findings.json", "contract.yaml", "exact.json"]
)
def test_attachments_have_new_plain_names(tree, contract, name):
    writer = opened(tree, contract)
    writer.write(finding(contract, "exact", writer.run))
    with pytest.raises(RecordError, match="plain file name"):
        writer.attach(name, b"x")


def test_all_selected_observed_is_complete_though_others_were_deselected(tree, contract):
    path = write_run(tree, contract, ["small"])
    assert read_run(path).state == "complete"


def test_a_run_cut_short_is_interrupted_with_what_it_has(tree, contract):
    writer = opened(tree, contract)
    writer.write(finding(contract, "exact", writer.run))
    assert writer.seal() == "interrupted"
    run = read_run(writer.path)
    assert (run.state, run.problems, len(run.records)) == ("interrupted", (), 1)


def test_the_log_is_kept_and_listed(tree, contract):
    writer = opened(tree, contract, ["small"])
    writer.log("one\ntwo \udcff")
    writer.write(finding(contract, "small", writer.run))
    writer.seal()
    lines = (writer.path / "run.log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "two \\udcff"]
    (writer.path / "run.log").write_text("other")
    assert {where for where, _, _ in problems(writer.path)} == {"findings.json"}


def test_every_file_is_synced_before_it_is_renamed_and_its_folder_after(tree, contract):
    steps = []

    class Noting(FileSystem):
        def fsync(self, descriptor):
            steps.append("fsync")
            super().fsync(descriptor)

        def replace(self, source, destination):
            steps.append("rename")
            super().replace(source, destination)

        def fsync_directory(self, path):
            steps.append("fsync directory")
            super().fsync_directory(path)

    opened(tree, contract, files=Noting()).seal()
    assert steps == ["fsync", "rename", "fsync directory"] * 3


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
    place = data.draw(st.integers(0, len(content) - 1))
    before = content[place]
    content[place] = data.draw(st.integers(0, 255).filter(lambda value: value != before))
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


def test_runs_of_two_writers_do_not_disturb_each_other(tree, contract):
    def one(number: int) -> None:
        writer = opened(tree, contract, run=run_id(number))
        for name in ("exact", "floor", "small"):
            writer.log(f"{number} {name}")
            writer.write(finding(contract, name, writer.run))
        writer.seal()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(12)))
    runs = read_runs(tree)
    assert [(run.state, run.problems, len(run.records)) for run in runs] == [("complete", (), 3)] * 12


def test_a_verdict_without_samples_is_kept(tree, contract):
    writer = opened(tree, contract, ["small"])
    writer.write(blank(contract, contract.falsifiers[2], writer.run, verdict=Verdict.BLOCKED, target={}))
    assert writer.seal() == "complete"
    assert read_run(writer.path).problems == ()


def test_importing_the_writer_imports_nothing_heavy():
    heavy = "'numpy', 'jsonschema', 'hypothesis'"
    code = f"import sys, refute.record; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"

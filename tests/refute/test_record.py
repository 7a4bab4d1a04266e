"""Writing runs: what is refused, what is synced, what the schemas hold."""

import hashlib
import importlib.resources
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from records import (
    blank,
    changed,
    contract_at,
    finding,
    observations,
    opened,
    run_id,
    write_run,
)

from refute.reader import read_run, read_runs, schema_faults
from refute.record import FileSystem, RecordError, Sealed, new_run_id
from refute.strict_json import dump_strict, load_strict
from refute.verdict import Verdict

with tempfile.TemporaryDirectory() as _folder:
    _contract = contract_at(Path(_folder))
    _path = write_run(Path(_folder) / "evidence", _contract)
    HONEST = {
        "finding": (_path / "floor.json").read_text(),
        "findings": (_path / "findings.json").read_text(),
    }

# --- schemas


@pytest.mark.parametrize("name", ["finding", "findings", "telemetry"])
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
                optional = set(node["properties"]) - set(node.get("required", []))
                assert optional <= {"run", "rows"} or path[-1:] == ("bound",), path
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


@settings(max_examples=150)
@given(st.data())
def test_what_decides_about_records_refuses_what_the_standard_one_refuses(data):
    """Change one value anywhere in an honest document: a record that is accepted fits the schema to both."""
    name, document = data.draw(st.sampled_from(sorted(HONEST.items())))
    document = json.loads(document)
    places = list(inside(document))
    holder, key = places[data.draw(st.integers(0, len(places) - 1))]
    others = ["", "x", "2026-02-30T00:00:00Z", "a" * 64, None, True, -1, 0, 1.5, 2**60, [], {}, [1], {"a": 1}]
    holder[key] = data.draw(st.sampled_from(others))
    source = importlib.resources.files("refute").joinpath(f"schemas/{name}.schema.json").read_text()
    standard = Draft202012Validator(json.loads(source), format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert bool(list(schema_faults(document, name))) == (not standard.is_valid(document))


def test_what_only_the_stricter_one_refuses_is_told_too(contract):
    document = load_strict(dump_strict(finding(contract, "exact", run_id(1)).to_json()))
    document["contract_semantic_sha256"] += "\n"  # the end of a line, for Python's expressions
    assert [pointer for pointer, _ in schema_faults(document, "finding")] == ["/contract_semantic_sha256"]


def inside(node):
    """Every place in plain data, as who holds it and its key."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from inside(node[key])


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
    assert {each.where.rpartition("/")[2] for each in read_run(writer.path).problems} == {"findings.json"}


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


# --- runs that cite others


def test_a_run_cites_the_newest_sealed_one_before_it(tree, contract):
    first = write_run(tree, contract, ["small"], number=1)
    opened(tree, contract, run=run_id(2))  # never sealed
    later = write_run(tree, contract, ["small"], number=3)
    sealed = hashlib.sha256((first / "findings.json").read_bytes()).hexdigest()
    assert read_run(first).summary["previous"] is None
    assert read_run(later).summary["previous"] == {"run": first.name, "sha256": sealed}


def test_a_spoilt_run_is_cited_by_nobody(tree, contract):
    (write_run(tree, contract, ["small"], number=1) / "findings.json").write_bytes(b"{")
    assert read_run(write_run(tree, contract, ["small"], number=2)).summary["previous"] is None


def test_the_plan_says_how_much_there_is_to_do(tree, contract):
    plan = read_run(write_run(tree, contract, ["exact", "floor"])).summary["plan"]
    assert plan["sizes"] == {"exact": 3, "floor": 5}
    assert plan["faults"] == {"exact": 2, "floor": 1}


def test_the_seal_says_how_long_the_run_took_on_a_clock_that_nobody_sets(tree, contract):
    writer = opened(tree, contract)
    assert read_run(writer.path).summary["time"]["monotonic_ns"] is None
    writer.seal()
    assert read_run(writer.path).summary["time"]["monotonic_ns"] > 0


# --- findings that are taken over


@pytest.fixture
def stopped(tree, contract):
    """An interrupted run with one finding, as others cite it."""
    writer = opened(tree, contract, run=run_id(1))
    writer.write(finding(contract, "exact", writer.run))
    writer.seal()
    data = (writer.path / "findings.json").read_bytes()
    return writer.path, Sealed(writer.run, hashlib.sha256(data).hexdigest())


def test_a_finding_is_taken_over_byte_for_byte(tree, contract, stopped):
    old, sealed = stopped
    writer = opened(tree, contract, run=run_id(2), resumes=sealed)
    data = (old / "exact.json").read_bytes()
    assert writer.take_over(data).read_bytes() == data
    for name in ("floor", "small"):
        writer.write(finding(contract, name, writer.run))
    assert writer.seal() == "complete"
    run = read_run(writer.path)
    assert run.problems == ()
    assert run.summary["resumes"] == {"run": old.name, "sha256": sealed.sha256}
    assert [entry.get("run") for entry in run.summary["findings"]] == [old.name, None, None]
    assert [record.finding.run for record in run.records] == [old.name, run.run, run.run]


def test_a_finding_that_was_taken_over_counts_before_it_is_listed(tree, contract, stopped):
    old, sealed = stopped
    writer = opened(tree, contract, run=run_id(2), resumes=sealed)
    (writer.path / "exact.json").write_bytes((old / "exact.json").read_bytes())
    run = read_run(writer.path)
    assert ([record.finding.run for record in run.records], run.problems) == ([old.name], ())


def test_a_run_that_resumes_none_takes_nothing_over(tree, contract, stopped):
    with pytest.raises(RecordError, match="resumes no run"):
        opened(tree, contract, run=run_id(2)).take_over((stopped[0] / "exact.json").read_bytes())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"contract": "other-v1"}, "contract other-v1, expected demo-v1"),
        ({"contract_version": "9.0.0"}, "version 9.0.0, expected 1.0.0"),
        ({"contract_semantic_sha256": "0" * 64}, "meaning 000"),
        ({"falsifier": "other"}, "not open"),
        ({"run": run_id(2)}, "its own"),
        ({"verdict": "green"}, "/verdict"),
        ({"reason": float("nan")}, "NaN"),
    ],
)
def test_what_is_not_the_same_claim_is_not_taken_over(tree, contract, stopped, change, says):
    old, sealed = stopped
    writer = opened(tree, contract, run=run_id(2), resumes=sealed)
    document = {**json.loads((old / "exact.json").read_bytes()), **change}
    with pytest.raises(RecordError, match=says):
        writer.take_over(json.dumps(document).encode())
    assert not (writer.path / "exact.json").exists()


def test_a_verdict_is_not_taken_over_twice(tree, contract, stopped):
    old, sealed = stopped
    writer = opened(tree, contract, run=run_id(2), resumes=sealed)
    writer.take_over((old / "exact.json").read_bytes())
    with pytest.raises(RecordError, match="not open"):
        writer.take_over((old / "exact.json").read_bytes())


def test_lines_are_counted_in_the_listing(tree, contract):
    writer = opened(tree, contract, ["small"])
    (writer.path / "telemetry.jsonl").write_bytes(b"{}\n{}\n")
    writer.seal()
    (entry,) = [each for each in read_run(writer.path).summary["files"] if each["file"] == "telemetry.jsonl"]
    assert entry["rows"] == 2

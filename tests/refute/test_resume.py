"""A run that was interrupted goes on: what it finished is taken over by digest, the rest is attacked."""

import argparse
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from records import BUILD, EMBEDDED, edit, finding, opened, run_id, write_run
from small_contract import contract as small_contract
from small_contract import falsifier
from waiting import until

from refute import takeover
from refute.cli import main
from refute.contract import load_contract
from refute.ledger import Ledger
from refute.reader import read_run, read_runs
from refute.record import Sealed
from refute.recordable import Requested
from refute.resume import CannotResume, alone, find, options_of
from refute.sealing import CannotSeal, seal_interrupted
from refute.select import Selection
from refute.takeover import take_over
from refute.verdict import Exit

HERE = Selection("bundled", Path("model.gguf"), "embedded", "array", "auto")
OPTIONS = ("model", "target", "backend", "device", "endpoint", "model_name", "dialect", "seed")


@pytest.fixture
def here(monkeypatch):
    """The engine and the model that honest records were made on."""
    monkeypatch.setattr(takeover, "package_digest", lambda package: BUILD)
    monkeypatch.setattr(takeover, "model_sha256", lambda path, progress: EMBEDDED)


def unfinished(tree, contract, *done, number=1, resumes=None, over=True):
    """A run that ended after some findings: sealed, or left by a process that is gone."""
    writer = opened(tree, contract, run=run_id(number))
    for name in done:
        writer.write(finding(contract, name, writer.run))
    if resumes is not None:
        edit(writer.path / "findings.json", lambda it: it.update(resumes=resumes), rehash=False)
    if over:
        edit(writer.path / "findings.json", die, rehash=False)
    return writer.path


def die(summary):
    summary["provenance"]["process"]["start_ticks"] = 1


def taken(contract, tree, selection=HERE, name="", testbed="a" * 64, harness="b" * 64):
    return take_over(find([tree], name), [contract], selection, testbed=testbed, harness=harness)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(
        small_contract(*(falsifier(f"repeats-{n}") for n in range(12)))
    )
    command = [sys.executable, "-m", "refute", "run"]
    process = subprocess.Popen([*command, "--target=fake", "--profile=pr"], stdout=subprocess.DEVNULL)
    until(tmp_path, "evidence/*/*/repeats-2.json", process)
    process.kill()
    process.wait()
    (killed,) = read_runs(tmp_path / "evidence")
    before = {record.file: (killed.path / record.file).read_bytes() for record in killed.records}
    assert 3 <= len(before) < 12

    resume = [*command, "--resume"]
    done = subprocess.run(resume, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (Exit.MISSING, Exit.INVALID), done.stderr  # of few cases, a fault may be missed
    assert "gate profile pr, after this run" in done.stdout
    assert f"goes on with run {killed.run}: {len(before)} findings taken over" in done.stdout
    old, new = read_runs(tmp_path / "evidence")
    assert (old.problems, new.problems) == ((), ())
    assert (old.summary["state"], new.summary["state"]) == ("interrupted", "complete")
    assert new.summary["resumes"] == {"run": old.run, "sha256": old.sha256}
    assert {name: (new.path / name).read_bytes() for name in before} == before
    owners = {entry["file"]: entry.get("run", new.run) for entry in new.summary["findings"]}
    assert {name for name, owner in owners.items() if owner == old.run} == set(before)
    assert len(owners) == 12

    done = subprocess.run(resume, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("refute: nothing to resume")


def test_what_a_killed_process_finished_is_listed_and_what_it_half_wrote_is_removed(tree, contract):
    path = unfinished(tree, contract, "exact", "floor")
    edit(path / "findings.json", lambda it: it["findings"].pop(), rehash=False)
    (path / ".floor.json.1.tmp").write_text("{")
    (path / "floor.counterexample.json").write_text("{}")
    (path / "telemetry.jsonl").write_text('{"at": "2026-11-24T00:00:09.000Z"}\n{"at": "2026-')
    run = seal_interrupted(path)
    assert (run.summary["state"], run.problems) == ("interrupted", ())
    assert [entry["falsifier"] for entry in run.summary["findings"]] == ["exact", "floor"]
    assert {entry["file"] for entry in run.summary["files"]} >= {
        "floor.counterexample.json",
        "telemetry.jsonl",
    }
    assert run.summary["time"]["monotonic_ns"] is None
    assert run.summary["time"]["ended"] >= run.summary["time"]["started"]
    sealed = (path / "findings.json").read_bytes()
    seal_interrupted(path)
    assert (path / "findings.json").read_bytes() == sealed


def test_a_run_that_lives_is_not_sealed(tree, contract):
    with pytest.raises(CannotSeal, match=f"process {os.getpid()} still runs it"):
        seal_interrupted(unfinished(tree, contract, over=False))


def test_a_run_that_was_edited_is_not_sealed(tree, contract):
    path = unfinished(tree, contract, "exact")
    edit(path / "exact.json", lambda it: it.update(reason="better"), rehash=False)
    with pytest.raises(CannotSeal, match="as listed"):
        seal_interrupted(path)


def test_a_run_is_found_by_id_prefix_and_path(tree, contract):
    path = unfinished(tree, contract, "exact")
    write_run(tree, contract, number=2)
    for name in ("", run_id(1), run_id(1)[:-1], str(path), os.path.relpath(path)):
        assert find([tree], name).run == run_id(1)


def test_the_newest_that_nobody_resumed_is_the_default(tree, contract):
    unfinished(tree, contract, number=1)
    unfinished(tree, contract, number=2)
    cited = {"run": run_id(2), "sha256": "0" * 64}
    unfinished(tree, contract, number=3, resumes=cited)
    assert find([tree], "").run == run_id(3)
    edit(tree / "demo-v1" / run_id(3) / "findings.json", complete, rehash=False)
    assert find([tree], "").run == run_id(1)


def complete(summary):
    summary["state"] = "complete"
    summary["plan"].update(selected=[], sizes={}, faults={})
    summary["time"]["ended"] = summary["time"]["started"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("2025", "no run of this name"),
        (run_id(0)[:12], "begins 4 runs"),
        (run_id(1), "is complete: nothing to resume"),
        (run_id(2), f"was resumed already, by {run_id(3)}"),
        (run_id(4), "still runs, as process {pid}"),
    ],
)
def test_what_cannot_be_resumed_is_a_sentence(tree, contract, name, sentence):
    write_run(tree, contract, number=1)
    unfinished(tree, contract, number=2)
    unfinished(tree, contract, number=3, resumes={"run": run_id(2), "sha256": "0" * 64})
    unfinished(tree, contract, number=4, over=False)
    with pytest.raises(CannotResume, match=sentence.format(pid=os.getpid())):
        find([tree], name)


def test_only_one_process_goes_on_with_a_run(tree, contract):
    unfinished(tree, contract, "exact")
    interrupted = find([tree], "")
    told = pytest.raises(CannotResume, match="being resumed by another process")
    with alone(interrupted), told, alone(interrupted):
        pytest.fail("two of them")
    with alone(interrupted) as again:
        assert again.run == interrupted.run


def test_one_that_was_resumed_while_it_was_looked_for_is_not_resumed_again(tree, contract):
    unfinished(tree, contract, "exact")
    interrupted = find([tree], "")
    unfinished(tree, contract, number=2, resumes={"run": run_id(1), "sha256": "0" * 64})
    with pytest.raises(CannotResume, match=f"was resumed already, by {run_id(2)}"), alone(interrupted):
        pytest.fail("twice")


def test_the_second_of_two_commands_is_told_so(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contracts").mkdir()
    path = tmp_path / "contracts/small-v1.yaml"
    path.write_text(small_contract(falsifier("repeats")))
    writer = opened(tmp_path / "evidence", load_contract(path), ["repeats"])
    edit(writer.path / "findings.json", die, rehash=False)
    with alone(find([tmp_path / "evidence"], "")):
        assert main(["run", "--resume"]) == Exit.USAGE
    told = f"refute: {writer.run} is being resumed by another process at this moment\n"
    assert capfd.readouterr().err == told
    assert len(list(tmp_path.glob("evidence/*/*"))) == 1


def test_without_an_interrupted_run_there_is_nothing(tree, contract):
    write_run(tree, contract)
    with pytest.raises(CannotResume, match="nothing to resume"):
        find([tree], "")


def test_the_rest_is_what_was_selected_and_not_finished(tree, contract, here):
    unfinished(tree, contract, "floor")
    found = taken(contract, tree)
    assert found.left == [(contract.path, "exact"), (contract.path, "small")]
    sealed = read_run(tree / "demo-v1" / run_id(1))
    assert found.cited == {"demo-v1": Sealed(sealed.run, sealed.sha256)}
    assert found.told() == f"goes on with run {run_id(1)}: 1 finding taken over, 2 to attack"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"testbed": "c" * 64}, "testbed"),
        ({"harness": "c" * 64}, "refute's code"),
        ({"selection": dataclasses.replace(HERE, missing="model.gguf: no such model file")}, "no such model"),
    ],
)
def test_another_host_code_or_no_model_is_refused_and_nothing_sealed(tree, contract, here, changes, what):
    path = unfinished(tree, contract, "exact")
    with pytest.raises(CannotResume, match=what):
        taken(contract, tree, **changes)
    assert json.loads((path / "findings.json").read_text())["state"] == "running"


@pytest.mark.parametrize(
    ("attribute", "what"), [("package_digest", "engine digest"), ("model_sha256", "model sha256")]
)
def test_another_engine_or_model_is_refused(tree, contract, here, monkeypatch, attribute, what):
    unfinished(tree, contract, "exact")
    monkeypatch.setattr(takeover, attribute, lambda *arguments, **rest: "f" * 64)
    with pytest.raises(CannotResume, match=f"the {what} changed, from .* to ffff"):
        taken(contract, tree)


def test_another_model_is_refused_where_none_was_attacked_yet(tree, contract, here):
    path = unfinished(tree, contract)
    asked = Requested.of(HERE).to_json()
    edit(path / "findings.json", lambda it: it.update(requested=asked), rehash=False)
    with pytest.raises(CannotResume, match=r"the model changed, from .* to other\.gguf"):
        taken(contract, tree, dataclasses.replace(HERE, model=Path("other.gguf"), origin="named"))
    assert json.loads((path / "findings.json").read_text())["state"] == "running"
    assert len(taken(contract, tree).left) == 3


def test_a_contract_that_differs_in_a_byte_is_refused(tree, contract, here):
    unfinished(tree, contract, "exact")
    changed = dataclasses.replace(contract, bytes_sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(CannotResume, match="the contract demo-v1 changed"):
        taken(changed, tree)
    with pytest.raises(CannotResume, match="not among these: name its file"):
        take_over(find([tree], ""), [], HERE, testbed="a" * 64, harness="b" * 64)


def test_a_run_that_had_found_all_is_only_closed(tree, contract, here):
    unfinished(tree, contract, "exact", "floor", "small")
    found = taken(contract, tree)
    assert found.left == []
    ledger = Ledger(0, tree, tree)
    found.finished(ledger)
    old, new = read_runs(tree)
    assert (new.summary["state"], new.problems) == ("complete", ())
    assert len(ledger.findings) == 3
    assert [record.sha256 for record in new.records] == [record.sha256 for record in old.records]


def options(tree, contract, argv, requested, environ=None, **given):
    asked = Requested(**requested)
    path = unfinished(tree, contract)
    edit(path / "findings.json", lambda it: it.update(requested=asked.to_json()), rehash=False)
    edit(path / "findings.json", lambda it: it["provenance"].update(argv=argv), rehash=False)
    arguments = argparse.Namespace(**{**dict.fromkeys(OPTIONS), **given})
    return options_of(find([tree], ""), arguments, environ or {})


NAMED = {"target": "bundled", "model": "model.gguf", "model_origin": "named", "backend": "array", "seed": 3}


def test_it_goes_on_as_it_was_asked_for(tree, contract, tmp_path):
    (tmp_path / "model.gguf").touch()
    merged = options(tree, contract, ["refute", "run", "--model", str(tmp_path / "model.gguf")], NAMED)
    assert merged.model == tmp_path / "model.gguf"
    assert (merged.backend, merged.seed, merged.evidence) == ("array", "3", str(tree))


def test_the_backend_that_was_chosen_by_itself_is_kept(tree, contract):
    path = unfinished(tree, contract, contract.falsifiers[0].id)
    asked = Requested(target="bundled", model="pocket.gguf", model_origin="embedded").to_json()
    edit(path / "findings.json", lambda it: it.update(requested=asked), rehash=False)
    merged = options_of(find([tree], ""), argparse.Namespace(**dict.fromkeys(OPTIONS)), {})
    assert merged.backend == "array"


def test_the_model_is_looked_for_on_the_command_line_of_the_first_run(tree, contract, tmp_path):
    (tmp_path / "model.gguf").touch()
    first = unfinished(tree, contract, number=1)
    last = unfinished(tree, contract, number=2, resumes={"run": run_id(1), "sha256": "0" * 64})
    for path, argv in ((first, [f"--model={tmp_path}/model.gguf"]), (last, ["--resume"])):
        edit(
            path / "findings.json", lambda it: it.update(requested=Requested(**NAMED).to_json()), rehash=False
        )
        edit(
            path / "findings.json",
            lambda it, argv=argv: it["provenance"].update(argv=["refute", "run", *argv]),
            rehash=False,
        )
    merged = options_of(find([tree], ""), argparse.Namespace(**dict.fromkeys(OPTIONS)), {})
    assert merged.model == tmp_path / "model.gguf"


@pytest.mark.parametrize(
    ("requested", "given", "sentence"),
    [
        (NAMED, {"seed": "4"}, "was started with --seed 3, not 4"),
        (NAMED, {"backend": "cuda"}, "was started with --backend array, not cuda"),
        (NAMED, {}, "attacked model.gguf: say where it is, with --model FILE"),
        ({**NAMED, "model_origin": "MY_MODEL"}, {}, r"the model of \$MY_MODEL, which is not set"),
    ],
)
def test_it_cannot_go_on_as_something_else(tree, contract, requested, given, sentence):
    with pytest.raises(CannotResume, match=sentence):
        options(tree, contract, ["refute", "run"], requested, **given)

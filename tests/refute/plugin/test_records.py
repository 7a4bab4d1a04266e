"""Records: written as each falsifier finishes, and readable whatever happens to the run."""

import os
import signal
import subprocess
import sys

from small_contract import REPEATS, contract, falsifier
from waiting import until

import refute.attack
from refute.reader import read_runs
from refute.telemetry import Telemetry
from refute.verdict import Verdict


def test_a_real_run_is_recorded_and_survives(project):
    result = project.run("contracts")
    result.assert_outcomes(passed=3)
    summary = project.summaries()["small-v1"]
    assert summary["state"] == "complete"
    assert summary["plan"]["selected"] == ["repeats", "cached", "floor"]
    assert project.verdicts() == dict.fromkeys(["repeats", "cached", "floor"], "survived")
    (run,) = read_runs(project.pytester.path / "evidence")
    assert not run.problems
    assert run.records[0].finding.faults[0].caught
    log = (run.path / "run.log").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1:3] for line in log] == [
        [name, "survived:"] for name in ("repeats", "cached", "floor")
    ]


def test_the_host_is_watched_closely_for_the_contract_under_attack(project, decide, monkeypatch):
    decide(Verdict.SURVIVED)
    project.write(contract(falsifier("another"), id="other-v1"), "other-v1")
    told = []
    for what in ("attacked", "rested"):

        def note(self, run, what=what):
            told.append((what, run.parent.name))

        monkeypatch.setattr(Telemetry, what, note)
    project.run("contracts")
    assert told == [
        *[("attacked", "other-v1"), ("rested", "other-v1")],
        *[("attacked", "small-v1"), ("rested", "small-v1")] * 3,
    ]


def test_each_finding_is_on_the_disk_before_the_next_attack(project, decide, monkeypatch):
    decide(Verdict.SURVIVED)
    seen = []
    told = refute.attack.attack

    def attack(*arguments, **rest):
        seen.append((list(project.verdicts()), project.summaries()["small-v1"]["state"]))
        return told(*arguments, **rest)

    monkeypatch.setattr(refute.attack, "attack", attack)
    project.run("contracts")
    assert seen == [([], "running"), (["repeats"], "running"), (["repeats", "cached"], "running")]


def test_what_was_not_reached_is_unobserved_and_shown(project, decide):
    decide(Verdict.INVALID)
    result = project.run("-x", "contracts")
    assert project.verdicts() == {"repeats": "invalid"}
    assert project.summaries()["small-v1"]["state"] == "interrupted"
    result.stdout.fnmatch_lines(
        ["*repeats *invalid*", "*cached *unobserved*", "*floor *unobserved*", "record *"]
    )


def test_what_was_deselected_is_declared_in_the_record(project, decide):
    decide(Verdict.SURVIVED)
    project.write(contract(falsifier("another"), id="other-v1"), "other-v1")
    result = project.run("-k", "cached", "contracts")
    assert list(project.summaries()) == ["small-v1"]
    summary = project.summaries()["small-v1"]
    assert summary["plan"]["falsifiers"] == ["repeats", "cached", "floor"]
    assert summary["plan"]["selected"] == ["cached"]
    assert (summary["requested"]["keyword"], summary["requested"]["target"]) == ("cached", "fake")
    result.stdout.fnmatch_lines(["*other-v1*", "*another *unobserved*"])


def test_evidence_goes_where_it_is_told(project, decide):
    decide(Verdict.SURVIVED)
    project.run("--refute-evidence=kept/here", "contracts")
    assert list((project.pytester.path / "kept/here/small-v1").glob("*/repeats.json"))
    assert not (project.pytester.path / "evidence").exists()


def test_evidence_that_cannot_be_written_is_one_sentence(project, decide):
    decide(Verdict.SURVIVED)
    (project.pytester.path / "file").write_text("")
    result = project.run("--refute-evidence=file", "contracts")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: refute: no record can be written: *file*"])


def test_faults_only_records_nothing_and_fails_only_for_a_missed_fault(project):
    project.write(contract(REPEATS))
    result = project.run("--refute-faults", "contracts")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*small-v1/repeats*", "*greedy-sampled *caught*"])
    assert not (project.pytester.path / "evidence").exists()


def test_an_interrupted_run_is_sealed(project, monkeypatch):
    def attack(*arguments, **rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(refute.attack, "attack", attack)
    project.pytester.runpytest_inprocess("--refute-target=fake", "contracts", no_reraise_ctrlc=True)
    assert project.summaries()["small-v1"]["state"] == "interrupted"


def test_a_killed_run_keeps_what_it_finished(project):
    project.write(contract(*(falsifier(f"repeats-{n}") for n in range(40))))
    command = [sys.executable, "-m", "pytest", "--refute-target=fake", "contracts"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    evidence = project.pytester.path / "evidence"
    until(evidence, "*/*/repeats-1.json", process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (run,) = read_runs(evidence)
    assert run.state == "interrupted"
    assert not run.problems
    assert {record.finding.falsifier for record in run.records} >= {"repeats-0", "repeats-1"}
    assert len(run.records) < 40


def test_the_value_of_a_key_in_the_environment_is_in_no_record(project, decide, monkeypatch):
    decide(Verdict.SURVIVED)
    monkeypatch.setenv("HUSH_API_KEY", "hush-hush-hush-1")
    project.run("-k", "cached or hush-hush-hush-1", "contracts")
    assert project.summaries()["small-v1"]["requested"]["keyword"] == "cached or <redacted>"
    files = [file for file in (project.pytester.path / "evidence").rglob("*") if file.is_file()]
    assert files
    assert not any(b"hush-hush" in file.read_bytes() for file in files)

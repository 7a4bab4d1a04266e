"""A run that is killed at any step leaves every finished finding whole, and reads as interrupted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from records import PRESENT, contract_at, finding, kinds

from refute.audit import contracts, identity, origin
from refute.audit.rule import Severity
from refute.audit.subject import Folder, Here, Library, Subject
from refute.reader import Run, read_runs

WRITER = Path(__file__).parents[1] / "support" / "crash_writer.py"


@pytest.fixture(scope="module", params=["before", "within"])
def killed(request, tmp_path_factory):
    """Every killed run: how far it came, as it said, and how it reads."""
    work = tmp_path_factory.mktemp("killed")
    command = [sys.executable, str(WRITER), str(work), request.param]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    assert steps
    return work, [(step, read_runs(work / str(step["step"]))) for step in steps]


def test_every_step_was_killed_and_the_last_run_was_not(killed):
    _, runs = killed
    assert [step["killed"] for step, _ in runs] == [True] * (len(runs) - 1) + [False]
    # Two files to open, three findings, one of them taken over, an attachment and the seal, each with its
    # list; two log lines.
    assert len(runs) > 45


def test_finished_findings_are_whole(killed):
    work, runs = killed
    contract = contract_at(work)
    for step, found in runs:
        by_name = {record.finding.falsifier: record.finding for run in found for record in run.records}
        for name in step["finished"]:
            assert by_name[name] == finding(contract, name, by_name[name].run), step


def test_nothing_half_written_is_read(killed):
    work, runs = killed
    contract = contract_at(work)
    for _, found in runs:
        for record in (record for run in found for record in run.records):
            assert record.finding == finding(contract, record.finding.falsifier, record.finding.run)


def test_an_audit_takes_a_killed_run_for_no_tampering(killed):
    _, runs = killed
    rules = [*identity.RULES, *contracts.RULES, origin.counterexample_file]
    errors = [rule for rule in rules if rule.severity is Severity.ERROR]
    for step, found in runs:
        for run in found:
            subject = Subject.of(Folder.read(run.path), Here(PRESENT), Library(kinds))
            assert [(rule.id, each) for rule in errors for each in rule.check(subject)] == [], step


def test_a_killed_run_is_interrupted_and_has_no_problem(killed):
    _, runs = killed
    for step, found in runs:
        run = _only(found)
        if run is not None:
            assert run.problems == (), step
            # The seal is whole once it is renamed; only its directory may then be unsynced.
            assert run.state == "interrupted" or len(run.records) == 3, step


def test_a_run_that_was_not_killed_is_complete(killed):
    _, runs = killed
    run = _only(runs[-1][1])
    assert run is not None
    assert run.state == "complete"


def _only(runs: list[Run]) -> Run | None:
    assert len(runs) <= 1
    return runs[0] if runs else None

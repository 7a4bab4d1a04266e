"""`refute run --profile`: plan, run, and what the gate makes of it; status from another shell meanwhile."""

import json
import signal
import subprocess
import sys

import pytest
from small_contract import CACHED, REPEATS, contract, falsifier
from waiting import until

from refute.cli import main
from refute.verdict import Exit

COMMAND = [sys.executable, "-m", "refute"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(contract(REPEATS, CACHED))
    return tmp_path


def refute(*arguments):
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120, encoding="utf-8"
    )


def test_what_the_profile_lacks_is_planned_attacked_and_then_lacks_no_more(project):
    done = refute("run", "--profile", "pr", "-k", "cached")
    assert done.returncode == Exit.MISSING, done.stderr  # the other one is not there yet
    plan, _, rest = done.stdout.partition("refute 0.1.0 attacks")
    assert "sha256" in plan
    assert "1 falsifier to attack, at least" in plan
    assert "passes now  small-v1/cached" in rest
    assert "$ refute run contracts/small-v1.yaml -k repeats" in rest
    (summary,) = project.glob("evidence/*/*/findings.json")
    requested = json.loads(summary.read_text())["requested"]
    assert (requested["profile"], requested["keyword"]) == ("pr", "cached")

    plan = json.loads(refute("run", "--profile", "pr", "--plan", "--json").stdout)
    assert [each["falsifier"] for each in plan["planned"]] == ["repeats"]
    assert plan["left_out"][0]["reason"].startswith("survived already")

    assert refute("run", "--profile", "pr").returncode == Exit.OK
    done = refute("run", "--profile", "pr")
    assert done.returncode == Exit.OK
    assert "0 falsifiers to attack" in done.stdout
    assert "gate pr: open; 2 of 2 claims pass" in done.stdout
    assert len(list(project.glob("evidence/*/*/findings.json"))) == 2


def test_as_json_the_decision_is_there(project):
    done = refute("run", "--target=fake", "--profile=pr", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == "urn:refute:schema:run:1"
    assert len(document["findings"]) == 2
    decision = document["decision"]
    assert (decision["profile"], decision["passes"], document["exit"]) == ("pr", False, done.returncode)
    assert [each["outcome"] for each in decision["rulings"]] == ["fails", "fails"]  # a simulated engine
    nothing = json.loads(refute("run", "--target=fake", "--profile=pr", "--json", "-k", "none").stdout)
    assert (nothing["planned"], nothing["decision"]["passes"]) == ([], False)
    assert "decision" not in json.loads(refute("run", "--target=fake", "--json").stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile=pr", "-m=x"], "-m does not go with --profile"),
        (["--profile=pr", "--faults"], "--faults does not go with --profile"),
        (["--profile=pr", "--resume"], "--profile does not go with --resume"),
        (["--plan"], "--plan belongs to --profile"),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, arguments, sentence):
    assert main(["run", *arguments]) == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"refute: {sentence}")


def test_status_can_be_asked_while_a_run_goes_on(project):
    (project / "contracts/small-v1.yaml").write_text(
        contract(*(falsifier(f"repeats-{n}") for n in range(200)))
    )
    command = [*COMMAND, "run", "--target=fake", "--profile=pr"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    until(project, "evidence/*/*/repeats-1.json", process)
    try:
        done = refute("status", "--json")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED, said
    assert "gate pr: closed" in said
    assert done.returncode == Exit.OK, done.stderr
    claims = {claim["falsifier"]: claim for claim in json.loads(done.stdout)["claims"]}
    assert claims["repeats-1"]["level"] == "simulated"
    assert claims["repeats-199"]["status"] == "unobserved"
    assert not any(claim["discrepancies"] for claim in claims.values())

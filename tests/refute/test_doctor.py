"""`refute doctor`: the whole of it, as a command."""

import json
import subprocess
import sys

import pytest
from small_contract import contract

from refute.doctor.base import Check, Diagnosis
from refute.verdict import Exit


def doctor(*arguments):
    command = [sys.executable, "-m", "refute", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(contract())
    return tmp_path


def test_a_run_on_the_embedded_model_is_possible(project):
    done = doctor()
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    for name in ("model file", "quantization", "memory", "GPU", "evidence", "noise", "extras", "git"):
        assert any(line[5:].startswith(name) for line in done.stdout.splitlines())
    assert done.stdout.splitlines()[-1].endswith("a run is possible")


def test_what_makes_it_impossible_is_exit_code_5_and_told_as_json(project):
    (project / "model.gguf").write_bytes(b"no model")
    done = doctor("--json", "--model", "model.gguf")
    assert (done.returncode, done.stderr) == (Exit.MISSING, "")
    told = json.loads(done.stdout)
    failed = [check for check in told["checks"] if check["state"] == "fail"]
    assert told["exit"] == 5
    assert [check["name"] for check in failed] == ["model format"]
    assert failed[0]["fix"]


def test_help():
    assert "usage: refute doctor" in doctor("--help").stdout


@pytest.mark.parametrize(("states", "code"), [("ok warn", Exit.OK), ("ok fail warn", Exit.MISSING)])
def test_only_a_failure_makes_it_impossible(states, code):
    assert Diagnosis.of(Check("x", state, "") for state in states.split()).code is code

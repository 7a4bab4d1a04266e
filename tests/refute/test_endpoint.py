"""`refute run --endpoint`: what goes together, what is said, and that a key stays secret."""

import json
import os
import socket
import subprocess
import sys

import pytest

from refute.targets.fake import FakeTarget

CLAIM = "http-chat-answers"


@pytest.fixture(scope="module")
def server():
    target = FakeTarget()
    return target, target.endpoint.base


def refute(tmp_path, *arguments, **environment):
    """Run the command; its exit code and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "refute", "run", *arguments, "--evidence", str(tmp_path / "evidence")],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "300", **environment},
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--endpoint", "http://h", "--model", "x.gguf"], "--model would change nothing there"),
        (["--endpoint", "http://h", "--backend", "array"], "--backend would change nothing there"),
        (
            ["--endpoint", "http://h", "--target", "bundled"],
            "--endpoint is attacked as openai, not as bundled",
        ),
        (
            ["--endpoint", "http://h", "--api-key-env", "NOT_SET_HERE"],
            "NOT_SET_HERE: the variable is not set",
        ),
        (["--model-name", "m"], "expected --endpoint URL too"),
    ],
)
def test_options_that_do_not_go_together(arguments, said, tmp_path):
    code, output = refute(tmp_path, *arguments)
    assert code == 2
    assert said in output


def test_a_server_is_attacked_and_its_key_is_nowhere(server, tmp_path):
    _, url = server
    options = ["--endpoint", url, "--api-key-env", "SERVER_KEY", "-k", CLAIM]
    code, output = refute(tmp_path, *options, SERVER_KEY="open-sesame")

    assert code == 5, output  # the other claims are unobserved
    assert f"attacks the model at {url}" in output
    records = {path.name: path.read_text() for path in (tmp_path / "evidence").rglob("*") if path.is_file()}
    assert json.loads(records[f"{CLAIM}.json"])["verdict"] == "survived"
    assert "open-sesame" not in "".join([output, *records.values()])


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    code, output = refute(tmp_path, "--endpoint", f"http://127.0.0.1:{port}", "-k", CLAIM)
    assert code == 5
    assert f"cannot reach http://127.0.0.1:{port}/v1" in output


def test_the_target_without_an_endpoint(tmp_path):
    code, output = refute(tmp_path, "--target", "openai", "-k", CLAIM)
    assert code == 5
    assert "no server is named: expected --endpoint URL" in output

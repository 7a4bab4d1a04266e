"""`refute run --endpoint`: what goes together, what is said, and that a key stays secret."""

import json
import os
import socket
import subprocess
import sys

import pytest

from refute.select import Named, named_endpoint
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
    ("given", "others", "said"),
    [
        (("http://h", "", ""), ["--model", "--backend"], "--model, --backend would change nothing there"),
        (("http://h", "", "NOT_SET"), [], "NOT_SET: the variable is not set, or empty"),
        (("http://h", "", "BLANK"), [], "BLANK: the variable is not set, or empty"),
        (("", "m", ""), [], "expected --endpoint URL too"),
        (("", "", "KEY"), [], "expected --endpoint URL too"),
    ],
)
def test_options_that_do_not_go_together(given, others, said):
    with pytest.raises(ValueError, match=said):
        named_endpoint(*given, others=others, environ={"KEY": "k", "BLANK": " "})


def test_a_server_that_is_named():
    assert named_endpoint("http://h", "", "", others=[], environ={}) == Named("http://h")
    keyed = named_endpoint("http://h", "m", "KEY", others=[], environ={"KEY": " k\n"})
    assert keyed == Named("http://h", "m", "k")
    assert "k'" not in repr(keyed)
    assert named_endpoint("", "", "", others=["--model"], environ={}) is None


def test_a_usage_error_of_the_command(tmp_path):
    code, output = refute(tmp_path, "--endpoint", "http://h", "--target", "bundled")
    assert code == 2
    assert "--endpoint is attacked as openai, not as bundled" in output


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

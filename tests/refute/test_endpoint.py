"""`refute run --endpoint`: what goes together, what is said, and that a key stays secret."""

import json
import os
import socket
import subprocess
import sys

import pytest
from stub_endpoint import listing, serving

from refute.cli import main
from refute.counterexample import SCHEMA
from refute.select import Named, named_endpoint
from refute.targets.fake import FakeTarget
from refute.verdict import Exit

CLAIM = "http-chat-answers"
CONTRACT = "qwen3-moe-serve-dispatch-v1"
KEY = "open-sesame"


@pytest.fixture(scope="module")
def url():
    target = FakeTarget()
    yield target.endpoint.base
    del target  # which holds the server


@pytest.fixture
def record(tmp_path):
    """A counterexample of a model at some endpoint."""
    found = {
        "schema": SCHEMA,
        "run": "20260101T000000.000Z-00000000",
        "contract": CONTRACT,
        "falsifier": CLAIM,
        "kind": "chat-content",
        "parameters": {"max_tokens": 8, "pieces": 2},
        "model_name": "other",
        "model_sha256": None,
        "target": "openai",
        "case": {"content": "Hello", "max_tokens": 8, "sampling": {"temperature": 0}},
        "samples": {},
        "replays": True,
    }
    path = tmp_path / f"{CLAIM}.counterexample.json"
    path.write_text(json.dumps(found))
    return path


def refute(tmp_path, *arguments, **environment):
    """Run the command; its exit code and all that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "refute", *arguments, "--evidence", str(tmp_path / "evidence")],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "300", **environment},
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def records(tmp_path):
    """All that lies in the evidence tree, by its path's end."""
    found = (path for path in (tmp_path / "evidence").rglob("*") if path.is_file())
    return {path.name: path.read_text() for path in found}


@pytest.fixture(scope="module")
def attacked(url, tmp_path_factory):
    """An attack by two workers with a key: the folder of the evidence tree, and all that was said."""
    folder = tmp_path_factory.mktemp("attacked")
    options = [
        "--endpoint",
        url,
        "--api-key-env",
        "SERVER_KEY",
        "-k",
        f"{CLAIM} or callback-stops",
        "-n",
        "2",
    ]
    code, output = refute(folder, "run", *options, SERVER_KEY=KEY)
    assert code == Exit.MISSING, output  # the other claims are unobserved
    return folder, output


def told(capsys, what):
    """A list in what was printed as JSON."""
    return json.loads(capsys.readouterr().out)[what]


@pytest.mark.parametrize(
    ("given", "others", "target", "said"),
    [
        (
            ("http://h", "", ""),
            ["--model", "--backend"],
            None,
            "--model, --backend would change nothing there",
        ),
        (("http://h", "", ""), [], "bundled", "--endpoint is attacked as openai, not as bundled"),
        (("http://h", "", "NOT_SET"), [], None, "NOT_SET: the variable is not set, or empty"),
        (("http://h", "", "BLANK"), [], None, "BLANK: the variable is not set, or empty"),
        (("http://h", "", "WIDE"), [], None, "--api-key-env WIDE: the key is empty, or has characters"),
        (("http://h", "", "", "vlm"), [], None, "--dialect vlm: expected one of refute, llama-cpp-python"),
        (("h:80", "", ""), [], None, "no http or https URL"),
        (("", "m", ""), [], None, "expected --endpoint URL too"),
        (("", "", "KEY"), [], None, "expected --endpoint URL too"),
        (("", "", "", "vllm"), [], None, "expected --endpoint URL too"),
    ],
)
def test_options_that_cannot_be(given, others, target, said):
    environ = {"KEY": "k", "BLANK": " ", "WIDE": "two words"}
    with pytest.raises(ValueError, match=said) as refused:
        named_endpoint(*given, others=others, target=target, environ=environ)
    assert "two words" not in str(refused.value)


def test_a_server_that_is_named():
    assert named_endpoint("http://h", "", "", others=[], environ={}) == Named("http://h")
    keyed = named_endpoint(
        "http://h", "m", "KEY", "vllm", others=[], target="openai", environ={"KEY": " k\n"}
    )
    assert keyed == Named("http://h", "m", "k", "vllm")
    assert "k'" not in repr(keyed)
    assert named_endpoint("", "", "", others=["--model"], target="fake", environ={}) is None


def test_several_models_and_no_name_are_a_usage_error(tmp_path):
    with serving({"/v1/models": listing("a", "b")}) as several:
        code, output = refute(tmp_path, "run", "--endpoint", several, "-k", CLAIM)
    assert code == Exit.USAGE
    said = f"refute: {several}/v1 serves several models; expected --model-name with one of a, b"
    assert f"{said}\n" in output
    assert not records(tmp_path)


def test_a_server_is_attacked_by_workers_and_its_key_is_nowhere(url, attacked):
    folder, output = attacked
    assert f"attacks fake at {url}" in output
    found = records(folder)
    asked, inside = (json.loads(found[f"{claim}.json"]) for claim in (CLAIM, "callback-stops"))
    assert asked["verdict"] == "survived"
    assert {fault["planted"] for fault in asked["faults"]} == {"target"}
    assert (asked["target"]["name"], asked["target"]["settings"]["endpoint"]) == ("openai", url)
    assert (inside["verdict"], inside["reason"]) == (
        "not-applicable",
        "the target lacks stream, token_ids",
    )
    assert KEY not in "".join([output, *found.values()])


def test_records_of_an_endpoint_discharge_nothing(attacked, capsys):
    folder, _ = attacked
    tree = ["--evidence", str(folder / "evidence"), "--json"]

    assert main(["status", *tree]) == Exit.OK
    (claim,) = (each for each in told(capsys, "claims") if each["falsifier"] == CLAIM)
    assert (claim["status"], claim["level"]) == ("open", "other")
    assert claim["reason"] == "survived at level other; full-model discharges it"
    for profile in ("pr", "release"):
        assert main(["gate", "--profile", profile, *tree]) != Exit.OK
        rulings = {each["claim"]["falsifier"]: each["code"] for each in told(capsys, "rulings")}
        assert rulings[CLAIM] != Exit.OK


def test_nobody_listens(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    code, output = refute(tmp_path, "run", "--endpoint", f"http://127.0.0.1:{port}", "-k", CLAIM)
    assert code == Exit.MISSING
    assert f"cannot reach http://127.0.0.1:{port}/v1" in output
    assert json.loads(records(tmp_path)[f"{CLAIM}.json"])["verdict"] == "blocked"


def test_the_target_without_an_endpoint(record, capsys):
    assert main(["replay", str(record)]) == Exit.MISSING
    assert capsys.readouterr().err == "refute: no server is named: expected --endpoint URL\n"


def test_a_counterexample_is_run_again_at_an_endpoint(url, record, capsys):
    assert main(["replay", str(record), "--endpoint", url]) == Exit.OK
    said = capsys.readouterr().out
    assert f"{CONTRACT}/{CLAIM} on the model at {url}\n" in said
    assert "note  the record is of another model: other\n" in said


def test_a_replay_asks_for_the_name_too(record, capsys):
    with serving({"/v1/models": listing("a", "other")}) as several:
        assert main(["replay", str(record), "--endpoint", several]) == Exit.USAGE
        assert "expected --model-name with one of a, other" in capsys.readouterr().err
        assert main(["replay", str(record), "--endpoint", several, "--target", "fake"]) == Exit.USAGE
        assert "--endpoint is attacked as openai, not as fake" in capsys.readouterr().err

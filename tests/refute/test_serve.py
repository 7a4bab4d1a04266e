"""`refute serve`, in a process: where it listens, what it refuses to start with, how it ends."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from live_server import ask, chat, completion, events, next_event, told

from refute.cli import main
from refute.verdict import Exit

COMMAND = [sys.executable, "-c", "import sys; from refute.cli import main; sys.exit(main())", "serve"]

LONG = completion(temperature=0, max_tokens=2000, stream=True)  # its answer uses all of them


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)


@contextmanager
def served(*arguments):
    """Start the command on a free port; yields the process, its port and its first line."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            yield process, int(re.match(r"listening on http://[\d.]+:(\d+), loading ", line)[1])
        finally:
            process.kill()


def test_it_serves_until_it_is_told_to_end():
    with served() as (process, port):
        assert process.stdout.readline() == "ready to serve pocket\n"
        assert told(port, "/health") == (200, {"status": "ok"})
        status, answer = told(port, "/v1/chat/completions", chat(max_tokens=3))
        assert (status, answer["usage"]["completion_tokens"]) == (200, 3)
        with ask(port, "/v1/completions", LONG | {"max_tokens": 300}) as response:
            assert next_event(response)
            process.send_signal(signal.SIGTERM)
            assert events(response)[-1] == "[DONE]"
        assert process.wait(60) == Exit.OK
        assert process.stderr.read() == ""


def test_a_second_signal_does_not_let_answers_finish():
    with served() as (process, port):
        assert process.stdout.readline() == "ready to serve pocket\n"
        with ask(port, "/v1/completions", LONG) as response:
            assert next_event(response)
            process.send_signal(signal.SIGINT)
            while told(port, "/health")[0] == 200:
                pass
            process.send_signal(signal.SIGINT)
            assert events(response)[-1]["error"]["code"] == "shutting_down"
        assert process.wait(60) == Exit.OK


def test_a_key_is_asked_for(monkeypatch):
    monkeypatch.setenv("SERVE_KEY", "s3cret")
    with served("--api-key-env", "SERVE_KEY") as (process, port):
        assert process.stdout.readline()
        assert told(port, "/v1/models")[0] == 401
        assert told(port, "/v1/models", Authorization="Bearer s3cret")[0] == 200


def test_an_address_that_others_reach_is_warned_of_where_no_key_is_asked_for():
    with served("--host", "0.0.0.0") as (process, _):
        assert "without a key" in process.stdout.readline()
    with served("--host", "0.0.0.0", "--api-key", "k") as (process, _):
        assert process.stdout.readline() == "ready to serve pocket\n"


def test_a_file_that_is_no_model_ends_it_with_a_sentence(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"no model")
    ended = subprocess.run(
        [*COMMAND, "--port=0", f"--model={tmp_path / 'a.gguf'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == Exit.MISSING
    assert ended.stderr.startswith(f"refute: {tmp_path / 'a.gguf'}")
    assert ended.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install():
    without = "import sys; sys.modules['uvicorn'] = None; from refute.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", without, "serve"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == Exit.MISSING
    assert ended.stderr == "refute: serving needs uvicorn; install it with: pip install 'refute[serve]'\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "nofile"], Exit.MISSING, "nofile: no such model file"),
        (["--api-key", " "], Exit.USAGE, "--api-key: the key is empty"),
        (["--api-key-env", "UNSET_KEY"], Exit.USAGE, "--api-key-env UNSET_KEY: the key is empty"),
        (["--host", "203.0.113.1"], Exit.USAGE, "cannot listen on 203.0.113.1, port 0: "),
        (["--host", "no host"], Exit.USAGE, "cannot listen on no host, port 0: "),
        (["--port", "65536"], Exit.USAGE, "argument --port: "),
    ],
)
def test_what_it_cannot_start_with_is_one_sentence(capsys, monkeypatch, arguments, code, said):
    monkeypatch.delenv("UNSET_KEY", raising=False)
    try:
        ended = main(["serve", "--port", "0", *arguments])
    except SystemExit as error:
        ended = error.code
    told_error = capsys.readouterr().err
    assert ended == code
    assert said in told_error
    assert told_error.count("\n") == 1


@pytest.mark.parametrize("option", ["--port", "--active", "--queue", "--memory", "--max-body", "--timeout"])
@pytest.mark.parametrize("value", ["-1", "x", "1.5", "9999999999"])
def test_limits_are_whole_numbers(capsys, option, value):
    with pytest.raises(SystemExit) as ended:
        main(["serve", option, value])
    assert ended.value.code == Exit.USAGE
    assert f"argument {option}: " in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"refute: cannot listen on 127.0.0.1, port {port}: ")

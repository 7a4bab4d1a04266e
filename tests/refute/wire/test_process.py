"""Servers in processes of their own: when they are ready, why they are not, and that none is left over."""

import gc
import re
import signal
import socket
import subprocess
import sys

import pytest

from refute.targets.base import TargetError
from refute.wire import process
from refute.wire.child import environment
from refute.wire.process import ServerProcess

READY = r"listening on (?P<url>http://\S+)"
PATIENCE = 60  # seconds until a test gives up; no measure of anything
# Serves nothing, but holds a connection: whoever made it sees when this process ends.
LISTENS = """
import os, signal, socket, sys
{before}
with socket.create_server(("127.0.0.1", 0)) as listening:
    print(f"listening on http://127.0.0.1:{{listening.getsockname()[1]}}")
    held, _ = listening.accept()
    held.sendall(b"x")
    signal.pause()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that children find; its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source):
        (tmp_path / "a_server.py").write_text(source)
        return "a_server"

    return write


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    real, found = subprocess.Popen, []

    def popen(*arguments, **options):
        found.append(real(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(process.subprocess, "Popen", popen)
    return found


def connected(url):
    """A connection that the server has taken."""
    host, port = re.fullmatch(r"http://(.+):(\d+)", url).groups()
    connection = socket.create_connection((host, int(port)), PATIENCE)
    assert connection.recv(1) == b"x"
    return connection


def test_it_is_ready_when_it_says_so_and_ends_when_it_is_closed(module, started) -> None:
    server = ServerProcess(module(LISTENS.format(before="")), [], READY)
    with connected(server.told["url"]) as connection:
        assert started[0].poll() is None
        server.close()
        assert connection.recv(1) == b""
        assert started[0].returncode == -signal.SIGTERM
        server.close()


def test_the_module_gets_its_arguments_and_no_input(module) -> None:
    source = "import sys; print('got', sys.argv[1:], __name__, sys.stdin.read(), file=sys.stderr)"
    with pytest.raises(TargetError, match=r"got \['--port', '0'\] __main__$"):
        ServerProcess(module(source), ["--port", "0"], READY)


def test_one_that_nobody_holds_any_more_ends(module, started) -> None:
    server = ServerProcess(module(LISTENS.format(before="")), [], READY)
    with connected(server.told["url"]) as connection:
        del server
        gc.collect()
        assert connection.recv(1) == b""
    assert started[0].returncode == -signal.SIGTERM


def test_one_that_does_not_end_is_killed(module, started, monkeypatch) -> None:
    monkeypatch.setattr(process, "_PATIENCE", 0.1)
    source = LISTENS.format(before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    server = ServerProcess(module(source), [], READY)
    server.close()
    assert started[0].returncode == -signal.SIGKILL


def test_one_that_ends_at_once_says_why(module) -> None:
    with pytest.raises(TargetError) as failed:
        ServerProcess(module("print('one'); raise SystemExit('no such model')"), [], READY)
    assert str(failed.value) == ("the server a_server ended with exit status 1; it said: one / no such model")


def test_of_many_lines_the_last_ones_are_told(module) -> None:
    with pytest.raises(TargetError) as failed:
        ServerProcess(module("print(*range(100), sep='\\n'); raise SystemExit(3)"), [], READY)
    assert str(failed.value).endswith("exit status 3; it said: 95 / 96 / 97 / 98 / 99")


def test_one_that_says_nothing_is_told_so(module) -> None:
    with pytest.raises(TargetError, match="ended with exit status 0; it said nothing"):
        ServerProcess(module(""), [], READY)


def test_one_that_is_not_ready_in_time_is_ended(module, started) -> None:
    with pytest.raises(TargetError, match="was not ready within 0 s"):
        ServerProcess(module("import time; time.sleep(3600)"), [], READY, seconds=0)
    assert started[0].returncode is not None


def test_what_it_says_never_holds_it_up(module) -> None:
    """Far more than a pipe holds, before it is ready and after."""
    noise = "for _ in range(20_000): print('noise' * 10, file=sys.stderr)"
    source = LISTENS.format(before=noise).replace("    held.send", f"    {noise}\n    held.send")
    server = ServerProcess(module(source), [], READY)
    connected(server.told["url"]).close()
    server.close()


def test_it_does_not_outlive_one_that_is_killed(module) -> None:
    """The harness is a process here: after SIGKILL it can tell nobody anything."""
    name = module(LISTENS.format(before=""))
    harness = (
        "import signal\n"
        "from refute.wire.process import ServerProcess\n"
        f"server = ServerProcess({name!r}, [], {READY!r})\n"
        "print(server.told['url'], flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", harness], stdout=subprocess.PIPE, text=True, env=environment()
    ) as killed:
        try:
            connection = connected(killed.stdout.readline().strip())
        finally:
            killed.kill()
        with connection:
            assert connection.recv(1) == b""


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TargetError, match="No module named nowhere"):
        ServerProcess("nowhere", [], READY)

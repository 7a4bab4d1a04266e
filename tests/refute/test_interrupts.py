"""Ctrl-C and SIGTERM: the first seals the records of a run, the second ends it at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_contract import contract, falsifier
from waiting import until

from refute import interrupts
from refute.interrupts import Interrupts, obeying, unbroken
from refute.reader import read_runs
from refute.verdict import Exit

NO_LINE = "def pytest_keyboard_interrupt(): raise TypeError('no line')"
STUCK = """
import pathlib, pytest, time

@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt():
    pathlib.Path('stuck').touch()
    time.sleep(600)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a contract that takes a while, and temporary files of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "side"))
    (tmp_path / "side").mkdir()
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts/small-v1.yaml").write_text(
        contract(*(falsifier(f"repeats-{n}") for n in range(200)))
    )
    return tmp_path


def started(*arguments):
    """A run that has found something already, in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "refute", "run", "--target=fake", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until(Path(), "evidence/*/*/repeats-1.json", process)
    return process


def ended(process):
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode


@pytest.mark.parametrize(
    ("number", "conftest"), [(signal.SIGINT, NO_LINE), (signal.SIGTERM, "")], ids=["SIGINT", "SIGTERM"]
)
def test_the_first_seals_the_record(project, number, conftest):
    """Also where pytest fails at it, as it does where an interrupt comes between two lines of Python."""
    (project / "conftest.py").write_text(conftest)
    process = started()
    process.send_signal(number)
    assert ended(process) == Exit.INTERRUPTED
    (run,) = read_runs(project / "evidence")
    assert (run.summary["state"], run.problems) == ("interrupted", ())
    assert 2 <= len(run.records) < 200


def test_it_says_how_to_go_on(project):
    process = started("--json", "--evidence", "evidence")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.endswith(b"interrupted; to go on: refute run --evidence evidence --resume\n")


def test_on_a_terminal_it_reaches_the_workers_too_and_leaves_nothing(project):
    process = started("-n", "2")
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process) == Exit.INTERRUPTED
    (run,) = read_runs(project / "evidence")
    assert (run.summary["state"], run.problems) == ("interrupted", ())
    assert not list((project / "side").glob("refute-*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_second_one_ends_workers_and_run_at_once_and_leaves_a_readable_record(project):
    (project / "conftest.py").write_text(STUCK)
    process = started("-n", "2")
    process.send_signal(signal.SIGINT)
    until(Path(), "stuck", process)
    process.send_signal(signal.SIGINT)
    assert ended(process) == Exit.INTERRUPTED
    assert json.loads(next(project.glob("evidence/*/*/findings.json")).read_text())["state"] == "running"
    (run,) = read_runs(project / "evidence")
    assert (run.state, run.problems) == ("interrupted", ())
    assert not list((project / "side").glob("refute-room-*"))


def test_one_that_python_swallowed_is_found_by_who_asks():
    said = []
    asked = Interrupts(said.append)
    asked.check()
    with asked.answered():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            assert len(said) == 1
    assert asked.came
    with pytest.raises(KeyboardInterrupt):
        asked.check()


class Ended(BaseException):
    pass


@pytest.fixture
def ends(monkeypatch):
    """The end of the process as an exception, and SIGINT answered as Python does, also in the background."""

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(interrupts.os, "_exit", end)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_one_abandons_even_where_that_fails(ends):
    asked = Interrupts(lambda sentence: None, abandon=lambda: 1 / 0)
    with asked.answered():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Ended, match="130"):
            signal.raise_signal(signal.SIGINT)


def test_what_is_unbroken_is_done_before_the_interrupt():
    done = []
    asked = Interrupts(lambda sentence: done.append("interrupt"))

    def record():
        with asked.answered(), unbroken():
            signal.raise_signal(signal.SIGTERM)
            done.append("record")

    with pytest.raises(KeyboardInterrupt):
        record()
    assert done == ["record", "interrupt"]


def test_what_is_stuck_unbroken_is_ended_by_a_second_one(ends):
    def stuck():
        with unbroken():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Ended, match="130"):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        stuck()


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in interrupts.SIGNALS]
    with Interrupts(print).answered(), unbroken():
        pass
    assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before


@pytest.mark.parametrize(
    ("number", "controller", "ends"),
    [
        (signal.SIGINT, os.getppid(), False),
        (signal.SIGINT, -1, True),
        (signal.SIGTERM, os.getppid(), True),
    ],
)
def test_a_worker_obeys_its_controller_as_long_as_there_is_one(number, controller, ends):
    with obeying(controller):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            assert ends
        else:
            assert not ends

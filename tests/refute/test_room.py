"""Whoever measures times is alone: real processes, and what each saw of the others."""

import fcntl
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from refute.room import Room, tell_workers

WORKER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from refute.room import Room

    room = Room.of(Path(sys.argv[1]))
    with room:
        print("in", flush=True)
        for line in sys.stdin:
            if line == "pass\\n":
                room.pass_by()
                print("passed", flush=True)
            elif line == "alone\\n":
                with room.to_oneself():
                    print("alone", flush=True)
                    sys.stdin.readline()
                print("shared", flush=True)
    """
)


class Worker:
    heard = threading.Condition()

    def __init__(self, folder):
        command = [sys.executable, "-c", WORKER, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.heard:
                self.lines.append(line.strip())
                self.heard.notify_all()

    def tell(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def hears(self, text):
        with self.heard:
            return self.heard.wait_for(lambda: text in self.lines, timeout=20)


@pytest.fixture
def workers(tmp_path):
    made = [Worker(tmp_path), Worker(tmp_path)]
    assert all(worker.hears("in") for worker in made)
    yield made
    for worker in made:
        worker.process.kill()
        worker.process.communicate()


def barred(folder):
    """Wait until a worker holds the door."""
    with (folder / "door").open("rb") as door:
        for _ in range(2000):
            try:
                fcntl.flock(door, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(door, fcntl.LOCK_UN)
            time.sleep(0.01)
    return False


def test_all_may_be_in_at_once_and_pass_by(workers):
    for worker in workers:
        worker.tell("pass")
    assert all(worker.hears("passed") for worker in workers)


def test_one_is_alone_once_the_other_is_between_two_cases(workers, tmp_path):
    one, other = workers
    one.tell("alone")
    assert barred(tmp_path)
    assert one.lines == ["in"]  # the other is at a case
    other.tell("pass")
    assert one.hears("alone")
    assert "passed" not in other.lines
    one.tell("done")
    assert other.hears("passed")
    assert one.hears("shared")


def test_nobody_new_comes_in_before_the_one_who_waits(workers, tmp_path):
    one, other = workers
    one.tell("alone")
    assert barred(tmp_path)
    third = Worker(tmp_path)
    other.tell("pass")
    assert one.hears("alone")
    assert third.lines == []
    one.tell("done")
    assert third.hears("in")
    third.process.kill()
    third.process.communicate()


def test_two_are_alone_one_after_the_other(workers, tmp_path):
    for worker in workers:
        worker.tell("alone")
    with Worker.heard:
        assert Worker.heard.wait_for(lambda: any("alone" in each.lines for each in workers), timeout=20)
        first, second = sorted(workers, key=lambda worker: "alone" not in worker.lines)
        assert "alone" not in second.lines
    first.tell("done")
    assert first.hears("shared")
    assert barred(tmp_path)  # by the second: only then the first does not come in again before it
    first.tell("pass")
    assert second.hears("alone")


def test_a_worker_that_dies_alone_lets_the_others_in(workers, tmp_path):
    one, other = workers
    one.tell("alone")
    assert barred(tmp_path)
    other.tell("pass")
    assert one.hears("alone")
    one.process.kill()
    assert other.hears("passed")
    other.tell("alone")
    assert other.hears("alone")


def test_a_worker_that_dies_at_a_case_keeps_nobody_waiting(workers, tmp_path):
    one, other = workers
    other.tell("alone")
    assert barred(tmp_path)
    one.process.kill()
    assert other.hears("alone")


def test_who_is_done_keeps_nobody_out(tmp_path):
    one, other = Room.of(tmp_path), Room.of(tmp_path)
    with one:
        pass
    with other, other.to_oneself():
        assert other.alone
    assert not other.alone


def test_a_worker_without_a_controller_ends_between_two_cases(tmp_path):
    room = Room.of(tmp_path)
    with room:
        room.pass_by()
        room.parent = -1
        with pytest.raises(KeyboardInterrupt):
            room.pass_by()


def test_the_workers_that_live_are_told(workers, tmp_path):
    workers[0].process.kill()
    workers[0].process.wait()
    tell_workers(tmp_path, signal.SIGTERM)
    assert workers[1].process.wait(timeout=20) == -signal.SIGTERM

"""Folders on the side: gone at the end, and after a kill with the next one."""

import os
import subprocess
import sys

import pytest

from refute.scratch import held, hold, scratch, sweep

HOLDER = """
import sys
from refute.scratch import scratch

with scratch("test") as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def side(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def holder(side, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(side))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip().startswith(f"{side}/refute-test-")
    yield process
    process.kill()
    process.communicate()


def test_a_folder_is_gone_at_the_end_also_with_what_was_put_in_it(side):
    with scratch("test") as folder:
        (folder / "model.gguf").write_text("large")
    assert not list(side.iterdir())


def test_that_of_a_living_process_stays(side, holder):
    sweep()
    assert len(list(side.iterdir())) == 1


def test_that_of_a_killed_process_goes_with_the_next(side, holder):
    holder.kill()
    holder.wait()
    assert len(list(side.iterdir())) == 1
    with scratch("other") as folder:
        assert list(side.iterdir()) == [folder]


def test_what_is_not_ours_stays(side):
    (side / "refute-notes-of-mine").mkdir()
    (side / "refute-a-file").touch()
    (side / "refute-a-link").symlink_to(side / "refute-notes-of-mine")
    sweep()
    assert len(list(side.iterdir())) == 3


def test_held_until_it_is_closed(side):
    descriptor = hold(side / "file")
    assert held(side / "file")
    os.close(descriptor)
    assert not held(side / "file")

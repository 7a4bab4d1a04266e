"""What Linux says of this process's memory, and what a new process says of its own."""

import numpy as np
import pytest
from tiny_gguf import write_tiny

from refute.faults.base import Fault
from refute.targets import fresh, resident
from refute.targets.base import Request, TargetError

ARRAY = {"backend": "array", "device": "cpu"}
MIB = 2**20
pytestmark = pytest.mark.skipif(not resident.readable(), reason="needs /proc/self/smaps_rollup")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("fresh") / "tiny.gguf")


def test_what_is_written_is_held_and_what_is_dropped_is_not() -> None:
    before = resident.held()
    block = np.ones(16 * MIB, np.uint8)
    assert resident.held() - before == pytest.approx(16 * MIB, abs=MIB)
    del block
    assert resident.held() - before == pytest.approx(0, abs=MIB)


def test_pages_of_a_mapped_file_are_not_held(tmp_path) -> None:
    (tmp_path / "block").write_bytes(b"\1" * (16 * MIB))
    before = resident.held()
    mapped = np.memmap(tmp_path / "block", np.uint8, "r")
    assert mapped.sum() == 16 * MIB
    assert resident.held() - before == pytest.approx(0, abs=MIB)


def test_a_system_without_these_files_is_not_readable(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(resident, "_ROLLUP", tmp_path / "missing")
    assert not resident.readable()


def test_a_new_process_says_what_it_took(path) -> None:
    peak = fresh.measure(path, ARRAY, Request((1, 2, 3), 2), None, seconds=60)
    assert 0 < peak.anonymous_before <= peak.anonymous_after
    assert peak.peak >= peak.anonymous_after
    assert peak.file_after > 0


def test_a_fault_of_the_target_is_planted_in_the_new_process(path) -> None:
    request = Request((1, 2, 3), 2)
    honest = fresh.measure(path, ARRAY, request, None, seconds=60)
    faulty = fresh.measure(path, ARRAY, request, Fault("weights-twice", 100.0), seconds=60)
    assert faulty.peak - honest.peak > 10 * MIB  # a tiny model has about 0.2 MiB of weights


@pytest.mark.parametrize(
    ("request_", "seconds", "sentence"),
    [
        (Request((1,), 10**4), 60, "failed: a prompt of 1 tokens"),
        (Request((1,), 1), 0.001, "took longer than 0.001 s"),
    ],
)
def test_a_process_that_fails_or_hangs_is_a_sentence(path, request_, seconds, sentence) -> None:
    with pytest.raises(TargetError, match=sentence):
        fresh.measure(path, ARRAY, request_, None, seconds=seconds)


def test_a_file_that_is_gone_is_a_sentence(tmp_path) -> None:
    with pytest.raises(TargetError, match=r"gone\.gguf"):
        fresh.measure(tmp_path / "gone.gguf", ARRAY, Request((1,), 1), None, seconds=60)

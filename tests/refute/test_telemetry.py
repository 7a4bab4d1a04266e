"""Lines about the host, from a run's opening to its seal: more of them while its claims are attacked."""

import json
import threading
import time

import pytest
from fake_nvml import FakeNvml
from records import opened, run_id

from refute import telemetry
from refute.gpus import Gpus
from refute.reader import read_run, schema_faults
from refute.telemetry import Host, Telemetry


def lines(run):
    return [json.loads(line) for line in (run / "telemetry.jsonl").read_text().splitlines()]


def test_a_sample_fits_the_schema():
    host = Host(Gpus.open(FakeNvml(2)))
    for _ in range(2):
        line = {"t_ns": 0, "at": "2026-11-24T00:00:00.000Z", **host.sample()}
        assert list(schema_faults(line, "telemetry")) == []
    assert len(line["gpus"]) == 2


def test_the_processors_share_is_that_since_the_sample_before(tmp_path):
    host = Host(proc=tmp_path)
    (tmp_path / "stat").write_text("cpu  10 0 10 70 10 0 0 0 0 0\n")
    assert host.sample()["cpu_percent"] is None
    (tmp_path / "stat").write_text("cpu  40 0 20 130 10 0 0 0 0 0\n")
    assert host.sample()["cpu_percent"] == 40.0
    assert host.sample()["cpu_percent"] is None  # no tick has passed


def test_what_a_system_does_not_tell_is_null(tmp_path):
    sample = Host(proc=tmp_path / "none").sample()
    assert (sample["cpu_percent"], sample["rss_bytes"], sample["available_bytes"]) == (None, None, None)


def test_processes_below_this_one_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry.os, "getpid", lambda: 1)
    for pid, pages, children in ((1, 10, "2 3 "), (2, 20, ""), (3, 30, "4")):  # 4 is gone already
        (tmp_path / f"{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"{pid}/statm").write_text(f"100 {pages} 5 1 0 9 0\n")
        (tmp_path / f"{pid}/task/{pid}/children").write_text(children)
    assert Host(proc=tmp_path).sample()["rss_bytes"] == 60 * telemetry._PAGE


def test_the_lines_of_every_open_run_span_it(tree, contract):
    writers = [opened(tree, contract, run=run_id(number)) for number in (1, 2)]
    began = {writer.path: time.monotonic_ns() for writer in writers}
    running = Telemetry.started(began, Host())
    running.stop()
    for writer in writers:
        first, last = lines(writer.path)
        assert 0 <= first["t_ns"] < last["t_ns"]
        assert first["at"] <= last["at"]
        writer.seal()
        run = read_run(writer.path)
        assert run.problems == ()
        assert {each["file"]: each.get("rows") for each in run.summary["files"]}["telemetry.jsonl"] == 2


def test_it_goes_on_until_it_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry, "_PERIOD", 0.001)
    enough = threading.Event()

    class Counted(Host):
        taken = 0

        def sample(self):
            Counted.taken += 1
            if Counted.taken >= 5:
                enough.set()
            return super().sample()

    running = Telemetry.started({tmp_path: 0}, Counted())
    running.attacked(tmp_path)
    assert enough.wait(20)
    thread = running._thread
    running.stop()
    count = len(lines(tmp_path))
    assert count == Counted.taken >= 6
    assert not thread.is_alive()


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Telemetry of two runs, whose thread does nothing, and its clock."""
    clock = [1_000 * 10**9]
    monkeypatch.setattr(telemetry.time, "monotonic_ns", lambda: clock[0])
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        run.mkdir()
    watching = Telemetry(Host(), dict.fromkeys(runs, 0))
    watching.take()
    return watching, runs, clock


def test_a_run_whose_claims_are_attacked_lacks_a_line_each_second_and_others_one_a_minute(two):
    watching, (a, b), clock = two
    watching.attacked(a)
    clock[0] += 10**9
    assert watching.due() == [a]
    clock[0] += 59 * 10**9
    assert watching.due() == [a, b]
    watching.take([a, b])
    watching.rested(a)
    assert watching.due() == []
    clock[0] += 60 * 10**9
    assert watching.due() == [a, b]


def test_an_attack_has_a_line_at_its_beginning_and_its_end(two):
    watching, (a, b), clock = two
    for note in (watching.attacked, watching.rested):
        clock[0] += 10**8
        note(a)
    assert [line["t_ns"] - 1_000 * 10**9 for line in lines(a)] == [0, 10**8, 2 * 10**8]
    assert len(lines(b)) == 1


def test_attacks_of_several_workers_are_counted(two):
    watching, (a, _), _ = two
    watching.attacked(a)
    watching.attacked(a)
    watching.rested(a)
    assert watching.due() == [a]
    watching.rested(a)
    assert watching.due() == []


def test_a_folder_that_is_gone_stops_nothing(tmp_path):
    running = Telemetry.started({tmp_path / "gone": 0, tmp_path: 0}, Host())
    running.stop()
    assert len(lines(tmp_path)) == 2


def test_the_driver_s_library_is_let_go(tmp_path):
    nvml = FakeNvml()
    Telemetry.started({tmp_path: 0}, Host(Gpus.open(nvml))).stop()
    assert not nvml.open


@pytest.mark.parametrize("name", ["t_ns", "gpus"])
def test_a_line_without_something_does_not_fit_the_schema(name):
    line = {"t_ns": 0, "at": "2026-11-24T00:00:00.000Z", **Host().sample()}
    del line[name]
    assert list(schema_faults(line, "telemetry"))

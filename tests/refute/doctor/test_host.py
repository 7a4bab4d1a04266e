"""The host as its files tell of it, and where records go."""

import subprocess
from pathlib import Path

import pytest

from refute.doctor import host
from refute.doctor.host import (
    look_at_disk,
    look_at_git,
    look_at_host,
    look_at_memory,
    look_at_noise,
    look_at_python,
)
from refute.doctor.model import Needs
from refute.finding import Probe

GIB = 2**30


@pytest.fixture
def root(tmp_path):
    """A host of files: 8 GiB free, 4 cores, idle."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    write(tmp_path, "proc/loadavg", "0.10 0.10 0.10 1/100 100\n")
    write(tmp_path, "proc/cpuinfo", "model name : A Processor\n")
    return tmp_path


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(checks, name):
    return next(check for check in checks if check.name == name)


@pytest.mark.parametrize(
    ("held", "file", "gpu", "state"),
    [
        (GIB, GIB, False, "ok"),
        (GIB, 18 * GIB, False, "warn"),
        (9 * GIB, GIB, False, "fail"),
        (90 * GIB, GIB, True, "ok"),
    ],
)
def test_memory(root, held, file, gpu, state):
    (check,) = look_at_memory(Needs(held, file, gpu), root)
    assert check.state == state
    assert bool(check.fix) == (state != "ok")


def test_where_nothing_tells_what_is_free_it_is_a_warning(tmp_path):
    (check,) = look_at_memory(Needs(GIB, GIB, gpu=False), tmp_path)
    assert (check.state, "does not tell" in check.found) == ("warn", True)


def test_an_idle_host_is_ok(root):
    assert {check.state for check in look_at_host(root)} == {"ok"}


@pytest.mark.parametrize(
    ("file", "text", "name"),
    [
        ("sys/fs/cgroup/cpu.max", "50000 100000\n", "processors"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n", "clocks"),
        ("proc/loadavg", "900.0 1 1 1/1 1\n", "load"),
    ],
)
def test_what_makes_times_uneven_is_a_warning_with_a_fix(root, file, text, name):
    write(root, file, text)
    check = found(look_at_host(root), name)
    assert check.state == "warn"
    assert check.fix


def test_noise_is_held_against_the_bounds_of_the_records(monkeypatch):
    quiet = Probe((2_000_000,) * 40, (2_000_000,) * 40, (100_000,) * 20, None)
    noisy = Probe((20_000_000,) * 40, (2_000_000,) * 40, (100_000,) * 20, None)
    for probe, state in ((quiet, "ok"), (noisy, "warn")):
        monkeypatch.setattr("refute.noise.before", lambda probe=probe: probe)
        (check,) = look_at_noise()
        assert check.state == state


def test_a_tree_that_cannot_be_written_fails(tmp_path):
    (tmp_path / "file").touch()
    (check,) = look_at_disk(tmp_path / "file/evidence", None)
    assert (check.state, "is no folder" in check.found) == ("fail", True)


def test_a_full_disk_fails_for_records_and_warns_for_faults(tmp_path, monkeypatch):
    usage = host.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    checks = list(look_at_disk(tmp_path / "evidence", Needs(1, GIB, gpu=False)))
    assert found(checks, "evidence").state == "ok"
    assert found(checks, "disk for evidence").state == "fail"
    assert found(checks, "disk for faults").state == "warn"


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(host, "_installed", lambda module: False)
    check = found(look_at_python(), "extras")
    assert (check.state, "pip install 'refute[serve]'" in check.fix) == ("warn", True)


def test_git_clean_dirty_and_none(tmp_path):
    assert next(iter(look_at_git(tmp_path))).state == "warn"
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", *identity, "-C", tmp_path, "commit", "-qm", "x", "--allow-empty"], check=True)
    assert next(iter(look_at_git(tmp_path))).state == "ok"
    (tmp_path / "new").touch()
    check = next(iter(look_at_git(tmp_path)))
    assert (check.state, "uncommitted" in check.found) == ("warn", True)
    (tmp_path / "new").rename(tmp_path / "evidence")
    assert next(iter(look_at_git(tmp_path, Path("evidence")))).state == "ok"

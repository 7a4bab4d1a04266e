"""Facts of a host: a value and where it was read, or null and why there is none."""

import pytest

from refute import host
from refute.host import facts

CPUINFO = "model name\t: Chip 9000\nflags\t\t: fpu hypervisor sse\n"


@pytest.fixture
def root(tmp_path):
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/cpuinfo", CPUINFO)
    write("proc/meminfo", "MemTotal:       16303720 kB\nMemFree: 1 kB\n")
    write("proc/1/cgroup", "0::/kubepods/pod1\n")
    write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    write("sys/fs/cgroup/memory.max", "max\n")
    write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n")
    write("sys/class/dmi/id/sys_vendor", "QEMU\n")
    write("sys/class/dmi/id/product_name", "Standard PC\n")
    write("proc/driver/nvidia/gpus/0000:01/information", "Model: \t\t H200\nGPU UUID:\t GPU-1\n")
    return tmp_path


def test_facts_are_read_from_the_system(root):
    known = {name: (entry["value"], entry["source"]) for name, entry in facts(root).items()}
    assert known["cpu_model"] == ("Chip 9000", "/proc/cpuinfo")
    assert known["memory_bytes"] == (16303720 * 1024, "/proc/meminfo")
    assert known["cpu_quota"] == (1.5, "/sys/fs/cgroup/cpu.max")
    assert known["memory_limit_bytes"] == (None, "/sys/fs/cgroup/memory.max: no limit")
    assert known["governor"][0] == "performance, powersave"
    assert known["virtualization"][0] == "QEMU Standard PC"
    assert known["container"] == ("kubepods", "/proc/1/cgroup")
    (gpu,) = known["gpus"][0]
    assert (gpu["name"], gpu["uuid"], gpu["power_limit_w"]) == ("H200", "GPU-1", None)


def test_what_is_not_there_is_null_and_says_why(tmp_path):
    known = facts(tmp_path)
    for name in (
        "memory_bytes",
        "cpu_quota",
        "memory_limit_bytes",
        "governor",
        "virtualization",
        "container",
    ):
        assert known[name]["value"] is None
        assert known[name]["source"]
    assert known["gpus"]["value"] == []


def test_the_limits_are_those_of_the_own_group(root):
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("1:cpu:/old\n0::/user.slice/run\n")
    group = root / "sys/fs/cgroup/user.slice/run"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("50000 100000\n")
    known = facts(root)
    assert known["cpu_quota"] == {"value": 0.5, "source": "/sys/fs/cgroup/user.slice/run/cpu.max"}
    assert known["memory_limit_bytes"]["source"] == "/sys/fs/cgroup/memory.max: no limit"


def test_nonsense_is_null(root):
    (root / "sys/fs/cgroup/cpu.max").write_text("many 0\n")
    assert facts(root)["cpu_quota"] == {
        "value": None,
        "source": "/sys/fs/cgroup/cpu.max cannot be understood",
    }


def test_the_testbed_is_what_speed_rests_on(root):
    known = facts(root)
    same = host.testbed(known)
    for name in ("kernel", "container", "governor"):
        assert host.testbed({**known, name: {"value": "other", "source": ""}}) == same
    for name, value in (
        ("cpu_model", "x"),
        ("logical_cpus", 99),
        ("cores_usable", 1),
        ("memory_bytes", 2**30),
    ):
        assert host.testbed({**known, name: {"value": value, "source": ""}}) != same
    assert host.testbed({**known, "gpus": {"value": [], "source": ""}}) != same

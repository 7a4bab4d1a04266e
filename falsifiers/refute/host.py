"""What this host is, as facts: each a value and where it was read; null, and why, where it is not known."""

import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rfc8785

from refute.gpus import described

Fact = dict[str, Any]

_CGROUP = "/sys/fs/cgroup"
_CPUINFO, _MEMINFO = "/proc/cpuinfo", "/proc/meminfo"
_GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_DMI = "/sys/class/dmi/id"
_SIGNS_OF_CONTAINERS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}


def facts(root: Path = Path("/")) -> dict[str, Fact]:
    """Return what is known of this host. root: where its files are, for tests."""
    usable = getattr(os, "sched_getaffinity", None)
    gpus, source = described(root)
    return {
        "system": fact(platform.system(), "uname"),
        "kernel": fact(platform.release(), "uname"),
        "machine": fact(platform.machine(), "uname"),
        "cpu_model": _cpu_model(root),
        "logical_cpus": fact(os.cpu_count(), "os.cpu_count"),
        "cores_usable": fact(
            len(usable(0)) if usable else None,
            "sched_getaffinity" if usable else "this system has no sched_getaffinity",
        ),
        "cpu_quota": _limit(root, "cpu.max", _cores),
        "governor": _governor(root),
        "memory_bytes": _memory(root),
        "memory_limit_bytes": _limit(root, "memory.max", lambda text: int(text.split()[0])),
        "gpus": fact(gpus, source),
        "virtualization": _virtualization(root),
        "container": _container(root),
    }


def fact(value: Any, source: str) -> Fact:
    """One fact. source: where the value was read; of null, why there is none."""
    return {"value": value, "source": source}


def testbed(known: Mapping[str, Fact]) -> str:
    """Return the fingerprint of a host: sha256 of the RFC 8785 form of what its speed rests on."""
    import hashlib  # noqa: PLC0415 (start-up time)

    value = {name: entry["value"] for name, entry in known.items()}
    memory = value["memory_bytes"]
    rests_on = {
        **{key: value[key] for key in ("cpu_model", "logical_cpus", "cores_usable", "cpu_quota")},
        # Kernels keep a little of it for themselves, one more than another.
        "memory_gib": None if memory is None else round(memory / 2**30),
        "gpus": [gpu["name"] for gpu in value["gpus"] or []],
    }
    return hashlib.sha256(rfc8785.dumps(rests_on)).hexdigest()


def boot_id() -> str | None:
    """Return what tells this start of the host from every other; None where there is no /proc."""
    return _read(Path("/proc/sys/kernel/random/boot_id")).strip() or None


def start_ticks(pid: int) -> int | None:
    """Return when a process began, in ticks since the host's start; None for one that is gone."""
    # Field 22 of stat; the name in field 2 may hold spaces and brackets, so count from its last one.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in ("Z", "X") else None


def _cpu_model(root: Path) -> Fact:
    found = _line(root, _CPUINFO, r"^model name\s*:\s*(.+)$")
    if found is not None:
        return fact(found.strip(), _CPUINFO)
    named = platform.processor()
    return fact(named, "uname") if named else fact(None, f"{_CPUINFO} names none")


def _memory(root: Path) -> Fact:
    found = meminfo("MemTotal", root)
    return fact(found, f"no MemTotal in {_MEMINFO}" if found is None else _MEMINFO)


def meminfo(name: str, root: Path = Path("/")) -> int | None:
    """Return one of the kernel's sizes of memory, in bytes; None where it does not tell."""
    found = _line(root, _MEMINFO, rf"^{name}:\s*(\d+) kB")
    return int(found) * 1024 if found else None


def _limit(root: Path, name: str, value: Callable[[str], float]) -> Fact:
    """A limit of this process's control group (version 2), where it has one."""
    group = _line(root, "/proc/self/cgroup", r"^0::(/.*)$") or "/"
    # In a container the group is told as the host sees it, and mounted as the root.
    paths = [f"{_CGROUP}{group.rstrip('/')}/{name}", f"{_CGROUP}/{name}"]
    path, text = next(((path, text) for path in paths if (text := _text(root, path))), (paths[-1], ""))
    if not text:
        return fact(None, f"{path} cannot be read")
    if text.startswith("max"):
        return fact(None, f"{path}: no limit")
    try:
        return fact(value(text), path)
    except (ValueError, IndexError, ZeroDivisionError):
        return fact(None, f"{path} cannot be understood")


def _cores(text: str) -> float:
    quota, period = text.split()
    return round(int(quota) / int(period), 3)


def _governor(root: Path) -> Fact:
    files = sorted(root.glob(_GOVERNORS.lstrip("/")))
    names = sorted({_read(file).strip() for file in files} - {""})
    return fact(", ".join(names), _GOVERNORS) if names else fact(None, f"no {_GOVERNORS}")


def _virtualization(root: Path) -> Fact:
    if re.search(r"^flags\s*:.*\bhypervisor\b", _text(root, _CPUINFO), re.MULTILINE) is None:
        return fact(None, f"no hypervisor flag in {_CPUINFO}")
    told = [_text(root, f"{_DMI}/{name}") for name in ("sys_vendor", "product_name")]
    named = " ".join(filter(None, told))
    return fact(named or "a hypervisor", f"{_DMI}" if named else f"the hypervisor flag in {_CPUINFO}")


def _container(root: Path) -> Fact:
    for path, name in _SIGNS_OF_CONTAINERS.items():
        if (root / path.lstrip("/")).exists():
            return fact(name, path)
    group = "/proc/1/cgroup"
    found = re.search(r"(kubepods|docker|containerd|lxc)", _text(root, group))
    if found:
        return fact(found[1], group)
    return fact(None, f"no sign of one in {', '.join([*_SIGNS_OF_CONTAINERS, group])}")


def _line(root: Path, path: str, pattern: str) -> str | None:
    found = re.search(pattern, _text(root, path), re.MULTILINE)
    return None if found is None else found[1]


def _text(root: Path, path: str) -> str:
    return _read(root / path.lstrip("/")).strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

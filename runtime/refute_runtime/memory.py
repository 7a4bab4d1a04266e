"""How much memory a process can still take, by what the system says."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_GROUPS = "sys/fs/cgroup"


def available(root: Path = Path("/")) -> tuple[int | None, str]:
    """Return the bytes that a new process can take, None where nothing tells, and what bounds them.

    root: where the host's files are, for tests.
    """
    free = _available(root)
    bounds = [] if free is None else [(free, "available on the host")]
    for group in _groups(root):
        try:
            limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
            cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
            left = max(limit - used + int(cached[1] if cached else 0), 0)
            bounds.append((left, "within the limit of the control group"))
        except (OSError, ValueError):
            continue  # no limit, or none that is told
    return min(bounds) if bounds else (None, "this system does not tell what is free")


def _available(root: Path) -> int | None:
    try:
        told = re.search(r"^MemAvailable:\s*(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
        return int(told[1]) * 1024 if told else None
    except OSError:
        pass
    try:  # elsewhere than on Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if root == Path("/") else None
    except (AttributeError, ValueError, OSError):
        return None


def _groups(root: Path) -> Iterator[Path]:
    """The control groups (version 2) that bound this process: its own one and those above it.

    In a container the group is told as the host sees it, and mounted as the root.
    """
    try:
        told = re.search(r"^0::/(.*)$", (root / "proc/self/cgroup").read_text(), re.MULTILINE)
    except OSError:
        told = None
    top = root / _GROUPS
    group = top / (told[1] if told else "")
    yield from (group, *(each for each in group.parents if each.is_relative_to(top)))

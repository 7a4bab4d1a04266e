"""Memory of this process as Linux counts it: what is anonymous, what is a mapped file, and the peak.

Pages of mapped files (model files, libraries) come and go with the system's cache, so they are told apart
from memory that the process asked for.
"""

import ctypes
import gc
from collections.abc import Iterable, Mapping
from pathlib import Path

_STATUS = Path("/proc/self/status")
_ROLLUP = Path("/proc/self/smaps_rollup")
_KIB = 1024


def readable() -> bool:
    """Whether this system says all that is asked here."""
    try:
        return {"Anonymous", "Swap"} <= _fields(_ROLLUP).keys() and {
            "RssAnon",
            "RssFile",
            "VmHWM",
        } <= _fields(_STATUS).keys()
    except OSError:
        return False


def held() -> int:
    """Bytes of anonymous memory in use, swapped out or not.

    Garbage is collected and free memory given back first: what the allocator keeps for later is not held.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    fields = _fields(_ROLLUP)  # counted page by page; the sums in `status` lag behind
    return fields["Anonymous"] + fields["Swap"]


def resident() -> tuple[int, int, int]:
    """Bytes of anonymous memory and of mapped files that are resident now, and the peak of their sum."""
    fields = _fields(_STATUS)
    return fields["RssAnon"], fields["RssFile"], fields["VmHWM"]


def _fields(path: Path) -> Mapping[str, int]:
    """`Name:  12 kB` lines as bytes."""
    return dict(_sizes(path.read_text(encoding="ascii", errors="replace").splitlines()))


def _sizes(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            yield name, int(number) * _KIB

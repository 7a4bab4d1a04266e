"""The host: memory, disk, processors, noise; Python and what is installed; where the records go."""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refute.doctor.base import Check, State
from refute.doctor.model import Needs
from refute.host import facts
from refute.provenance import git_state
from refute.report.words import counted, shown
from refute.units import format_bytes

_PYTHON = (3, 11)
_RUN = 64 * 2**20  # bytes that records of one run may take
_BUSY = 0.5  # of the processors
_PROCESS = 400 * 2**20  # bytes of Python, its libraries and the simulated engine
_EXTRAS = {
    "cpu": ("numba",),
    "serve": ("starlette", "uvicorn"),
    "peer": ("llama_cpp",),
    "cuda12 or cuda13": ("cupy",),
}


def look_at_host(root: Path = Path("/")) -> Iterator[Check]:
    """Processors, their clocks and how busy they are. root: where the host's files are, for tests."""
    known = {name: entry["value"] for name, entry in facts(root).items()}
    cores, quota = known["cores_usable"] or known["logical_cpus"], known["cpu_quota"]
    told = f"{known['cpu_model'] or 'unknown'}, {cores} of {known['logical_cpus']} cores usable"
    if quota is not None and cores is not None and quota < cores:
        yield Check(
            "processors",
            "warn",
            f"{told}, but a quota of {quota:g}: threads wait for each other, and times are not even",
            "raise the container's CPU limit to whole cores, or pin it to as many",
        )
    else:
        yield Check("processors", "ok", told)
    governor = known["governor"]
    if governor is not None and governor not in ("performance", "schedutil"):
        fix = "sudo cpupower frequency-set -g performance"
        yield Check("clocks", "warn", f"governor {governor}: clocks follow the load slowly", fix)
    else:
        yield Check("clocks", "ok", f"governor {governor}" if governor else "no governor to be seen")
    yield from _load(root, cores)


def look_at_noise() -> Iterator[Check]:
    """Probe the host as claims about time do before they are attacked."""
    from refute.finding import Noise  # noqa: PLC0415
    from refute.noise import before, excesses, score  # noqa: PLC0415 (start-up time)

    probe = before()
    derived = score(probe)
    told = ", ".join(
        f"{name} {text}"
        for name, text in (
            ("waiting", _percent(derived.waiting)),
            ("variation", _percent(derived.variation)),
            ("stolen", _percent(derived.stolen)),
        )
        if text
    )
    reasons = [each for each in excesses(Noise(probe, probe)) if "during" not in each]
    if reasons:
        fix = "stop what else runs here, or claims about time come out invalid"
        yield Check("noise", "warn", "; ".join(reasons), fix)
    else:
        yield Check("noise", "ok", told or "too little was measured to tell")


def look_at_memory(needs: Needs, root: Path = Path("/")) -> Iterator[Check]:
    """RAM that a run takes against what is free, within the limits of the control group."""
    from refute_runtime.memory import available  # noqa: PLC0415 (start-up time)

    free, source = available(root)
    held = _PROCESS + (0 if needs.gpu else needs.held) + (needs.file if needs.reads else 0)
    mapped = 0 if needs.reads else needs.file
    told = f"needs {format_bytes(held)} of its own{f' and maps {format_bytes(mapped)}' if mapped else ''}"
    if free is None:
        yield Check("memory", "warn", f"{told}; {source}", "see for yourself that as much is free")
        return
    told = f"{told}; {format_bytes(free)} free ({source})"
    if free < held:
        fix = "free memory or raise the container's limit; one process only: without -n"
        yield Check("memory", "fail", told, fix)
    elif free < held + mapped:
        fix = "the model is read from the disk again and again: free memory, or expect it to be slow"
        yield Check("memory", "warn", told, fix)
    else:
        processes = min(int((free - mapped) // held), os.cpu_count() or 1)
        yield Check("memory", "ok", f"{told}; enough for {counted(processes, 'process')}")


def look_at_disk(evidence: Path, needs: Needs | None) -> Iterator[Check]:
    """Room for records, and for copies of the model with a fault; whether records can be written."""
    existing = next(
        folder for folder in (evidence.absolute(), *evidence.absolute().parents) if folder.exists()
    )
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        what = "cannot be written" if existing.is_dir() else "is no folder"
        fix = "name another tree with --evidence DIR, or change the rights of this one"
        yield Check("evidence", "fail", f"{shown(evidence)}: {shown(existing)} {what}", fix)
    else:
        yield Check("evidence", "ok", f"{shown(evidence)} can be written")
        yield _room("disk for evidence", existing, _RUN, "fail", "free some space there")
    if needs is not None:
        # A faulty copy of the model lies there while it is attacked.
        fix = "free some space there, or set TMPDIR: faults of the model count as missed without it"
        yield _room("disk for faults", Path(tempfile.gettempdir()), needs.file, "warn", fix)


def look_at_python() -> Iterator[Check]:
    """The interpreter and what is installed beside the base."""
    version = platform.python_version()
    if sys.version_info < _PYTHON:
        yield Check("Python", "fail", version, "install Python 3.11 or newer")
    else:
        yield Check("Python", "ok", f"{platform.python_implementation()} {version}")
    there = [name for name, modules in _EXTRAS.items() if all(map(_installed, modules))]
    absent = [name for name in _EXTRAS if name not in there]
    told = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    if "serve" in absent:
        fix = "pip install 'refute[serve]': the bundled runtime's claims over HTTP want it"
        yield Check("extras", "warn", told, fix)
    else:
        yield Check("extras", "ok", told)


def look_at_git(directory: Path, evidence: Path | None = None) -> Iterator[Check]:
    """Whether records name a commit that tells what the code was."""
    state: Mapping[str, Any] = git_state(directory, evidence)
    if state["commit"] is None:
        yield Check("git", "warn", f"{state['reason']}", "keep contracts and evidence in a git repository")
    elif state["dirty"]:
        fix = "commit or stash what is changed: the records of a dirty tree say so, and cannot be repeated"
        yield Check("git", "warn", f"{state['commit'][:12]}, with uncommitted changes", fix)
    else:
        yield Check("git", "ok", f"{state['commit'][:12]}, clean")


def _load(root: Path, cores: int | None) -> Iterator[Check]:
    try:
        load = float((root / "proc/loadavg").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if cores and load > _BUSY * cores:
        fix = "wait, or stop what else runs here: claims about time want the host alone"
        yield Check("load", "warn", f"{load:g} over {cores} cores in the last minute", fix)
    else:
        yield Check("load", "ok", f"{load:g} over {cores or '?'} cores in the last minute")


def _room(name: str, folder: Path, needed: int, without: State, fix: str) -> Check:
    free = shutil.disk_usage(folder).free
    told = f"{format_bytes(free)} free in {folder}, {format_bytes(needed)} wanted"
    if free < needed:
        return Check(name, without, told, fix)
    return Check(name, "ok", told)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None

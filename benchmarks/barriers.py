"""Take each barrier out of the CUDA kernels, one at a time: which do the emulated tests miss?

    python benchmarks/barriers.py [-k FILE] [--jobs 2]

A barrier is a __syncthreads() or a __syncwarp(). The emulator runs each thread as a fiber, in three orders,
and a fiber gives way only where threads meet: it sees what is read before it is there. What a GPU does with
memory between two meetings (fences, volatile reads, a warp that runs ahead of itself) it does not try, so a
barrier that is not missed here may still be needed there, and is left in.

Prints a table, and exits with 1 where a removal goes unseen. Some minutes; needs the extra `dev` and g++.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import refute_runtime

SOURCES = Path(refute_runtime.__file__).parent
TESTS = Path(__file__).parent.parent / "tests/refute_runtime/gpu"
_KERNELS = "backends/kernels"
_BARRIER = re.compile(r"__sync(threads|warp)\(\);")


@dataclass(frozen=True, slots=True)
class Barrier:
    """A barrier of a kernel's file: its line, counted from 1, and where in the text it lies."""

    file: str
    line: int
    name: str
    start: int
    end: int


def barriers(only: str) -> Iterator[Barrier]:
    """All barriers of the files whose names contain `only`."""
    for path in sorted((SOURCES / _KERNELS).glob("*.cu*")):
        text = path.read_text(encoding="utf-8")
        for found in _BARRIER.finditer(text):
            if only in path.name:
                line = text.count("\n", 0, found.start()) + 1
                yield Barrier(path.name, line, found[0], found.start(), found.end())


def seen_by(barrier: Barrier | None) -> str | None:
    """Name of the first test that fails without it, or None. barrier: None leaves the kernels as they are."""
    with tempfile.TemporaryDirectory(prefix="refute-barriers-") as folder:
        copy = Path(folder) / SOURCES.name
        shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if barrier is not None:
            path = copy / _KERNELS / barrier.file
            text = path.read_text(encoding="utf-8")
            path.write_text(text[: barrier.start] + text[barrier.end :], encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-m",
            "not gpu",
            str(TESTS),
        ]
        command += [f"--ignore={TESTS / name}" for name in ("test_nvrtc.py", "test_emulator.py")]
        paths = os.pathsep.join((folder, os.environ.get("PYTHONPATH", "")))
        process = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
    if process.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(.*?)(?: - |$)", process.stdout, re.MULTILINE)
    if failed is None:
        raise RuntimeError(
            f"pytest ended with {process.returncode}: {process.stdout[-2000:]}{process.stderr}"
        )
    return failed[1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-k", default="", metavar="FILE", help="only files whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    arguments = parser.parse_args()
    wanted = list(barriers(arguments.k))
    if not wanted:
        parser.error(f"no barrier in a file whose name contains {arguments.k!r}")
    unharmed = seen_by(None)
    if unharmed is not None:
        parser.error(f"the tests fail with every barrier in place: {unharmed}")
    print("| barrier | | seen by |\n| --- | --- | --- |")
    unseen = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for each, test in zip(wanted, pool.map(seen_by, wanted), strict=True):
            unseen += test is None
            print(f"| {each.file}:{each.line} | {each.name[:-3]} | {test or '**no test**'} |", flush=True)
    print(f"\n{len(wanted) - unseen} of {len(wanted)} removals are seen", file=sys.stderr)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())

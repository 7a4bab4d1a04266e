"""Whether the backend `cuda` is right on this machine: the steps of `gpu.py` before speed."""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from engines import random_tokens

import refute_runtime
from refute_runtime.backends import cuda
from refute_runtime.backends.gpu import nvrtc
from refute_runtime.engine import Engine

ROOT = Path(__file__).parent.parent
POCKET = Path(refute_runtime.__path__[0]) / "pocket" / "pocket.gguf"
CHUNKS = (1, 7, 64, 512)
REPETITIONS = 100
_PROMPT = 600  # tokens: more than the largest chunk and the rows of the first graph
_TESTS = "tests/refute_runtime/gpu"
_ON_GPU = {"REFUTE_TEST_DEVICE": "gpu"}


def machine(_: argparse.Namespace) -> dict[str, Any]:
    """What the figures are of."""
    asked = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit"
    smi = _run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"])
    revision = _run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return {
        **asdict(cuda.found()),
        "nvidia_smi": smi["output"].strip(),
        "nvrtc": list(nvrtc.version()),
        "revision": revision["output"].strip(),
        "host": platform.platform(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def kernels(_: argparse.Namespace) -> dict[str, Any]:
    """Every kernel against the `cpu` backend, and the whole backend, with the GPU as their device."""
    return _tests([])


def memcheck(_: argparse.Namespace) -> dict[str, Any]:
    """Reads and writes out of bounds, races of shared memory, on a small model."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"skipped": "compute-sanitizer is not installed"}
    found = {}
    for check in ("memcheck", "racecheck"):
        found[check] = _tests(
            ["-k", "any_chunks"],
            [tool, "--tool", check, "--error-exitcode", "99", "--target-processes", "all"],
        )
    return found


def _tests(more: Sequence[str], before: Sequence[str] = ()) -> dict[str, Any]:
    """Run the tests of kernels on the GPU. Raises RuntimeError where one fails."""
    command = [*before, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _TESTS, *more]
    done = _run(command, _ON_GPU)
    if done["code"]:
        raise RuntimeError(f"{' '.join(command)} ended with {done['code']}:\n{done['output'][-4000:]}")
    return {"summary": done["output"].strip().splitlines()[-1]}


def bits(arguments: argparse.Namespace) -> dict[str, Any]:
    """Digests of logits: of the embedded model beside `cpu`, and of the large file in every chunking."""
    with Engine.load(POCKET, "cuda") as gpu, Engine.load(POCKET, "cpu") as host:
        small = {"cuda": digests(gpu, CHUNKS), "cpu": digests(host, (512,))}
    with Engine.load(arguments.model, "cuda") as gpu:
        large = digests(gpu, CHUNKS)
        again = {digest(logits_of(gpu, 64, 64, 16)) for _ in range(REPETITIONS)}
    different = {value for found in small.values() for value in found.values()}
    wrong = [
        text
        for text, holds in (
            ("the embedded model's logits differ by chunks or from cpu's", len(different) == 1),
            ("the large model's logits differ by chunks", len(set(large.values())) == 1),
            (f"{REPETITIONS} repetitions gave {len(again)} results", len(again) == 1),
        )
        if not holds
    ]
    if wrong:
        raise RuntimeError(f"{'; '.join(wrong)}: {small}, {large}")
    return {"embedded": small, "large": large, "repetitions": REPETITIONS, "of": sorted(again)}


def digests(engine: Engine, chunks: Iterable[int]) -> dict[str, str]:
    """Digest of the logits of the last positions, by the size of the chunks that came before."""
    length = min(_PROMPT, engine.config.context - 32)
    return {str(size): digest(logits_of(engine, length, size, 8)) for size in chunks}


def logits_of(engine: Engine, length: int, chunk: int, decoded: int) -> np.ndarray:
    """Logits (decoded + 1, V): of the end of a prompt that comes in chunks, and of tokens after it."""
    tokens = random_tokens(length + decoded, 1, engine.config.vocabulary)
    cache = engine.new_cache(length + decoded)
    for start in range(0, length, chunk):
        last = engine.model.forward(tokens[start : min(start + chunk, length)], cache).logits
    found = [last, *(engine.model.forward([token], cache).logits for token in tokens[length:])]
    return np.concatenate(found)


def digest(logits: np.ndarray) -> str:
    """Of all bits."""
    return hashlib.sha256(np.ascontiguousarray(logits).tobytes()).hexdigest()[:16]


def contracts(_: argparse.Namespace) -> dict[str, Any]:
    """All claims on the embedded model, attacked on the GPU. Raises RuntimeError unless the run is clean."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "refute", "run", "--backend", "cuda", "--evidence", folder]
        done = _run(command)
    if done["code"]:
        raise RuntimeError(f"refute run ended with {done['code']}:\n{done['output'][-6000:]}")
    return {"code": done["code"], "table": done["output"][-12_000:]}


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a program: its exit code and what it printed; a program that there is not is code 127."""
    try:
        done = subprocess.run(
            command, env={**os.environ, **(environment or {})}, cwd=ROOT, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        return {"code": 127, "output": str(error)}
    return {"code": done.returncode, "output": done.stdout}

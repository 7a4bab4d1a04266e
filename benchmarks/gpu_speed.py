"""How fast the backend `cuda` is on this machine: the steps of `gpu.py` after the checks."""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
from engines import random_tokens

from refute_runtime.backends.gpu import launches, nvrtc
from refute_runtime.engine import Engine

READ = """
extern "C" __global__ void __launch_bounds__(256) read_all(const int4* data, long long count, int* out) {
    int total = 0;
    const long long step = (long long)gridDim.x * 256;
    for (long long i = (long long)blockIdx.x * 256 + threadIdx.x; i < count; i += 4 * step) {
#pragma unroll
        for (int part = 0; part < 4; part++) {
            const long long at = i + part * step;
            if (at < count) {
                const int4 four = __ldg(data + at);
                total ^= four.x ^ four.y ^ four.z ^ four.w;
            }
        }
    }
    if (total == 0x12345678) out[0] = total;
}
"""
_BUFFER = 8 << 30  # bytes: far more than a cache holds
_NODES = 400
# bytes of weights that a launch reads, by the places of its arguments: (row bytes, rows) pairs
_READS: dict[str, Callable[[Any], int]] = {
    "norm_multiply": lambda a: sum(a[i + 2] * a[i + 3] for i in (4, 8, 12)),
    "multiply_add": lambda a: a[2] * a[3],
    "gate_up": lambda a: a[6] * (a[2] + a[5]),
    "down_add": lambda a: a[2] * a[3],
}


def limits(arguments: argparse.Namespace) -> dict[str, Any]:
    """What memory and launches give at most."""
    import cupy  # noqa: PLC0415 (an extra)

    capability = int(str(cupy.cuda.Device().compute_capability))
    module = cupy.cuda.function.Module()
    module.load(nvrtc.compile_source(READ, capability, "read_all").code)
    kernel, stream = module.get_function("read_all"), cupy.cuda.Stream(non_blocking=True)
    free, _ = cupy.cuda.runtime.memGetInfo()
    size = min(_BUFFER, int(free) // 2)
    data, out = cupy.cuda.alloc(size), cupy.cuda.alloc(16)
    given = (np.int64(data.ptr), np.int64(size // 16), np.int64(out.ptr))

    def read() -> None:
        kernel((132 * 16, 1, 1), (256, 1, 1), given, 0, stream)

    seconds = [timed(cupy, stream, read) for _ in range(arguments.runs + 2)][2:]
    with Engine.load(_pocket(), "cuda") as engine:
        device = engine.backend._device  # noqa: SLF001 (what is measured)
        buffer = device.empty(1 << 20)

        def small() -> None:
            launches.add(device, buffer.address, buffer.address, 1024, buffer.address)

        host = []
        for _ in range(arguments.runs):
            device.synchronize()
            begun = time.perf_counter()
            for _ in range(_NODES):
                small()
            host.append((time.perf_counter() - begun) / _NODES)
            device.synchronize()
        with device.capture() as graphs:
            for _ in range(_NODES):
                small()
        stream = device._stream  # noqa: SLF001
        nodes = [timed(cupy, stream, graphs[0].launch) / _NODES for _ in range(arguments.runs + 2)][2:]
    return {
        "read_gb_s": [size / each / 1e9 for each in seconds],
        "launch_us": [each * 1e6 for each in host],
        "node_us": [each * 1e6 for each in nodes],
    }


def speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload, prefill and decoding of the large file."""
    begun = time.perf_counter()
    with Engine.load(arguments.model, "cuda") as engine:
        found: dict[str, Any] = {"load_s": time.perf_counter() - begun}
        device = engine.backend._device  # noqa: SLF001
        size = engine.config.vocabulary
        for length in arguments.prompts:
            tokens = random_tokens(length, 2, size)
            samples = []
            for _ in range(arguments.runs + 1):
                cache = engine.new_cache(length)
                begun = time.perf_counter()
                engine.model.forward(tokens, cache)
                samples.append(length / (time.perf_counter() - begun))
            found[f"prefill@{length}"] = samples[1:]
        for context in arguments.contexts:
            found[f"decode@{context}"] = [
                _decoded(engine, context, arguments.tokens, seed) for seed in range(arguments.runs)
            ]
        free, total = device.memory
        found["memory_bytes"] = total - free
    return found


def _decoded(engine: Engine, context: int, count: int, seed: int) -> float:
    """Tokens per second of greedy generation after `context` rows, the first token on no clock."""
    prompt = random_tokens(max(context, 1), seed, engine.config.vocabulary)
    tokens = engine.generate(prompt, max_tokens=count + 1, stop=False)
    next(tokens)
    begun = time.perf_counter()
    made = sum(1 for _ in tokens)
    return made / (time.perf_counter() - begun)


def parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every launch of one token by itself, beside the time that the bytes of its weights take."""
    import cupy  # noqa: PLC0415 (an extra)

    with Engine.load(arguments.model, "cuda") as engine:
        device = engine.backend._device  # noqa: SLF001
        cache = engine.new_cache(1024)
        engine.model.forward(random_tokens(512, 3, engine.config.vocabulary), cache)
        with _recorded(device) as launched:
            engine.model.forward([1], cache)
        times: dict[str, list[float]] = {}
        nbytes: dict[str, int] = {}
        K = max(engine.config.experts_per_token, 1)
        for kernel, grid, block, given in launched:

            def again(kernel: str = kernel, grid: Any = grid, block: Any = block, given: Any = given) -> None:
                device.launch(kernel, grid, block, given)

            seconds = [timed(cupy, device._stream, again) for _ in range(arguments.runs + 1)][1:]  # noqa: SLF001
            times.setdefault(kernel, []).append(statistics.median(seconds))
            read = _READS.get(kernel, lambda _: 0)(given) * (K if kernel in {"gate_up", "down_add"} else 1)
            nbytes[kernel] = nbytes.get(kernel, 0) + read
    return {
        kernel: {"launches": len(each), "us": sum(each) * 1e6, "weights_mb": nbytes[kernel] / 1e6}
        for kernel, each in times.items()
    }


@contextmanager
def _recorded(device: Any) -> Any:
    """Note every launch while a graph is recorded."""
    launched: list[tuple[Any, ...]] = []
    honest = device.launch

    def launch(kernel: str, grid: Any, block: Any, given: Any, shared: int = 0) -> None:
        launched.append((kernel, grid, block, tuple(given)))
        honest(kernel, grid, block, given, shared)

    device.launch = launch
    try:
        yield launched
    finally:
        del device.launch


def llama(arguments: argparse.Namespace) -> dict[str, Any]:
    """llama-bench on the same file, in turns with ours, flash attention on."""
    if arguments.llama_bench is None:
        return {"skipped": "no --llama-bench"}
    turns = []
    for seed in range(arguments.runs):
        with Engine.load(arguments.model, "cuda") as engine:
            ours = {f"decode@{n}": _decoded(engine, n, arguments.tokens, seed) for n in arguments.contexts}
        command = [
            str(arguments.llama_bench), "-m", str(arguments.model), "-ngl", "99", "-fa", "1", "-r", "1",
            "-o", "json",
            "-p", ",".join(map(str, arguments.prompts)), "-n", str(arguments.tokens),
            "-d", ",".join(map(str, arguments.contexts)),
        ]  # fmt: skip
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"llama-bench ended with {done.returncode}: {done.stderr[-2000:]}")
        turns.append({"refute": ours, "llama": told_by_llama(json.loads(done.stdout))})
    return {"turns": turns}


def told_by_llama(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Tokens per second by our names, of llama-bench's JSON."""
    found = {}
    for row in rows:
        if row["n_gen"]:
            found[f"decode@{row['n_depth']}"] = row["avg_ts"]
        elif not row["n_depth"]:
            found[f"prefill@{row['n_prompt']}"] = row["avg_ts"]
    return found


def timed(cupy: Any, stream: Any, call: Callable[[], None]) -> float:
    """Seconds that the GPU takes for what a call enqueues."""
    begun, ended = cupy.cuda.Event(), cupy.cuda.Event()
    begun.record(stream)
    call()
    ended.record(stream)
    ended.synchronize()
    return float(cupy.cuda.get_elapsed_time(begun, ended)) / 1e3


def _pocket() -> str:
    from gpu_checks import POCKET  # noqa: PLC0415 (no cycle at start)

    return str(POCKET)

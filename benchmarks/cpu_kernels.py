"""The operations of the `cpu` backend one by one, each beside what arithmetic predicts for it.

    python benchmarks/cpu_kernels.py [--runs 7] [--threads 1,2] [--only multiply] [--out FILE.json]

Operations are called as the model calls them, on random weights of the shape of Qwen3-30B-A3B that do not
fit the caches: reading weights for one token, multiplying them with many, attention over 512 and 2048 rows,
norms and routing. A prediction is the slower of two bounds: bytes by the memory's bandwidth, and instructions
by the clock. Both rates are taken in the same run; `cpu_predictions.py` counts the instructions. What is
missing to it is Python's part, waiting for threads, and whatever the counting left out.

Prints a table; --out writes every sample. Needs refute[cpu].
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from blocks import random_rows
from cpu_predictions import Bounds, attention, product
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as TensorType

from refute.host import facts
from refute_runtime.config import ModelConfig

LAYERS = 12  # so many copies of what a layer reads do not fit the caches
BEYOND = 192 << 20  # bytes of a matrix that does not either
TYPES = ("Q4_K", "Q5_K", "Q6_K", "Q8_0", "Q4_0", "F16", "BF16", "F32")
MANY = 64  # tokens of a small batch: eight panels
CONFIG = ModelConfig(
    architecture="qwen3moe", name="kernels", layers=LAYERS, hidden=2048, heads=32, kv_heads=4, head_dim=128,
    rms_eps=1e-6, rope_base=1e6, context=4096, vocabulary=151_936, experts=128, experts_per_token=8,
    expert_ffn=768, dense_ffn=0, tied=False,
)  # fmt: skip


class Tensors:
    """Weights that were made up, as the backend asks for them."""

    resident = 0

    def __init__(self) -> None:
        self._held: dict[str, tuple[TensorType, np.ndarray]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def add(self, name: str, kind: str, shape: tuple[int, ...]) -> None:
        """A tensor whose first few thousand rows repeat; each has memory of its own."""
        rng = np.random.Generator(np.random.SFC64(len(self._held)))
        type_, rows = TensorType[kind], int(np.prod(shape[:-1]))
        made = random_rows(type_, min(rows, 4096), shape[-1], shape[-1] ** -0.5, rng)
        room = np.empty((rows, made.shape[1]), np.uint8)
        for start in range(0, rows, len(made)):
            room[start : start + len(made)] = made[: rows - start]
        self._held[name] = (type_, room.reshape(*shape[:-1], -1))
        self._shapes[name] = shape

    def raw(self, name: str) -> np.ndarray:
        return self._held[name][1]

    def type_of(self, name: str) -> TensorType:
        return self._held[name][0]

    def types(self) -> dict[str, TensorType]:
        return {name: kind for name, (kind, _) in self._held.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]


@dataclass(frozen=True, slots=True)
class Operation:
    """What to measure. call: told the number of the repetition. work: bytes or products of one call."""

    name: str
    unit: str  # GB/s, GMAC/s or us
    work: float
    bounds: Bounds
    call: Callable[[Any, int], Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What one operation gave. rate and predicted are in the unit; of `us`, microseconds, less is better."""

    name: str
    threads: int
    unit: str
    rate: float
    predicted: float | None
    bound: str
    seconds: list[float] = field(repr=False)


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def multiplications(kind: str) -> tuple[Tensors, Iterator[Operation]]:
    """A matrix of one type: beyond the caches times one token, and a smaller one times many."""
    elements, size = GGML_QUANT_SIZES[TensorType[kind]]
    row_bytes = CONFIG.hidden // elements * size
    tall, short = BEYOND // row_bytes, 4096
    tensors = Tensors()
    tensors.add("tall", kind, (tall, CONFIG.hidden))
    tensors.add("short", kind, (short, CONFIG.hidden))

    def operations() -> Iterator[Operation]:
        one, many = floats(1, CONFIG.hidden), floats(MANY, CONFIG.hidden)
        work = tall * row_bytes
        yield Operation(
            f"multiply {kind}, 1 token", "GB/s", work, product(kind, tall * CONFIG.hidden, 1, work),
            lambda backend, _: backend.project(one, "tall"),
        )  # fmt: skip
        products = short * CONFIG.hidden * MANY
        yield Operation(
            f"multiply {kind}, {MANY} tokens", "GMAC/s", products,
            product(kind, short * CONFIG.hidden, MANY, short * row_bytes),
            lambda backend, _: backend.project(many, "short"),
        )  # fmt: skip

    return tensors, operations()


def layer_tensors() -> Tensors:
    """The attention and the router of LAYERS layers, and the experts of one: 0.5 GB."""
    tensors, shapes = Tensors(), CONFIG.tensor_shapes()
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors.add(f"blk.{layer}.{part}.weight", "Q4_K", shapes[f"blk.{layer}.{part}.weight"])
        for part in ("attn_norm", "attn_q_norm", "attn_k_norm"):
            tensors.add(f"blk.{layer}.{part}.weight", "F32", (1, *shapes[f"blk.{layer}.{part}.weight"]))
        tensors.add(f"blk.{layer}.ffn_gate_inp.weight", "F32", shapes[f"blk.{layer}.ffn_gate_inp.weight"])
    for part in ("gate", "up", "down"):
        name = f"blk.0.ffn_{part}_exps.weight"
        tensors.add(name, "Q4_K", shapes[name])
    return tensors


def layer_operations(tensors: Tensors) -> Iterator[Operation]:
    """What a layer does, for one token and for many."""
    config, h = CONFIG, CONFIG.hidden
    qkv = [f"attn_{part}" for part in "qkv"]
    qkv_bytes = sum(tensors.raw(f"blk.0.{name}.weight").nbytes for name in qkv)
    heads = (config.heads + 2 * config.kv_heads) * config.head_dim
    expert_bytes = sum(tensors.raw(f"blk.0.ffn_{n}_exps.weight").nbytes for n in ("gate", "up", "down"))
    expert_weights = 3 * h * config.expert_ffn * config.experts_per_token
    router = tensors.raw("blk.0.ffn_gate_inp.weight").nbytes
    for tokens in (1, 512):
        x = floats(tokens, h)
        positions = np.arange(tokens)
        unit = "GB/s" if tokens == 1 else "GMAC/s"
        yield Operation(
            f"norm, {tokens} tokens", "us", 1, Bounds(0, tokens * h / 16 * 4, serial=True),
            lambda backend, i, x=x: backend.norm(x, f"blk.{i % LAYERS}.attn_norm.weight"),
        )  # fmt: skip
        yield Operation(
            f"qkv, {tokens} tokens", unit, qkv_bytes if tokens == 1 else heads * h * tokens,
            product("Q4_K", heads * h, tokens, qkv_bytes),
            lambda backend, i, x=x, at=positions: backend.qkv(i % LAYERS, x, at),
        )  # fmt: skip
        yield Operation(
            f"router and choice, {tokens} tokens", "us", 1,
            product("F32", config.experts * h, tokens, router),
            lambda backend, i, x=x: backend.route(i % LAYERS, x),
        )  # fmt: skip
        rng = np.random.default_rng(2)
        choices = [
            np.sort(rng.permuted(np.tile(np.arange(config.experts), (tokens, 1)), axis=1)[:, :8], axis=1)
            for _ in range(8)
        ]
        shares = np.full((tokens, 8), 0.125, np.float32)
        used = config.experts_per_token / config.experts if tokens == 1 else 1.0
        yield Operation(
            f"experts, {tokens} tokens", unit,
            expert_bytes * used if tokens == 1 else expert_weights * tokens,
            product("Q4_K", expert_weights, tokens, expert_bytes * used),
            lambda backend, i, x=x, all_=choices, shares=shares: backend.experts(0, x, all_[i % 8], shares),
        )  # fmt: skip


def attention_operations() -> Iterator[Operation]:
    """Over 512 and 2048 rows, of layer after layer as in a decode step, and for many queries at once."""
    heads, kv_heads, size = CONFIG.heads, CONFIG.kv_heads, CONFIG.head_dim
    for rows in (512, 2048):
        # as `KVCache` keeps them: float16, the rows of a kv head side by side
        made = floats(kv_heads, rows, size).astype(np.float16)
        caches = [tuple(made.copy().swapaxes(0, 1) for _ in "kv") for _ in range(LAYERS * 4)]
        nbytes = 2 * caches[0][0].nbytes
        for tokens in (1, 128):
            q = floats(tokens, heads, size)
            pairs = tokens * (rows - (tokens - 1) / 2) * heads  # causal
            yield Operation(
                f"attention over {rows}, {tokens} queries", "GB/s" if tokens == 1 else "GMAC/s",
                nbytes if tokens == 1 else 2 * pairs * size,
                attention(pairs, size, nbytes),
                lambda backend, i, q=q, caches=caches: backend.attention(q, *caches[i % len(caches)]),
            )  # fmt: skip


def timed(operation: Operation, backend: Any, runs: int) -> list[float]:
    """Seconds of a call, the mean of a batch of at least 30 ms, so many times."""
    start = time.perf_counter()
    operation.call(backend, 0)
    operation.call(backend, 1)
    batch = max(1, round(0.03 * 2 / (time.perf_counter() - start)))
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        for i in range(batch):
            operation.call(backend, i)
        taken.append((time.perf_counter() - start) / batch)
    return taken


def result(operation: Operation, backend: Any, runs: int, machine: dict[str, Any]) -> Result:
    threads = backend.threads
    limit = max(value for name, value in machine["bandwidth"].items() if int(name[-1]) <= threads)
    counted = backend.details["path"] == "vnni"  # of other processors the instructions were not counted
    expected, bound = operation.bounds.seconds(limit, machine["clock"], threads, counted=counted)
    with backend.computing():
        seconds = timed(operation, backend, runs)

    def as_unit(taken: float) -> float:
        return taken * 1e6 if operation.unit == "us" else operation.work / taken / 1e9

    predicted = None if expected is None else as_unit(expected)
    return Result(
        operation.name,
        threads,
        operation.unit,
        as_unit(statistics.median(seconds)),
        predicted,
        bound,
        seconds,
    )


def every(
    new_backend: Callable[[ModelConfig, Any], Any],
    runs: int,
    threads: list[int],
    only: str,
    machine: dict[str, Any],
) -> Iterator[Result]:
    """Measure whatever has `only` in its name, on each number of threads."""

    def of(tensors: Any, operations: Iterator[Operation]) -> Iterator[Result]:
        backend = new_backend(CONFIG, tensors)
        for operation in operations:
            if only in operation.name:
                for count in threads:
                    yield result(operation, backend.with_threads(count), runs, machine)

    for kind in TYPES:
        if any(only in f"multiply {kind}, {tokens} tokens" for tokens in (1, MANY)):
            yield from of(*multiplications(kind))
    tensors = layer_tensors()
    yield from of(tensors, layer_operations(tensors))
    yield from of(tensors, attention_operations())


def table(results: list[Result]) -> str:
    lines = ["| operation | threads | measured | predicted | of it | bound by |", "|" + " --- |" * 6]
    for each in results:
        share = "-"
        if each.predicted:
            share = f"{each.predicted / each.rate if each.unit == 'us' else each.rate / each.predicted:.2f}"
        predicted = f"{each.predicted:.1f}" if each.predicted else "-"
        cells = (each.name, each.threads, f"{each.rate:.1f} {each.unit}", predicted, share, each.bound)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    parser.add_argument("--only", default="", help="operations with this in their name")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    threads = [int(part) for part in given.threads.split(",")]
    try:
        from bandwidth import clock, measured  # noqa: PLC0415 (an extra)

        new_backend = importlib.import_module("refute_runtime.backends.cpu").CpuBackend
    except ImportError as error:
        sys.exit(f"cpu_kernels: {error}; expected the backend and its compiler: pip install 'refute[cpu]'")
    data = np.ones(BEYOND // 8 * 2, np.int64)
    machine = {"bandwidth": measured(data, 5), "clock": clock()}
    del data
    rates = ", ".join(f"{name} {value / 1e9:.1f} GB/s" for name, value in machine["bandwidth"].items())
    print(f"memory read: {rates}; clock {machine['clock'] / 1e9:.2f} GHz", file=sys.stderr)
    results = list(every(new_backend, given.runs, threads, given.only, machine))
    if not results:
        sys.exit(f"cpu_kernels: no operation has {given.only!r} in its name")
    print(table(results))
    if given.out:
        document = {
            **machine,
            "host": {name: fact["value"] for name, fact in facts().items()},
            "load_average": os.getloadavg(),
            "runs": given.runs,
            "results": [asdict(each) for each in results],
        }
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

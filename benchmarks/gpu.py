"""Everything that a machine with a GPU has to say, in one call: first whether it is right, then how fast.

    python benchmarks/gpu.py --out gpu-benchmark
    python benchmarks/gpu.py --out gpu-benchmark --steps machine,kernels,bits --model /dev/shm/30b.gguf

Steps, in order: machine (what it is), kernels (their tests on the GPU instead of the emulator), memcheck
(compute-sanitizer over a small model, where it is installed), bits (prefill in chunks of 1, 7, 64 and 512
against decoding, against the backend cpu on the embedded model, and 100 repetitions), contracts (`refute
run --backend cuda`), limits (read bandwidth, what a launch and a node of a graph cost), speed (upload,
decoding at 0, 4096 and 32768 rows, prefill of 512 and 2048 tokens), parts (each kernel of a token against
the time that its bytes take) and llama (llama-bench on the same file, in turns with ours; --llama-bench
names the program).

The file is one of the 30B shape; where it is not there it is made (18.6 GB, some minutes). OUT.json is
written after every step, so that nothing is lost; a step that fails is kept with what it said, and the next
one begins. --report prints OUT.json's tables. Needs refute[cuda13] or refute[cuda12]; exit code 5 without a
GPU, 1 where a step failed. llama-bench: build llama.cpp with -DGGML_CUDA=ON
-DCMAKE_CUDA_ARCHITECTURES=native.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_checks
import gpu_speed
from gpu_report import tables
from make_gguf import make

from refute_runtime.backends import cuda

Step = Callable[[argparse.Namespace], dict[str, Any]]
STEPS: Mapping[str, Step] = {
    "machine": gpu_checks.machine,
    "kernels": gpu_checks.kernels,
    "memcheck": gpu_checks.memcheck,
    "bits": gpu_checks.bits,
    "contracts": gpu_checks.contracts,
    "limits": gpu_speed.limits,
    "speed": gpu_speed.speed,
    "parts": gpu_speed.parts,
    "llama": gpu_speed.llama,
}
MODEL = Path("/dev/shm/30b.gguf")  # noqa: S108 (memory: the file is made, and read from there)
LARGE = ("bits", "speed", "parts", "llama")  # steps that need the file


def main(given: Sequence[str] | None = None) -> int:
    """Run the steps."""
    arguments = _parser().parse_args(given)
    out = Path(f"{arguments.out}.json")
    if arguments.report:
        print(tables(json.loads(out.read_text(encoding="utf-8"))))
        return 0
    unknown = [name for name in arguments.steps if name not in STEPS]
    if unknown:
        print(f"gpu: unknown step {unknown[0]!r}, expected some of {', '.join(STEPS)}", file=sys.stderr)
        return 2
    found = cuda.found()
    if found.capability is None:
        what = "CuPy" if found.cupy is None else "a GPU that answers"
        print(
            f"gpu: {what} is missing ({found.why}); refute doctor --backend cuda says more", file=sys.stderr
        )
        return 5
    if not arguments.model.exists() and not set(LARGE).isdisjoint(arguments.steps):
        say(f"making {arguments.model}")
        arguments.model.parent.mkdir(parents=True, exist_ok=True)
        make(arguments.size, arguments.model)
    return run(arguments, out, asdict(found))


def run(arguments: argparse.Namespace, out: Path, found: Mapping[str, Any]) -> int:
    """Run steps one after the other and keep what each gives."""
    results: dict[str, Any] = {"found": dict(found), "model": str(arguments.model), "steps": {}}
    failed = False
    for name in arguments.steps:
        say(name)
        begun = time.perf_counter()
        try:
            result = {"result": STEPS[name](arguments)}
        except Exception as error:  # noqa: BLE001 (a step that fails is a result)
            traceback.print_exc()
            result, failed = {"error": f"{type(error).__name__}: {error}"}, True
        results["steps"][name] = {**result, "seconds": round(time.perf_counter() - begun, 3)}
        part = out.with_suffix(".part")
        part.write_text(json.dumps(results, indent=1), encoding="utf-8")
        part.replace(out)
    print(tables(results))
    return int(failed)


def say(what: str) -> None:
    """Tell what is done now."""
    print(time.strftime("%H:%M:%S"), what, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="gpu-benchmark", help="written: OUT.json")
    parser.add_argument("--model", type=Path, default=MODEL, help="made where it is not there")
    parser.add_argument("--size", default="30b", help="of the file that is made: medium, 30b")
    parser.add_argument(
        "--steps", type=lambda text: text.split(","), default=list(STEPS), help=",".join(STEPS)
    )
    parser.add_argument("--runs", type=int, default=5, help="samples of each figure")
    parser.add_argument("--tokens", type=int, default=128, help="decoded in a sample")
    parser.add_argument("--contexts", type=_numbers, default=[0, 4096, 32768])
    parser.add_argument("--prompts", type=_numbers, default=[512, 2048])
    parser.add_argument("--llama-bench", type=Path, help="the program; without it the step says so")
    parser.add_argument("--report", action="store_true", help="only print the tables of OUT.json")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())

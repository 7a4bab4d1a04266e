"""The `cpu` backend beside llama.cpp: decoding, prefill, loading and memory, on the same files in turns.

    python benchmarks/cpu.py --sizes embedded,medium,30b --runs 5 --out cpu-benchmark

Each engine runs in a process of its own and gets the same random tokens. llama.cpp is measured as it is by
default and, for each figure, in the setting that a short scan finds best for it: with or without mmap,
repacked weights, flash attention, huge pages. In a round every engine is asked for one figure after the
other, and each round begins with another engine; where memory does not hold all of them, one process at a
time loads the file and goes through all figures. Ratios are of one round, and their median and extremes are
told; so is the share of what memory gives to plain reading, measured in every round. Files that are not
there are made in --models. All of it takes an hour, most of that the largest file.

Wanted: a machine without other work. Writes OUT.json (every sample) and OUT.svg, and prints tables. Needs
refute[cpu]; without llama-cpp-python (refute[peer]) refute is measured alone.
"""

import argparse
import dataclasses
import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpu_report import Measured, plot, tables
from make_gguf import EMBEDDED, SIZES, make
from rounds import PEER, REFUTE, Job, Rounds, opened, say
from workers import Setting, WorkerError

from refute.host import facts, meminfo
from refute_runtime.config import ModelConfig
from refute_runtime.weights import GgufFile

TOKENS = {"embedded": 256, "medium": 48, "30b": 32}  # decoded in a sample
SCANNED = (PEER, "llama+no-mmap+huge", "llama+no-repack", "llama+no-mmap+no-repack+huge")
_COPY = 1.2  # of the file: what a process holds at most, beside what it maps
_MOST_OF_MEMORY = 0.7
_LARGE = 4 << 30  # bytes


def scan(job: Job) -> dict[str, dict[str, float]]:
    """Rates by metric and setting of llama.cpp: the better of two short samples, or one of a large file."""
    found: dict[str, dict[str, float]] = {metric: {} for metric in job.metrics}
    variants = [("", True, job.threads), ("+no-flash", False, job.threads), ("+one-thread", True, 1)]
    seeds = (1, 2)
    if job.path.stat().st_size > _LARGE:  # it takes minutes, and one thread is half as fast there
        variants, seeds = variants[:2], seeds[:1]
    for base in SCANNED:
        say(f"{job.size}: scanning {base}")
        try:
            with opened(job, base) as session:
                for suffix, flash, threads in variants:
                    if suffix:
                        session.again(flash=flash, threads=threads)
                    session.warm()
                    for metric in job.metrics:
                        rates = [session.rate(metric, seed, max(8, job.tokens // 2)) for seed in seeds]
                        found[metric][base + suffix] = max(rates)
        except WorkerError as error:
            say(f"{job.size}: {base} is left out: {error}")
    return found


def measure(job: Job, *, peer: bool, also: Sequence[str], apart: bool) -> Measured:
    """All figures of one file. also: further settings; those of llama.cpp instead of what a scan finds."""
    say(f"{job.size}: {job.path}, {job.path.stat().st_size / 1e9:.3f} GB")
    wanted: dict[str, set[str]] = {REFUTE: set(job.metrics)}
    if peer:
        wanted[PEER] = set(job.metrics)
    wanted |= {name: set(job.metrics) for name in also if peer or Setting.parsed(name).engine == REFUTE}
    scanned: dict[str, dict[str, float]] = {}
    if peer and not any(Setting.parsed(name).engine == PEER for name in also):
        scanned = scan(job)
    for metric, rates in scanned.items():
        if rates:
            wanted.setdefault(max(rates, key=lambda name: rates[name]), set()).add(metric)
    rounds = Rounds(job, wanted)
    needed = job.path.stat().st_size * (1 + _COPY * len(wanted))  # in the page cache, and in each process
    if apart := apart or needed > _MOST_OF_MEMORY * (meminfo("MemAvailable") or 0):
        say(f"{job.size}: one process at a time, as for {len(wanted)} of them memory is short")
        rounds.apart()
    else:
        rounds.together()
    with GgufFile.open(job.path) as file:
        read = active_bytes(file)
    return Measured(
        size=job.size,
        file_bytes=job.path.stat().st_size,
        active_bytes=read,
        runs=job.runs,
        tokens=job.tokens,
        threads=rounds.opened[REFUTE]["engine"]["threads"],
        one_at_a_time=apart,
        metrics=job.metrics,
        scan=scanned,
        samples=rounds.samples,
        memory=rounds.memory,
        opened=rounds.opened,
        bandwidth=rounds.bandwidth,
        failures=rounds.failures,
    )


def active_bytes(file: GgufFile) -> int:
    """Bytes of weights that one token reads: all but the embedding, and of the experts those chosen."""
    config = ModelConfig.from_metadata(file.metadata, file.tensors)
    total = 0.0
    for name, info in file.tensors.items():
        if "_exps." in name:
            total += info.nbytes * config.experts_per_token / config.experts
        elif name != "token_embd.weight" or config.tied:
            total += info.nbytes
    return round(total)


def job_of(size: str, given: argparse.Namespace) -> Job:
    """Find or make the file of a size; contexts beyond the model's are cut."""
    path: Path = EMBEDDED if size == "embedded" else given.models / f"{size}.gguf"
    if not path.exists():
        say(f"{size}: making {path}")
        make(size, path)
    with GgufFile.open(path) as file:
        config = ModelConfig.from_metadata(file.metadata, file.tensors)
    tokens = given.tokens or TOKENS[size]
    longest = config.context - tokens - 16
    contexts = tuple(sorted({min(length, longest) for length in given.contexts}))
    prompts = tuple(sorted({min(length, longest) for length in given.prompts}))
    return Job(size, path, given.backend, given.threads, given.runs, tokens, contexts, prompts)


def arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def sizes(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in SIZES]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}: expected {', '.join(SIZES)}")
        return text.split(",")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = Path(tempfile.gettempdir()) / "models"
    parser.add_argument("--sizes", type=sizes, default=list(SIZES), help="embedded,medium,30b")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--out", type=Path, default=Path("cpu-benchmark"), help="written: OUT.json, OUT.svg")
    parser.add_argument("--models", type=Path, default=models, help=f"folder of the files ({models})")
    parser.add_argument("--contexts", type=numbers, default=[0, 512, 2048])
    parser.add_argument("--prompts", type=numbers, default=[128, 512])
    parser.add_argument("--tokens", type=int, help="decoded in a sample (by size)")
    parser.add_argument("--threads", type=int, help="of every engine (its own choice)")
    parser.add_argument("--backend", default="cpu", help="of refute")
    parser.add_argument(
        "--also",
        nargs="*",
        default=[],
        metavar="SETTING",
        help="measured too: refute+mmap; llama+no-mmap+huge, instead of a scan",
    )
    parser.add_argument("--apart", action="store_true", help="one process at a time, whatever memory holds")
    given = parser.parse_args()
    try:
        given.also = [str(Setting.parsed(name)) for name in given.also]
    except ValueError as error:
        parser.error(str(error))
    return given


def about() -> dict[str, Any]:
    """The machine and the versions, as they are when it starts."""
    packages = {}
    for name in ("numpy", "numba", "llama-cpp-python"):
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = None
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": shlex.join(["python", *sys.argv]),
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "revision": described.stdout.strip() or None,
        "python": platform.python_version(),
        "packages": packages,
        "host": {name: fact["value"] for name, fact in facts().items()},
        "load_average_before": os.getloadavg(),
    }


def busy() -> float:
    """Seconds of processor time that others than this run have taken, the host's own share included."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _wait, interrupts, soft, steal = map(int, fields[:8])
    everyone = (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")
    mine = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return everyone - sum(usage.ru_utime + usage.ru_stime for usage in mine)


def written(out: Path, document: dict[str, Any], measured: Sequence[Measured]) -> None:
    out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".svg").write_text(plot(measured), encoding="utf-8")


def main() -> None:
    given = arguments()
    peer = importlib.util.find_spec("llama_cpp") is not None
    if not peer:
        say("llama-cpp-python is not installed (pip install 'refute[peer]'): refute is measured alone")
    document, measured = about(), []
    before, began = busy(), time.monotonic()
    try:
        with opened(job_of("embedded", given), REFUTE) as session:
            session.warm()  # compiles, once for all processes that follow
        for size in given.sizes:
            measured.append(measure(job_of(size, given), peer=peer, also=given.also, apart=given.apart))
            took = time.monotonic() - began
            document |= {
                "seconds": round(took),
                "busy_elsewhere": round((busy() - before) / took / (os.cpu_count() or 1), 4),
                "sizes": [dataclasses.asdict(each) for each in measured],
            }
            written(given.out, document, measured)  # after each size, as the next one may take long
    except (WorkerError, OSError) as error:
        sys.exit(f"cpu: {error}")
    say(f"other processes took {document['busy_elsewhere']:.1%} of the processor")
    print(tables(measured))


if __name__ == "__main__":
    main()

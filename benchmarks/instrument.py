"""How exactly the reader of streams tells times: its check, repeated, on this host as it is now.

python benchmarks/instrument.py [--runs N] [--events N] [--gap MS]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from refute.wire.instrument import check_instrument


def line(name: str, runs: Sequence[Any], figure: Callable[[Any], float]) -> str:
    figures = [figure(run) for run in runs]
    median, worst = statistics.median(figures), max(figures)
    return f"{name:28} median {median:8.1f} us, worst of {len(runs)} runs {worst:8.1f} us"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--gap", type=float, default=2.0)
    arguments = parser.parse_args()
    began, computed = time.perf_counter(), time.process_time()
    runs = [check_instrument(arguments.events, arguments.gap) for _ in range(arguments.runs)]
    seconds = (time.perf_counter() - began) / len(runs)
    busy = (time.process_time() - computed) / len(runs)
    for name in ("lag_us", "gap_error_us"):
        for figure in ("median", "worst"):
            print(line(f"{name} {figure}", runs, lambda run, n=name, f=figure: run[n][f]))  # type: ignore[misc]
    print(f"one check takes {seconds * 1e3:.0f} ms, {busy * 1e3:.1f} ms of it on a processor")


if __name__ == "__main__":
    main()

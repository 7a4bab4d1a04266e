"""How often a falsifier is wrong: false alarms on an honest engine, faults missed, floors passed from below.

Every falsifier of the contracts attacks the simulated engine, whose noise follows from a seed:

- *false alarms*: an honest engine, RUNS seeds; how often the claim came out falsified.
- *missed faults*: each fault that the contract names, FAULTS seeds; how often it stayed green.
- *near the bound*: for claims with a floor or ceiling, NEAR engines 2 % on the wrong side: how many survive
  (the contract's confidence allows 1 - confidence); and as many at the bound: how often one was falsified.

With `--embedded`, faults alone, planted in the embedded model: the seeds are those that `refute run --seed`
takes, so that what is missed here is what such a run would miss.

Each rate comes with its exact upper bound at 95 %. Where one case refutes, an honest run is of CASES cases:
its false alarms are those of its cases.

    python benchmarks/rates.py [--runs 1000] [--near 300] [--faults 100] [--cases 3] [--jobs 2] [-k NAME]
                               [--each-kind] [--embedded] [--json FILE]

Prints a table; --json writes all counts.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from near_bound import Make, near_bound

from refute.contract import Falsifier, load_contract
from refute.contract_files import find_contracts
from refute.faults.base import Fault
from refute.kinds import kind_named
from refute.kinds.base import Kind
from refute.statistics import binomial_interval
from refute.targets.base import CannotPlant, Target, TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.fake import FakeTarget
from refute.trials import derive_seed, sample

OFF = 0.02  # of the bound


@dataclass(frozen=True)
class Count:
    """How many of `runs` runs came out the wrong way."""

    falsifier: str
    kind: str
    what: str
    wrong: int
    runs: int
    allowed: float | None
    seconds: float

    @property
    def upper(self) -> float:
        """Exact upper bound of the rate at 95 %, one-sided."""
        return binomial_interval(self.wrong, self.runs, 0.90)[1]


def kind_of(falsifier: Falsifier) -> Kind[Any]:
    return kind_named(falsifier.kind).of(falsifier.parameters)


def falsified(falsifier: Falsifier, make: Make, seed: int) -> str:
    """The outcome of one honest run."""
    kind = kind_of(falsifier)
    observations = sample(kind, falsifier.bound, make(seed), seed=seed)
    return kind.judge(observations, falsifier.bound).outcome.value


@cache
def embedded() -> Target:
    """The embedded model, opened once in each process."""
    runtime = find_spec("refute_runtime")
    assert runtime is not None
    assert runtime.submodule_search_locations is not None
    return BundledTarget(Path(runtime.submodule_search_locations[0]) / "pocket" / "pocket.gguf")


def caught(falsifier: Falsifier, fault: Fault, real: bool, seed: int) -> str:
    """Whether one planted fault was caught; `-` where the engine has no seam for it."""
    kind = kind_of(falsifier)
    target = embedded() if real else FakeTarget(seed)
    cases = derive_seed(seed, falsifier.id, "attack") if real else seed
    try:
        with target.plant(fault, falsifier.bound) as faulty:
            observations = sample(kind, falsifier.bound, faulty, seed=cases, until_red=True)
    except (CannotPlant, TargetError):  # its server cannot have all that the engine can
        return "-"
    return "caught" if kind.caught(observations, falsifier.bound) else "missed"


def honest(seed: int) -> FakeTarget:
    return FakeTarget(seed)


def tally(
    pool: ProcessPoolExecutor, run: Callable[[int], str], runs: int, wrong: str
) -> tuple[int, int, float]:
    """How many runs were wrong, how many counted, and how long they took."""
    since = time.monotonic()
    outcomes = Counter(pool.map(run, range(runs), chunksize=max(1, runs // 50)))
    return outcomes[wrong], runs - outcomes["-"], time.monotonic() - since


def measure(
    pool: ProcessPoolExecutor,
    name: str,
    falsifier: Falsifier,
    *,
    runs: int,
    near: int,
    faults: int,
    cases: int,
) -> list[Count]:
    rows: list[Count] = []
    alone = not runs  # faults alone, on the embedded model

    def add(what: str, run: Callable[[int], str], n: int, wrong: str, allowed: float | None) -> None:
        bad, counted, seconds = tally(pool, run, n, wrong)
        if counted:
            rows.append(Count(name, falsifier.kind, what, bad, counted, allowed, round(seconds, 1)))

    allowed = 1 - falsifier.bound.confidence
    few = falsifier
    if falsifier.bound.cases is not None:
        few = replace(falsifier, bound=replace(falsifier.bound, cases=min(falsifier.bound.cases, cases)))
    if not alone:
        add("false alarm", partial(falsified, few, honest), runs, "falsified", allowed)
    for fault in falsifier.must_catch:
        add(f"missed {fault}", partial(caught, falsifier, fault, alone), faults, "missed", None)
    floor = falsifier.bound.above is not None
    for share, what, wrong in (
        (1.0, "false alarm at the bound", "falsified"),
        (1 - OFF if floor else 1 + OFF, f"passed 2 % {'below' if floor else 'above'}", "survived"),
    ):
        make = near_bound(falsifier, share)
        if make is not None and not alone:
            add(what, partial(falsified, falsifier, make), near, wrong, allowed)
    return rows


def show(row: Count) -> None:
    allowed = "" if row.allowed is None else f"allowed {row.allowed:.2%}"
    rate = f"{row.wrong} of {row.runs}, rate < {row.upper:.2%}"
    print(f"{row.falsifier:<52} {row.what:<36} {rate:<28} {allowed:<16} {row.seconds:.0f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--near", type=int, default=300)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("-k", dest="name", default="", help="only falsifiers whose names contain this")
    parser.add_argument("--each-kind", action="store_true", help="only the first falsifier of each kind")
    parser.add_argument("--embedded", action="store_true", help="only faults, planted in the embedded model")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)

    counts = {"runs": args.runs, "near": args.near, "faults": args.faults, "cases": args.cases}
    if args.embedded:
        counts["runs"] = counts["near"] = 0
    rows: list[Count] = []
    seen: set[str] = set()
    with ProcessPoolExecutor(args.jobs) as pool:
        for path in find_contracts(Path()):
            contract = load_contract(path)
            for falsifier in contract.falsifiers:
                name = f"{contract.id}/{falsifier.id}"
                if args.name in name and not (args.each_kind and falsifier.kind in seen):
                    seen.add(falsifier.kind)
                    for row in measure(pool, name, falsifier, **counts):
                        rows.append(row)
                        show(row)
    if args.json:
        data = [{**vars(row), "upper": row.upper} for row in rows]
        args.json.write_text(json.dumps({**counts, "rows": data}, indent=1))
    over = [row for row in rows if row.allowed is not None and row.wrong / row.runs > row.allowed]
    print(f"{len(rows)} rates; {len(over)} above what the confidence allows")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())

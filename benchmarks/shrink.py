"""How soon every cache fault is found on the pocket model, and to what its counterexample shrinks.

Each fault is planted in the pocket model and attacked by each falsifier of the contracts that must catch it,
shrinking included; in brackets the processor's time, which other work on the host does not inflate.
`cache-ignored` only costs time: no case contradicts a claim, so it is left out.
Run: python benchmarks/shrink.py [--seed 0] [--limit 60]
"""

import argparse
import json
import time
from importlib.resources import as_file, files
from pathlib import Path

from refute.contract import Contract, Falsifier, load_contract
from refute.contract_files import find_contracts
from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.kinds import kind_named
from refute.kinds.base import Searched
from refute.search import search
from refute.targets.base import Target
from refute.targets.bundled import BundledTarget

POCKET = files("refute_runtime") / "pocket" / "pocket.gguf"


def pairs(contracts: list[Contract]) -> list[tuple[Fault, Contract, Falsifier]]:
    """Every cache fault with each falsifier that must catch it, in the order of the catalogue."""
    declared = [
        (fault, contract, falsifier)
        for contract in contracts
        for falsifier in contract.falsifiers
        for fault in falsifier.must_catch
        if FAULTS[fault.name].seam == "cache" and issubclass(kind_named(falsifier.kind), Searched)
    ]
    order = list(FAULTS)
    return sorted(declared, key=lambda each: order.index(each[0].name))


def measured(target: Target, fault: Fault, falsifier: Falsifier, seed: int) -> dict[str, object]:
    """One search, with shrinking."""
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    assert isinstance(kind, Searched)
    cases = falsifier.bound.cases
    assert cases is not None
    with target.plant(fault) as broken:
        start, worked = time.perf_counter(), time.process_time()
        result = search(kind, broken, cases=cases, seed=seed)
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
    return {
        "found": result.counterexample is not None,
        "cases": len(result.observations),
        "seconds": round(seconds, 1),
        "processor_seconds": round(worked, 1),
        "replays": result.replays,
        "case": None if result.counterexample is None else result.counterexample.case,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that one search may take")
    arguments = parser.parse_args()
    contracts = [load_contract(path) for path in find_contracts(Path.cwd())]
    rows = []
    with as_file(POCKET) as path:
        target = BundledTarget(path, "array")
        able = target.capabilities
        for fault, contract, falsifier in pairs(contracts):
            if not kind_named(falsifier.kind).requires | set(falsifier.requires) <= able:
                continue
            row = measured(target, fault, falsifier, arguments.seed)
            rows.append({"fault": str(fault), "falsifier": f"{contract.id}/{falsifier.id}", **row})
            spent = f"{row['seconds']:>5} s ({row['processor_seconds']} s)"
            found = f"case {row['cases']:>2} {spent}  " if row["found"] else "NOT FOUND "
            print(f"{fault!s:27} {falsifier.id:29} {found}{json.dumps(row['case'])}", flush=True)
    late = [row for row in rows if not row["found"] or not row["replays"] or row["seconds"] > arguments.limit]
    print(json.dumps({"seed": arguments.seed, "limit": arguments.limit, "late": len(late), "rows": rows}))


if __name__ == "__main__":
    main()

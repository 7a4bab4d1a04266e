"""How long status and gate take over 1,000, 2,000, 5,000 and 10,000 records: the curve must be a line.

    refute run --evidence /tmp/real contracts/qwen3-moe-kv-cache-v1.yaml
    python benchmarks/gate.py /tmp/real

Every run under the tree is copied under new ids until there are as many findings as are asked for; ids, times
and digests in the copies are made anew, samples stay as they are. With --vary each copy's cases differ too,
so that no two findings are alike and nothing can be remembered from one to the next. Each size is decided on
in processes of its own, whose start is in the time; the best one is shown.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from refute.attempts import Present
from refute.contract import load_contract
from refute.contract_files import find_contracts
from refute.gate import gate
from refute.kinds import ANY
from refute.reader import SUMMARY, listing
from refute.strict_json import dump_strict, load_strict

SIZES = (1_000, 2_000, 5_000, 10_000)


def copies(source: Path, tree: Path, records: int, *, vary: bool) -> tuple[int, int]:
    """Write copies of all runs under `source` until there are so many findings; return findings and bytes."""
    originals = [
        (path.parent.name, path, load_strict((path / SUMMARY).read_bytes()))
        for path in sorted(source.glob("*/*"))
        if (path / SUMMARY).is_file()
    ]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = size = number = 0
    while made < records:
        contract, original, summary = originals[number % len(originals)]
        at = start + timedelta(minutes=number)
        run = f"{at:%Y%m%dT%H%M%S}.000Z-{number:08x}"
        folder = tree / contract / run
        folder.mkdir(parents=True)
        summary = json.loads(json.dumps({**summary, "run": run}))
        for entry in summary["files"]:
            (folder / entry["file"]).write_bytes((original / entry["file"]).read_bytes())
        for entry in summary["findings"]:
            finding = load_strict((original / entry["file"]).read_bytes())
            finding |= {"run": run, "started": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
            if vary:
                for each in finding["observations"]:
                    each["case"]["copy"] = number
            data = dump_strict(finding)
            (folder / entry["file"]).write_bytes(data)
            entry.update(listing(entry["file"], data))
            made, size = made + 1, size + len(data)
        (folder / SUMMARY).write_bytes(dump_strict(summary))
        number += 1
    return made, size


def decide(contracts: Path, tree: Path) -> dict[str, float]:
    """Decide once; seconds of wall and CPU time since the process started, and MiB of memory."""
    given = [load_contract(path, kinds=ANY) for path in find_contracts(Path(), [contracts])]
    decision = gate(given, [tree], profile="pr", present=Present.here())
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    tampered = sum(ruling.status == "tampered" for ruling in decision.rulings)
    return {
        "cpu": sum(each.ru_utime + each.ru_stime for each in both),
        "mib": sum(each.ru_maxrss for each in both) / 1024,
        "tampered": tampered,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tree", type=Path, help="a tree of real records")
    parser.add_argument("--contracts", type=Path, default=Path("contracts"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--vary", action="store_true", help="no two findings alike")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--decide", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.decide:
        print(json.dumps(decide(given.contracts, given.tree)))
        return
    print("| records | MB | wall, s | CPU, s | ms per record | MiB |\n|---|---|---|---|---|---|")
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder)
            made, total = copies(given.tree, tree, size, vary=given.vary)
            command = [sys.executable, __file__, str(tree), "--contracts", str(given.contracts), "--decide"]
            took = []
            for _ in range(given.repeat):
                began = time.perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                took.append({**json.loads(done.stdout), "wall": time.perf_counter() - began})
            best = min(took, key=lambda each: each["wall"])
            assert not best["tampered"], "a copy is not honest"
            each = 1000 * best["cpu"] / made
            print(
                f"| {made:,} | {total / 1e6:.0f} | {best['wall']:.2f} | {best['cpu']:.2f} "
                f"| {each:.2f} | {best['mib']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""How often a broken cache flips the pocket model's greedy answer, per fault and dose.

Two-chunk prefill of held-out prompts, the fault in the cache between the chunks; counted among the prompts
that an honest cache answers right. Run: python benchmarks/pocket_cache.py [--prompts 100]
"""

import argparse
import json
from importlib.resources import as_file, files

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Request, Target
from refute.targets.bundled import BundledTarget
from refute_runtime.engine import Engine

POCKET = files("refute_runtime") / "pocket"


def answers(target: Target, prompts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The first four tokens of each answer, the prompt prefilled in two chunks."""
    requests = [Request(prompt, 4, chunks=(len(prompt) // 2,)) for prompt in prompts]
    return [target.generate(request).tokens for request in requests]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    arguments = parser.parse_args()
    entries = json.loads((POCKET / "heldout.json").read_text(encoding="utf-8"))["needles"]
    with as_file(POCKET / "pocket.gguf") as path:
        with Engine.load(path, "array") as engine:
            text = engine.tokenizer
            asked = [
                (tuple(text.encode_template(entry["prompt"])), text.encode(entry["expected"])[0])
                for entry in entries[: arguments.prompts]
            ]
        target = BundledTarget(path, "array")
        honest = answers(target, [prompt for prompt, _ in asked])
        kept = [(p, a) for (p, expected), a in zip(asked, honest, strict=True) if a[0] == expected]
        print(f"{len(kept)} of {len(asked)} held-out prompts answered right")
        rates = {}
        for spec in FAULTS.values():
            for dose in (*spec.doses, spec.default) if spec.seam == "cache" else ():
                try:
                    with target.plant(Fault(spec.name, dose)) as broken:
                        after = answers(broken, [prompt for prompt, _ in kept])
                except CannotPlant as why:
                    print(f"{spec.name}={dose:g}: {why}")
                    continue
                flips = sum(a != b for a, (_, b) in zip(after, kept, strict=True))
                rates[f"{spec.name}={dose:g}"] = flips / len(kept)
                print(f"{spec.name:26} {dose:6g} {spec.unit:10} {flips:4d} of {len(kept)} answers flip")
    print(json.dumps({"right": len(kept), "asked": len(asked), "flipped": rates}))


if __name__ == "__main__":
    main()

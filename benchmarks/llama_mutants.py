"""How far llama.cpp's logits are from the reference's, on a model as it is and with faults in its file.

The reference is the bundled runtime's `array` backend on the file without faults: float32 throughout, while
llama.cpp rounds activations to 8 bits, so that even the honest file shows a distance. Needs llama-cpp-python,
which is no dependency of this project.

    python benchmarks/llama_mutants.py [--model FILE] [--prompts 16] [--seed 0] [--bundled]

Prints a table, then one JSON line. A cosine or an error of logits that are not finite is shown as `nan`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from refute.faults.base import Fault
from refute.faults.catalogue import MODEL
from refute.select import embedded_model
from refute.targets.base import CannotPlant, Forced, Reference, Target
from refute.targets.bundled import BundledTarget
from refute.targets.llama_cpp import LlamaCppTarget


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=embedded_model(), help="default: the embedded model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundled", action="store_true", help="the bundled runtime instead of llama.cpp")
    return parser.parse_args()


def answered(target: Target, forced: Forced) -> np.ndarray:
    """Logits (1 + answer, V) at the last prompt token and at each forced one, decoded one by one."""
    session = target.session(len(forced.prompt) + len(forced.answer), prompt=len(forced.prompt))
    rows = [session.extend(forced.prompt).logits[-1:]]
    rows += [session.extend([token]).logits for token in forced.answer]
    return np.concatenate(rows)


def distance(target: Target, reference: Reference, prompts: list[Forced]) -> dict[str, float]:
    """Largest and median error per position, smallest cosine, share of positions with the same best token."""
    ours = np.concatenate([answered(target, forced) for forced in prompts]).astype(np.float64)
    theirs = np.concatenate([reference.scores(forced).logits for forced in prompts]).astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(ours - theirs).max(axis=1)
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = (ours * theirs).sum(axis=1) / norms
    return {
        "max_error": round(float(error.max()), 4),
        "median_error": round(float(np.median(error)), 4),
        "min_cosine": round(float(cosine.min()), 5),
        "same_best": round(float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()), 3),
    }


def main() -> None:
    args = arguments()
    honest = LlamaCppTarget(args.model)
    target: Target = BundledTarget(args.model) if args.bundled else honest
    reference = honest.reference
    prompts = list(reference.prompts(args.prompts, args.seed))
    rows = {"the file as it is": distance(target, reference, prompts)}
    for spec in MODEL:
        for dose in (*spec.doses, spec.default):
            fault = Fault(spec.name, dose)
            try:
                with target.plant(fault) as mutant:
                    rows[str(fault)] = distance(mutant, reference, prompts)
            except CannotPlant as why:
                print(f"not planted: {why}")
    identity = target.identity
    print(f"{identity.engine} {identity.engine_version} on {args.model.name}, against the array backend")
    print(f"{'':<28}{'max error':>11}{'median':>11}{'min cosine':>12}{'same best':>11}")
    for name, row in rows.items():
        errors = f"{row['max_error']:>11.4f}{row['median_error']:>11.4f}"
        print(f"{name:<28}{errors}{row['min_cosine']:>12.5f}{row['same_best']:>11.3f}")
    print(json.dumps({"engine": identity.engine, "model": args.model.name, "rows": rows}))


if __name__ == "__main__":
    main()

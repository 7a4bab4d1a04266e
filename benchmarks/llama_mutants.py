"""How far llama.cpp's logits are from the reference's, on a model as it is and with faults in its file.

The reference is the bundled runtime's `array` backend on the file without faults: float32 throughout, while
llama.cpp rounds activations to 8 bits, so that even the honest file shows a distance. Needs llama-cpp-python,
which is no dependency of this project.

    python benchmarks/llama_mutants.py [--model FILE] [--prompts 16] [--seed 0] [--bundled]

Prints a table, then one JSON line, where what is not finite is null. Where two experts are nearly as good,
any rounding may choose the other one, and then the logits are far off in an honest engine too: so the largest
error is shown again for positions where the reference's routers are clear, and quantiles tell more than
maxima.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from refute.faults.base import Fault
from refute.faults.specs_logits import MODEL
from refute.select import embedded_model
from refute.targets.base import CannotPlant, Target
from refute.targets.bundled import BundledTarget
from refute.targets.llama_cpp import LlamaCppTarget
from refute.targets.scores import Forced, Reference


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=embedded_model(), help="default: the embedded model")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bundled", action="store_true", help="the bundled runtime instead of llama.cpp")
    return parser.parse_args()


CLEAR = 0.02  # probability between the last expert chosen and the next one, in every layer


def answered(target: Target, forced: Forced) -> np.ndarray:
    """Logits (1 + answer, V) at the last prompt token and at each forced one, decoded one by one."""
    session = target.session(len(forced.prompt) + len(forced.answer), prompt=len(forced.prompt))
    rows = [session.extend(forced.prompt).logits[-1:]]
    rows += [session.extend([token]).logits for token in forced.answer]
    return np.concatenate(rows)


def distance(target: Target, reference: Reference, prompts: list[Forced]) -> dict[str, float]:
    """Errors per position (the largest of its logits), cosines, and how often the best token is the same."""
    scores = [reference.scores(forced) for forced in prompts]
    ours = np.concatenate([answered(target, forced) for forced in prompts]).astype(np.float64)
    theirs = np.concatenate([each.logits for each in scores]).astype(np.float64)
    clear = np.concatenate([np.min(each.gaps, axis=1) for each in scores if each.gaps is not None]) > CLEAR
    with np.errstate(all="ignore"):
        error = np.abs(ours - theirs).max(axis=1)
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = (ours * theirs).sum(axis=1) / norms
        return {
            "median": float(np.median(error)),
            "p90": float(np.quantile(error, 0.9)),
            "max": float(error.max()),
            "max clear": float(error[clear].max()),
            "min cosine": float(cosine.min()),
            "same best": float((ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()),
        }


def main() -> None:
    args = arguments()
    honest = LlamaCppTarget(args.model)
    target: Target = BundledTarget(args.model, "array") if args.bundled else honest
    reference = honest.reference
    prompts = list(reference.prompts(args.prompts, args.seed))
    rows = {"the file as it is": distance(target, reference, prompts)}
    for spec in MODEL:
        if spec.name == "merge-dropped":  # it changes no logits
            continue
        for dose in (*spec.doses, spec.default):
            fault = Fault(spec.name, dose)
            try:
                with target.plant(fault) as mutant:
                    rows[str(fault)] = distance(mutant, reference, prompts)
            except CannotPlant as why:
                print(f"not planted: {why}")
    identity = target.identity
    print(f"{identity.engine} {identity.engine_version} on {args.model.name}, against the array backend")
    columns = list(rows["the file as it is"])
    print(f"{'':<26}" + "".join(f"{name:>12}" for name in columns))
    for name, row in rows.items():
        print(f"{name:<26}" + "".join(f"{row[column]:>12.4f}" for column in columns))
    found = {
        name: {column: round(value, 5) if np.isfinite(value) else None for column, value in row.items()}
        for name, row in rows.items()
    }
    print(json.dumps({"engine": identity.engine, "model": args.model.name, "rows": found}))


if __name__ == "__main__":
    main()

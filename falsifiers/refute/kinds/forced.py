"""Teacher forcing: tokens of a reference's sequence go through the target, whatever it would have said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from refute.kinds.base import Case
from refute.kinds.parameters import whole_number
from refute.targets.base import Target, TargetError, cut
from refute.targets.scores import Forced, Scores, implementation

LEAST_PROMPTS = 16
LEAST_FORCED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedParameters:
    """How much must be compared before a claim can survive.

    mode: decode prefills the prompt in chunks and then feeds one token at a time over the cache; prefill
    runs prompt and answer in one forward. prompts: different sequences. forced: positions after the
    prompt's last in each of them.
    """

    mode: Literal["decode", "prefill"]
    prompts: int
    forced: int

    def __post_init__(self) -> None:
        if self.mode not in {"decode", "prefill"}:
            raise ValueError(f"mode is {self.mode!r}, expected 'decode' or 'prefill'")
        whole_number("prompts", self.prompts, LEAST_PROMPTS)
        whole_number("forced", self.forced, LEAST_FORCED)


def forced_cases(target: Target, runs: int, seed: int) -> list[Case]:
    """One sequence of the target's reference per run; the first of two runs prefills in one chunk.

    A reference that has fewer sequences gives the same ones again, in other chunks.
    """
    draw = Random(seed)  # noqa: S311
    known = target.reference.prompts(runs, seed)
    if not known:
        raise TargetError("the reference has no sequence to compare with; expected at least one")
    return [
        {
            "run": run,
            "prompt": list(known[run % len(known)].prompt),
            "answer": list(known[run % len(known)].answer),
            "chunks": [draw.randint(1, 32) for _ in range(2)] if run % 2 else [],
        }
        for run in range(runs)
    ]


def forced_of(case: Case) -> Forced:
    """Return the sequence of a case."""
    return Forced(tuple(case["prompt"]), tuple(case["answer"]))


def run_forced(target: Target, case: Case, mode: str, *, routing: bool = False) -> Scores:
    """Scores of the target at the prompt's last token and at each of the answer's: T = 1 + len(answer)."""
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    prompt, answer = case["prompt"], case["answer"]
    session = target.session(len(prompt) + len(answer), prompt=len(prompt))
    pieces = [*cut(prompt, case["chunks"]), *((token,) for token in answer)]
    if mode == "prefill":
        pieces = [(*prompt, *answer)]
    parts = [session.extend(piece, routing=routing) for piece in pieces]
    kept = 1 + len(answer)

    def joined(name: str) -> Any:
        found = [getattr(part, name) for part in parts]
        return None if any(each is None for each in found) else np.concatenate(found)[-kept:]

    return Scores(*(joined(name) for name in ("logits", "experts", "weights", "gaps")))


def implementations(target: Target) -> dict[str, Any]:
    """Say whose numbers are compared, for the record: `compared_with_itself` judges by it."""
    return {"target": implementation(target.identity), "reference": dict(target.reference.identity)}


def compared_with_itself(samples: Any) -> bool:
    """Whether target and reference were one and the same implementation."""
    return bool(samples["implementations"]["target"] == samples["implementations"]["reference"])


def shortfall(cases: Sequence[tuple[Case, int]], parameters: ForcedParameters, runs: int) -> str | None:
    """Say what is missing before a claim may survive. cases: each with the positions that were compared."""
    if len(cases) < runs:
        return f"{len(cases)} runs of {runs} planned"
    different = distinct(case for case, _ in cases)
    if different < parameters.prompts:
        return f"{different} different prompts, expected at least {parameters.prompts}"
    fewest = min(positions for _, positions in cases)
    if fewest < 1 + parameters.forced:
        return f"{fewest - 1} forced positions in one case, expected at least {parameters.forced}"
    return None


def distinct(cases: Iterable[Case]) -> int:
    """Count the different sequences."""
    return len({forced_of(case) for case in cases})

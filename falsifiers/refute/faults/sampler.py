"""Sampler faults: what a sampler with this fault makes of the settings that it is asked for."""

from dataclasses import replace

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Sampling

FIXED_SEED = 0


def misread(fault: Fault, asked: Sampling) -> Sampling:
    """Return the settings that are used instead of those asked for; `asked` itself where it is spared.

    Raises `CannotPlant` for faults of other seams.
    """
    match fault.name:
        case "seed-ignored":
            return replace(asked, seed=None)
        case "seed-fixed":
            return replace(asked, seed=FIXED_SEED)
        case "temperature-scaled":
            return replace(asked, temperature=asked.temperature * fault.dose)
        case "top-k-widened":
            return replace(asked, top_k=asked.top_k + int(fault.dose)) if asked.top_k else asked
        case "greedy-sampled":
            return asked if asked.temperature else replace(asked, temperature=fault.dose)
        case "penalty-twice":
            # dividing (or multiplying) n times by p is doing it once by p ** n
            return replace(asked, repetition_penalty=asked.repetition_penalty ** (1 + int(fault.dose)))
        case _:
            raise CannotPlant(f"{fault}: not a fault of the sampler")

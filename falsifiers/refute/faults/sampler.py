"""Sampler faults: other settings than those asked for, or a repetition penalty that is applied wrongly.

A sampler that has the second kind of fault gets logits that were penalised already, and a penalty of 1.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Sampling

FIXED_SEED = 0
_SHARED = frozenset({"seed-ignored", "seed-fixed"})  # the dose is the share of requests that they affect
_MISPENALISED = frozenset({"penalty-per-occurrence", "penalty-sign", "penalty-window"})


class DrawsTokens(Protocol):
    """The runtime's sampler."""

    def next(self, logits: np.ndarray, history: Sequence[int]) -> int: ...


class SamplerFault:
    """One planted sampler fault; it decides request by request, so every planted target has its own."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        # Not every n-th request: falsifiers repeat requests in a rhythm of their own.
        self._turns = random.Random(0)  # noqa: S311

    def settings(self, asked: Sampling) -> Sampling:
        """Return the settings that the sampler of the next request uses."""
        if self.fault.name in _SHARED and self._turns.random() >= self.fault.dose:
            return asked
        return misread(self.fault, asked)

    def logits(self, logits: np.ndarray, history: Sequence[int], prompt: int, asked: Sampling) -> np.ndarray:
        """Return what the sampler sees of raw logits (V,); the first `prompt` tokens of history are it."""
        if self.fault.name not in _MISPENALISED:
            return logits
        return mispenalised(self.fault, logits, history, prompt, asked.repetition_penalty)


class WrappedSampler:
    """The runtime's sampler of one request, behind a fault."""

    def __init__(self, inner: DrawsTokens, fault: SamplerFault, asked: Sampling, prompt: int) -> None:
        self.inner = inner
        self.fault = fault
        self.asked = asked
        self.prompt = prompt

    def next(self, logits: np.ndarray, history: Sequence[int]) -> int:
        return self.inner.next(self.fault.logits(logits, history, self.prompt, self.asked), history)


def misread(fault: Fault, asked: Sampling) -> Sampling:
    """Return the settings that are used instead of those asked for; `asked` itself where it is spared.

    Raises `CannotPlant` for faults of other seams.
    """
    penalty = asked.repetition_penalty
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
            return replace(asked, repetition_penalty=penalty ** (1 + fault.dose))
        case "penalty-ignored":
            return replace(asked, repetition_penalty=penalty ** (1 - fault.dose))
        case "penalty-at-one":
            return replace(asked, repetition_penalty=1 + fault.dose) if penalty == 1 else asked
        case name if name in _MISPENALISED:
            return replace(asked, repetition_penalty=1.0)
        case _:
            raise CannotPlant(f"{fault}: not a fault of the sampler")


def mispenalised(
    fault: Fault, logits: np.ndarray, history: Sequence[int], prompt: int, penalty: float
) -> np.ndarray:
    """Penalise raw logits (V,) as a sampler with this fault does; a float64 copy."""
    scores = logits.astype(np.float64)
    window = list(history)
    if fault.name == "penalty-window":
        window = window[min(int(fault.dose), prompt) :]
    if penalty == 1 or not window:
        return scores
    ids, counts = np.unique(np.asarray(window), return_counts=True)
    factors: Any = penalty  # by which positive logits are divided
    if fault.name == "penalty-per-occurrence":
        factors = penalty ** (1 + fault.dose * (counts - 1))
    multiplier = penalty ** (1 - 2 * fault.dose) if fault.name == "penalty-sign" else factors
    seen = scores[ids]
    scores[ids] = np.where(seen > 0, seen / factors, seen * multiplier)
    return scores

"""From logits to a token: the exact distribution, and a sampler that draws from it.

Settings apply in the order of Hugging Face's logits processors: repetition penalty, temperature, top-k,
top-p, min-p; OpenAI's frequency and presence penalties come before temperature. Logits that are equal rank
by id, the lower first, so that every cut is deterministic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from refute_runtime.errors import RequestError, RuntimeFailure


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling settings. temperature 0 is greedy; top_k 0, top_p 1, min_p 0, repetition_penalty 1 switch off.

    frequency_penalty is subtracted from a token's logit once for each time that the answer so far has it,
    presence_penalty once if it has it at all; the repetition penalty counts the prompt's tokens too.
    seed None draws from fresh entropy. Raises `RequestError` naming the field.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, "a number of at least 0", lambda t: t >= 0)
        _check("top_p", self.top_p, "a number above 0 and at most 1", lambda p: 0 < p <= 1)
        _check("min_p", self.min_p, "a number from 0 to 1", lambda p: 0 <= p <= 1)
        _check("repetition_penalty", self.repetition_penalty, "a number above 0", lambda p: p > 0)
        _check("presence_penalty", self.presence_penalty, "a number from -2 to 2", lambda p: -2 <= p <= 2)
        _check("frequency_penalty", self.frequency_penalty, "a number from -2 to 2", lambda p: -2 <= p <= 2)
        check_whole("top_k", self.top_k)
        if self.seed is not None:
            check_whole("seed", self.seed)

    @property
    def greedy(self) -> bool:
        """Whether the token of highest logit is certain."""
        return self.temperature == 0 or self.top_k == 1

    @property
    def highest(self) -> bool:
        """Whether the token is that of the highest logit as it is, without penalties."""
        return self.greedy and (
            self.repetition_penalty == 1 and not self.presence_penalty and not self.frequency_penalty
        )


class Sampler:
    """Draws tokens for one request, with a generator of its own.

    The history at its first draw is the prompt, and what comes after it is the answer.
    """

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._generator = np.random.Generator(np.random.PCG64(params.seed))
        self._prompt: int | None = None  # tokens

    def next(self, logits: np.ndarray, history: Sequence[int]) -> int:
        """Draw a token id from raw logits (V,); `history` holds prompt and answer so far.

        Raises `RuntimeFailure` for logits that are no distribution.
        """
        if self._prompt is None:
            self._prompt = len(history)
        if self.params.greedy:
            return _highest(_penalised(logits, self.params, history, self._prompt))
        p = probabilities(logits, self.params, history, self._prompt)
        support = np.flatnonzero(p)
        cumulative = np.cumsum(p[support])
        # Inverse CDF. Rounding may put the draw on the very end, which belongs to the last token.
        place = np.searchsorted(cumulative, self._generator.random() * cumulative[-1], side="right")
        return int(support[min(int(place), len(support) - 1)])


def probabilities(
    logits: np.ndarray, params: SamplingParams, history: Sequence[int] = (), prompt: int | None = None
) -> np.ndarray:
    """Return the exact distribution (V,) float64 that `Sampler` draws from.

    prompt: how many tokens of `history` are the prompt, the others being the answer so far; None for all.
    Raises `RuntimeFailure` for logits that are no distribution.
    """
    scores = _penalised(logits, params, history, len(history) if prompt is None else prompt)
    best = _highest(scores)
    if params.greedy:
        certain = np.zeros(len(scores))
        certain[best] = 1.0
        return certain

    with np.errstate(over="ignore"):  # a tiny temperature takes all but the best to minus infinity
        p: np.ndarray = np.exp((scores - scores[best]) / params.temperature)
    p /= p.sum()
    if params.top_k or params.top_p < 1:
        kept = ranked(scores, params.top_k or len(scores))
        cumulative = np.cumsum(p[kept])
        before = cumulative - p[kept]
        kept = kept[before < params.top_p * cumulative[-1]]  # up to the token that reaches top_p
    elif params.min_p:
        kept = np.arange(len(scores))
    else:
        return p
    kept = kept[p[kept] >= params.min_p * p[best]]
    truncated = np.zeros_like(p)
    truncated[kept] = p[kept] / p[kept].sum()
    return truncated


def ranked(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the ids of the `count` highest scores (V,), highest first, the lower id first among equals."""
    count = min(count, len(scores))
    candidates = np.flatnonzero(scores >= np.partition(scores, -count)[-count])  # also all that tie
    in_order: np.ndarray = candidates[np.argsort(-scores[candidates], kind="stable")]
    return in_order[:count]


def _penalised(logits: np.ndarray, params: SamplingParams, history: Sequence[int], prompt: int) -> np.ndarray:
    """float64 logits (V,), those of tokens in `history`, and in its answer, made less likely."""
    scores = logits.astype(np.float64)
    penalty = params.repetition_penalty
    if penalty != 1 and len(history):
        ids = np.unique(np.asarray(history))  # each once, however often it occurs
        seen = scores[ids]
        scores[ids] = np.where(seen > 0, seen / penalty, seen * penalty)
    if (params.frequency_penalty or params.presence_penalty) and len(history) > prompt:
        ids, counts = np.unique(np.asarray(history[prompt:]), return_counts=True)
        scores[ids] -= params.frequency_penalty * counts + params.presence_penalty
    return scores


def _highest(scores: np.ndarray) -> int:
    """The id of the highest score, the lowest id among equals."""
    best = int(scores.argmax())  # NaN counts as highest
    check_finite(best, float(scores[best]))
    return best


def check_finite(token: int, logit: float) -> None:
    """Raise `RuntimeFailure` where the highest logit is no number."""
    if not np.isfinite(logit):
        raise RuntimeFailure(
            f"the highest logit is {logit} at token {token}, expected a finite number; the model "
            "or its backend is broken"
        )


def _check(field: str, value: object, expected: str, holds: Callable[[float], bool]) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not holds(value)
    ):
        raise RequestError(f"{field} is {value!r}, expected {expected}")


def check_whole(field: str, value: object, least: int = 0) -> None:
    """Raise `RequestError` naming the field unless the value is a whole number of at least so much."""
    if not is_whole(value) or value < least:
        raise RequestError(f"{field} is {value!r}, expected a whole number of at least {least}")


def is_whole(value: object) -> TypeGuard[int | np.integer]:
    """Whether it is an integer, of Python or of NumPy; True and False are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

"""Repetition penalty: a token that was drawn must be among the best by the reference logits, penalised.

The reference logits come from one prefill of prompt and answer: what follows a position does not change
its logits. The law is applied to them here, and with it each position says which tokens could be drawn:
the best (greedy), or the best k of a sampled request with top-k. Laws that an engine might follow instead,
the rivals, say which cases could have shown it: where one allows no other tokens, nothing is learned of it.
Letters: V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases
from refute.kinds.parameters import Lengths, in_unit, several, whole_number
from refute.targets.base import Request, Sampling, Target, TargetError
from refute.units import parse_quantity

if TYPE_CHECKING:
    import numpy as np
    from hypothesis.strategies import SearchStrategy

_LARGEST_SEED = 2**32 - 1
_PROBE = 1.3  # the penalty of an engine that is never neutral
_DECIMALS = 6  # of the logits that are kept: their rounding is far below any tie bound

Law = Callable[["np.ndarray", Sequence[int], int, float], "np.ndarray"]
"""(raw logits (V,), prompt and answer so far, length of the prompt, penalty) -> scores (V,) float64"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyParameters(Lengths):
    """Penalties and ranks to search, the tie bound, and the law that the claim excludes.

    repeats: how often the prompt is said: 1 is once.
    own_tokens: so many tokens of a greedy answer without penalty are put after the prompt: what the model
    has said itself is what it would say again.
    ranks: how many of the best tokens may be drawn: 1 is greedy, more are drawn with top-k, `50 %` is of
    the vocabulary. temperature: of the sampled requests. margin: a token that lies less than this below
    the last allowed one is a tie. rivals: which other laws a case must tell apart, all of them, in order to
    count.
    """

    penalties: tuple[float, ...]
    ranks: tuple[int | str, ...]
    temperature: float
    repeats: int
    own_tokens: int
    margin: str
    rivals: tuple[str, ...]

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        object.__setattr__(self, "penalties", several("penalties", self.penalties))
        object.__setattr__(self, "ranks", several("ranks", self.ranks))
        for penalty in (*self.penalties, self.temperature):
            if isinstance(penalty, bool) or not isinstance(penalty, int | float) or penalty <= 0:
                raise ValueError(f"a penalty or temperature is {penalty!r}, expected a number above 0")
        for rank in self.ranks:
            if isinstance(rank, str):
                in_unit("a rank", rank, "%")
            else:
                whole_number("a rank", rank, 1)
        if not self.penalties or not self.ranks:
            raise ValueError("penalties and ranks are lists of at least one number each")
        whole_number("repeats", self.repeats, 1)
        whole_number("own_tokens", self.own_tokens, 0)
        in_unit("margin", self.margin, "logit")
        object.__setattr__(self, "rivals", several("rivals", self.rivals))
        if not self.rivals or any(rival not in _RIVALS for rival in self.rivals):
            raise ValueError(f"rivals is {list(self.rivals)}, expected one or more of {', '.join(_RIVALS)}")


class RepetitionPenalty(Searched[PenaltyParameters]):
    """Tokens are drawn from logits whose tokens in prompt and answer were penalised once each."""

    name = "repetition-penalty"
    rule_version = "2"
    requires = frozenset({"token_ids", "seed", "logits"})
    tries = 5
    parameters_type = PenaltyParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "margin": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, penalties, ranks and seeds."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        lengths = self.parameters
        more = lengths.own_tokens + (lengths.repeats - 1) * lengths.prompt_tokens[1]
        return cases(
            target,
            replace(lengths, max_tokens=lengths.max_tokens + more),
            penalty=st.sampled_from(lengths.penalties),
            rank=st.sampled_from(lengths.ranks).map(lambda rank: _rank(target, rank)),
            seed=st.integers(0, _LARGEST_SEED),
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Generate, and say of each token how far it lies below the last one that the law allows.

        rivals: how far the worst token that each rival law allows lies below it.
        """
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        prompt, rank, penalty = case["prompt"] * self.parameters.repeats, case["rank"], case["penalty"]
        if self.parameters.own_tokens:
            own = target.generate(Request(tuple(prompt), self.parameters.own_tokens))
            prompt = [*prompt, *own.tokens]
        sampling = Sampling(repetition_penalty=penalty)
        if rank > 1:
            sampling = Sampling(self.parameters.temperature, rank, 1.0, 0.0, penalty, case["seed"])
        tokens = list(target.generate(Request(tuple(prompt), self.parameters.max_tokens, sampling)).tokens)
        logits = target.logits([*prompt, *tokens])[len(prompt) - 1 : -1]
        if not np.isfinite(logits).all():
            raise TargetError("the reference logits are not finite, so they say nothing about a penalty")
        below: list[float] = []
        rivals: dict[str, list[float]] = {rival: [] for rival in self.parameters.rivals}
        for index, (row, token) in enumerate(zip(logits, tokens, strict=True)):
            past = [*prompt, *tokens[:index]]
            scores = penalised(row, past, len(prompt), penalty)
            last = np.partition(scores, -rank)[-rank]
            below.append(_kept(last - scores[token]))
            for rival, distances in rivals.items():
                others = _RIVALS[rival](row, past, len(prompt), penalty)
                allowed = scores[np.argpartition(others, -rank)[-rank:]]
                distances.append(_kept(last - allowed.min()))
        return Observation(case, {"prompt": prompt, "tokens": tokens, "below": below, "rivals": rivals})

    def refutes(self, observation: Observation) -> bool:
        """A token that the law does not allow, beyond a tie."""
        return any(below > self._margin for below in observation.samples["below"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when each rival law would have allowed a token that this one does not."""
        return all(max(below, default=0.0) > self._margin for below in observation.samples["rivals"].values())

    @property
    def _margin(self) -> float:
        return parse_quantity(self.parameters.margin).value


def penalised(
    logits: "np.ndarray",
    past: Sequence[int],
    prompt: int,  # noqa: ARG001 (a law's arguments)
    penalty: float,
) -> "np.ndarray":
    """Scores (V,) by the law: positive logits of tokens of the past divided, others multiplied, once each."""
    return _law(logits, past, lambda _: penalty, lambda _: penalty)


def _law(
    logits: "np.ndarray",
    window: Sequence[int],
    divisor: Callable[["np.ndarray"], Any],
    multiplier: Callable[["np.ndarray"], Any],
) -> "np.ndarray":
    """Penalise tokens of the window; both factors are functions of how often each one occurs."""
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    scores = logits.astype(np.float64)
    if window:
        ids, counts = np.unique(np.asarray(window), return_counts=True)
        seen = scores[ids]
        scores[ids] = np.where(seen > 0, seen / divisor(counts), seen * multiplier(counts))
    return scores


_RIVALS: dict[str, Law] = {
    "ignored": lambda logits, _past, _prompt, _p: _law(logits, (), lambda _: 1, lambda _: 1),
    "twice": lambda logits, past, _, p: _law(logits, past, lambda _: p * p, lambda _: p * p),
    "never-neutral": lambda logits, past, _, p: _law(
        logits, past, lambda _: p * _PROBE, lambda _: p * _PROBE
    ),
    "answer-only": lambda logits, past, n, p: _law(logits, past[n:], lambda _: p, lambda _: p),
    "per-occurrence": lambda logits, past, _, p: _law(logits, past, lambda n: p**n, lambda n: p**n),
    "always-divided": lambda logits, past, _, p: _law(logits, past, lambda _: p, lambda _: 1 / p),
}
"""Laws that engines are known to follow instead, by the name that contracts write."""


def _rank(target: Target, rank: int | str) -> int:
    """How many tokens may be drawn; at least one, at most all."""
    vocabulary = target.identity.vocabulary
    count = round(parse_quantity(rank).value * vocabulary) if isinstance(rank, str) else rank
    return min(max(count, 1), vocabulary)


def _kept(distance: float) -> float:
    return round(max(float(distance), 0.0), _DECIMALS)

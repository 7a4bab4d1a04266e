"""Sampling distribution: sampled tokens follow the softmax of the scaled, truncated reference logits.

Every sampled token is one trial. Given its prefix, the reference logits say how likely each token was;
lay the tokens on [0, 1) in order of falling probability, and the point where the sampled one fell (drawn
uniformly within its own stretch) is uniform on [0, 1), whatever the prefix. So tokens of many prefixes
pool into one exact binomial test per bin: too hot a sampler fills the upper bins, too cold a one the
lower. A token outside the truncated support refutes at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Drawn, Observation, Planned
from refute.kinds.cases import some_prompt
from refute.kinds.parameters import several
from refute.statistics import binomial_two_sided, detectable_deviation
from refute.targets.base import Request, Sampling, Target
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound

_DECIDED = 0.9  # where the likeliest token has more than this, a draw says nothing about the sampler
_LOGIT_SLACK = 1e-3  # prefill and decode round logits differently
_MASS_SLACK = 1e-3
_POWER = 0.9
_LOOKS = 4  # at a fault's bins: a quarter of the runs, a half, and so on, at a quarter of the level each


@dataclass(frozen=True, slots=True)
class DistributionParameters:
    """settings: sampling settings, used in turn. bins: equal stretches of [0, 1)."""

    max_tokens: int
    prompt_tokens: int
    bins: int
    settings: tuple[Mapping[str, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", several("settings", self.settings))
        for setting in self.settings:
            if not isinstance(setting, Mapping):
                raise TypeError(f"settings has {setting!r}, expected sampling settings by name")
            Sampling(**setting)  # type: ignore[arg-type]  # TypeError names the unknown key
        if not self.settings or any(setting.get("temperature", 0) <= 0 for setting in self.settings):
            raise ValueError("settings must name at least one sampling setting with a temperature above 0")
        if self.bins < 2:
            raise ValueError(f"bins is {self.bins}, expected at least 2")


class SamplingDistribution(Planned[DistributionParameters]):
    """Sampled frequencies follow the exact probabilities."""

    name = "sampling-distribution"
    rule_version = "2"
    requires = frozenset({"token_ids", "seed", "logits"})
    parameters_type = DistributionParameters
    bound_fields = frozenset({"of", "within", "confidence", "runs"})
    unit = "%"
    measured = "bin-probability"
    # A higher confidence rejects less and detects less: neither way is stricter.
    stricter = MappingProxyType({"within": "lower", "runs": "higher", "max_tokens": "higher"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another prompt and seed for every run, the settings in turn."""
        settings = self.parameters.settings
        return [
            {
                "run": run,
                "prompt": some_prompt(target, self.parameters.prompt_tokens, seed + run),
                "sampling": {**settings[run % len(settings)], "seed": seed + run},
                "max_tokens": self.parameters.max_tokens,
            }
            for run in range(runs)
        ]

    def observe(self, target: Target, case: Case) -> Observation:
        """Sample one answer and place each of its open choices on [0, 1)."""
        sampling = Sampling(**case["sampling"])
        tokens = target.generate(Request(tuple(case["prompt"]), case["max_tokens"], sampling)).tokens
        logits = target.logits([*case["prompt"], *tokens])[len(case["prompt"]) - 1 : -1]
        # Seeded by a text: the engine may well draw from Random(seed) itself, and must not be echoed.
        within_token = Random(f"place within the token, seed {case['sampling']['seed']}")  # noqa: S311
        places, outside = [], 0
        for row, token in zip(logits, tokens, strict=True):
            law = probabilities(row, sampling)
            draw = within_token.random()
            if law[token] == 0 and not _borderline(row, token, sampling):
                outside += 1
            elif law.max() <= _DECIDED and law[token] > 0:
                above = float(law[_ranked_before(law, token)].sum())
                places.append(min(above + draw * float(law[token]), 1.0))
        return Observation(case, {"places": places, "outside": outside, "tokens": list(tokens)})

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Test every bin exactly, at a level that all bins share."""
        assert bound.runs is not None
        assert bound.within is not None
        counts, outside = self._counts(observations)
        n, expected = sum(counts), 1 / self.parameters.bins
        alpha = (1 - bound.confidence) / self.parameters.bins
        off = max((abs(count / n - expected) for count in counts), default=0.0) if n else 0.0
        if outside:
            reason = f"{outside} tokens came from outside the truncated support"
            return Judgement(Outcome.FALSIFIED, reason, n, outside, off, unit="%")
        if len(observations) < bound.runs or n == 0:
            reason = f"{len(observations)} runs of {bound.runs} planned, {n} open choices"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0, off, unit="%")
        rejected = self._rejected(counts, 1 - bound.confidence)
        effect = detectable_deviation(n, expected, alpha, _POWER)
        if rejected:
            reason = f"bins {rejected} of {self.parameters.bins} deviate by up to {off:.1%} in {n} choices"
            return Judgement(Outcome.FALSIFIED, reason, n, len(rejected), off, upper=effect, unit="%")
        if effect > bound.within:
            reason = f"{n} choices only detect a deviation of {effect:.1%}"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0, off, upper=effect, unit="%")
        reason = f"no bin deviates in {n} choices; {effect:.1%} would have been detected"
        return Judgement(Outcome.SURVIVED, reason, n, 0, off, upper=effect, unit="%")

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A token outside the support settles it; the bins are looked at a few times, at a stricter level.

        So an honest sampler is called faulty no more often than one look at the full level would.
        """
        assert bound.runs is not None
        if any(observation.samples["outside"] for observation in observations):
            return True
        looks = [bound.runs * look // _LOOKS for look in range(1, _LOOKS + 1)]
        return any(
            self._rejected(self._counts(observations[:runs])[0], (1 - bound.confidence) / _LOOKS)
            for runs in looks
            if 0 < runs <= len(observations)
        )

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The largest deviation of a bin, and what would have been detected."""
        if judgement.upper is None:
            return f"{judgement.violations} outside the support"
        off = 0.0 if judgement.point is None else judgement.point
        return f"off by {off:.1%}, detects {judgement.upper:.1%} (≤ {bound.within:.0%}), n={judgement.n}"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """How far the share of every bin is off."""
        counts, _ = self._counts(observations)
        n, expected = max(sum(counts), 1), 1 / self.parameters.bins
        return Drawn([abs(count / n - expected) for count in counts], "bin")

    def _rejected(self, counts: Sequence[int], alpha: float) -> list[int]:
        """The bins that deviate at a level that all bins share."""
        n, bins = sum(counts), self.parameters.bins
        if not n:
            return []
        return [i for i, k in enumerate(counts) if binomial_two_sided(k, n, 1 / bins) < alpha / bins]

    def _counts(self, observations: Sequence[Observation]) -> tuple[list[int], int]:
        counts = [0] * self.parameters.bins
        for observation in observations:
            for place in observation.samples["places"]:
                counts[min(int(place * self.parameters.bins), self.parameters.bins - 1)] += 1
        return counts, sum(observation.samples["outside"] for observation in observations)


def probabilities(logits: "np.ndarray[Any, Any]", sampling: Sampling) -> "np.ndarray[Any, Any]":
    """Return the exact law (V,) float64 of one step: temperature, top-k, top-p, min-p, in this order.

    Equal logits keep the lower id, as greedy does. Settings that look at the past (repetition penalty)
    are not part of it.
    """
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    scaled = np.asarray(logits, dtype=np.float64) / sampling.temperature
    law = np.exp(scaled - scaled.max())
    law /= law.sum()
    order = np.argsort(-law, kind="stable")
    keep = len(law) if sampling.top_k == 0 else min(sampling.top_k, len(law))
    law[order[keep:]] = 0
    law /= law.sum()
    if sampling.top_p < 1:
        before = np.cumsum(law[order]) - law[order]
        law[order[before >= sampling.top_p]] = 0
        law /= law.sum()
    law[law < sampling.min_p * law.max()] = 0
    result: np.ndarray[Any, Any] = law / law.sum()
    return result


def _ranked_before(law: "np.ndarray[Any, Any]", token: int) -> "np.ndarray[Any, Any]":
    """Mask (V,) of the tokens that lie before this one: likelier, or as likely with a lower id."""
    import numpy as np  # noqa: PLC0415

    mask: np.ndarray[Any, Any] = law > law[token]
    mask |= (law == law[token]) & (np.arange(len(law)) < token)
    return mask


def _borderline(logits: "np.ndarray[Any, Any]", token: int, sampling: Sampling) -> bool:
    """Whether rounding alone can have carried a token over the edge of the support."""
    widened = Sampling(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=min(1.0, sampling.top_p + _MASS_SLACK),
        min_p=max(0.0, sampling.min_p - _MASS_SLACK),
    )
    raised = logits.copy()
    raised[token] += _LOGIT_SLACK
    return bool(probabilities(raised, widened)[token] > 0)

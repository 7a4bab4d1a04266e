"""Routing: the experts of a token and their weights against another implementation, and expert load.

Letters: T positions, L layers, K experts per token, E experts.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from refute.kinds.base import Case, Drawn, Observation, Planned
from refute.kinds.forced import (
    ForcedParameters,
    compared_with_itself,
    distinct,
    forced_cases,
    forced_of,
    implementations,
    run_forced,
    shortfall,
)
from refute.kinds.parameters import in_unit, several, whole_number, within
from refute.statistics import binomial_interval, binomial_tail, excluded_rate
from refute.targets.base import Target, TargetError
from refute.units import parse_quantity
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    import numpy as np

    from refute.contract import Bound

_LISTED = 20  # differences of one case that are stored; the first one decides


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsParameters(ForcedParameters):
    """gap: where the reference's router leads by less than this, another expert is a tie."""

    gap: str

    def __post_init__(self) -> None:
        ForcedParameters.__post_init__(self)
        in_unit("gap", self.gap, "%")


class ExpertsAsReference(Planned[ExpertsParameters]):
    """The experts chosen for a token and their weights are the reference's; weights sum to 1.

    Stored reduced: the first differences of a case in order of position, then layer, and the largest
    errors of the weights before them.
    """

    name = "experts-as-reference"
    rule_version = "1"
    requires = frozenset({"token_ids", "sessions", "reference", "routing"})
    parameters_type = ExpertsParameters
    bound_fields = frozenset({"of", "within", "confidence", "runs"})
    unit = "%"
    stricter = MappingProxyType({**Planned.stricter, "prompts": "higher", "forced": "higher", "gap": "lower"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Sequences of the reference, every other one in chunks."""
        return forced_cases(target, runs, seed)

    def observe(self, target: Target, case: Case) -> Observation:
        """Force the sequence and compare what the routers decided."""
        import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

        theirs = target.reference.scores(forced_of(case))
        ours = run_forced(target, case, self.parameters.mode, routing=True)
        if ours.experts is None or ours.weights is None:
            raise ValueError("the target promises routing but reported none")
        if theirs.experts is None or theirs.weights is None or theirs.gaps is None:
            raise TargetError("the reference has no routing to compare with")
        if ours.experts.shape != theirs.experts.shape:
            raise TargetError(f"experts are {ours.experts.shape}, expected {theirs.experts.shape}")
        T, L, _ = theirs.experts.shape
        differ = (ours.experts != theirs.experts).any(axis=-1)  # (T, L)
        places = np.argwhere(differ).tolist()
        before = int(places[0][0]) * L + int(places[0][1]) if places else T * L
        errors = np.abs(ours.weights - theirs.weights).max(axis=-1).ravel()[:before]
        sums = np.abs(ours.weights.sum(axis=-1, dtype=np.float64) - 1)
        return Observation(
            case,
            {
                "implementations": implementations(target),
                "positions": T,
                "decisions": T * L,
                "differences": len(places),
                "first": [
                    {
                        "position": position,
                        "layer": layer,
                        "experts": ours.experts[position, layer].tolist(),
                        "reference": theirs.experts[position, layer].tolist(),
                        "gap": float(theirs.gaps[position, layer]),
                    }
                    for position, layer in places[:_LISTED]
                ],
                "compared": before,
                "weight_error": _largest(errors),
                "sum_error": _largest(sums),
            },
        )

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Other experts, other weights or weights that miss 1 falsify; a tie ends a case's comparison.

        A turned tie changes every later layer, and every later position, so only the first difference
        says whose fault it is.
        """
        assert bound.runs is not None
        assert bound.within is not None
        gap = parse_quantity(self.parameters.gap).value
        samples = [observation.samples for observation in observations]
        decisions = sum(each["compared"] for each in samples)
        other = sum(bool(each["first"]) and each["first"][0]["gap"] > gap for each in samples)
        unequal = sum(not within(each["weight_error"], bound.within) for each in samples)
        unsummed = sum(not within(each["sum_error"], bound.within) for each in samples)
        known = [each["weight_error"] for each in samples if each["weight_error"] is not None]
        largest = max(known, default=None)

        def judged(outcome: Outcome, reason: str, rate: float | None = None) -> Judgement:
            bad = other or unsummed or unequal
            return Judgement(outcome, reason, decisions, bad, largest, unit="%", excluded_rate=rate)

        of = f"of {len(samples)} sequences"
        if other:
            return judged(Outcome.FALSIFIED, f"in {other} {of} a token goes to other experts")
        if unsummed:
            return judged(Outcome.FALSIFIED, f"in {unsummed} {of} an expert's weights do not sum to 1")
        if unequal:
            return judged(Outcome.FALSIFIED, f"in {unequal} {of} an expert's weight is off")
        if any(map(compared_with_itself, samples)):
            reason = "target and reference are one implementation: it was compared with itself"
            return judged(Outcome.INCONCLUSIVE, reason)
        # a tie ends a comparison, so positions count up to there
        layers = [each["decisions"] // max(each["positions"], 1) for each in samples]
        whole = [each["compared"] // max(count, 1) for each, count in zip(samples, layers, strict=True)]
        cases = [(observation.case, n) for observation, n in zip(observations, whole, strict=True)]
        ties = sum(bool(each["first"]) for each in samples)
        clean = [pair for pair, each in zip(cases, samples, strict=True) if not each["first"]]
        missing = shortfall(clean, self.parameters, bound.runs - ties)
        if missing:
            return judged(Outcome.INCONCLUSIVE, missing + (f"; {ties} ended at a tie" if ties else ""))
        rate = excluded_rate(distinct(case for case, _ in clean), bound.confidence)
        reason = f"the same experts in {decisions} decisions, weights off by up to {largest:.2g}"
        return judged(Outcome.SURVIVED, f"{reason}; {ties} ties" if ties else reason, rate)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught once what was seen falsifies."""
        return self.judge(observations, bound).outcome is Outcome.FALSIFIED

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """Sequences that differ, or the largest error of a weight."""
        if judgement.violations or judgement.point is None:
            return f"{judgement.violations} sequences differ, n={judgement.n}"
        return f"0 differ, weights off {judgement.point:.1g} ≤ {bound.within:.1g}, n={judgement.n}"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The largest error of a weight in every sequence."""
        errors = [observation.samples["weight_error"] for observation in observations]
        return Drawn([math.nan if error is None else error for error in errors], "sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadParameters:
    """texts: the corpus. prompt_tokens: tokens of a prompt. idle: an expert in fewer prompts is dead."""

    texts: tuple[str, ...]
    prompt_tokens: int
    idle: str
    unused: str

    def __post_init__(self) -> None:
        texts = several("texts", self.texts)
        object.__setattr__(self, "texts", texts)
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError("texts is empty or holds an empty text, expected texts to draw prompts from")
        whole_number("prompt_tokens", self.prompt_tokens, 1)
        in_unit("idle", self.idle, "%")
        in_unit("unused", self.unused, "%")


class ExpertLoad(Planned[LoadParameters]):
    """Over a corpus no layer leaves most of its experts dead, and none sends all tokens to one.

    Experts of a trained model specialize, so that some may rest over a few texts; a router that collapsed
    leaves most of them.

    A prompt is a stretch of a text. Tokens of one prompt are no independent trials, so intervals count
    prompts: for the load one position of each, drawn with the prompt; for dead experts whether the prompt
    used them anywhere.
    """

    name = "expert-load"
    rule_version = "1"
    requires = frozenset({"token_ids", "sessions", "routing"})
    parameters_type = LoadParameters
    bound_fields = frozenset({"of", "below", "confidence", "runs"})
    unit = "%"
    stricter = MappingProxyType({**Planned.stricter, "idle": "higher", "unused": "lower"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Draw stretches of the texts, with a position in each."""
        draw, size = Random(seed), self.parameters.prompt_tokens  # noqa: S311
        corpus = [list(target.encode(text)) for text in self.parameters.texts]
        cases = []
        for run in range(runs):
            text = draw.choice(corpus)
            start = draw.randrange(max(len(text) - size, 0) + 1)
            prompt = text[start : start + size]
            cases.append({"run": run, "prompt": prompt, "position": draw.randrange(len(prompt))})
        return cases

    def observe(self, target: Target, case: Case) -> Observation:
        """Run the prompt in one forward; the experts at the position, and all that the prompt used."""
        prompt = case["prompt"]
        experts = target.session(len(prompt), prompt=len(prompt)).extend(prompt, routing=True).experts
        if experts is None:
            raise ValueError("the target promises routing but reported none")
        return Observation(
            case,
            {
                "experts": target.identity.experts,
                "chosen": experts[case["position"]].tolist(),
                "used": [sorted(set(layer.ravel().tolist())) for layer in experts.swapaxes(0, 1)],
            },
        )

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """Test the largest load and every unused expert exactly, at a level that all experts share."""
        assert bound.runs is not None
        assert bound.below is not None
        n = len(observations)
        counts, unused = _loads(observations)
        if not counts:
            return Judgement(Outcome.INCONCLUSIVE, "no prompt was routed", n, 0, unit="%")
        level = _level(bound.confidence, counts)
        (layer, expert), most = max(counts.items(), key=lambda item: item[1])
        lower, upper = binomial_interval(most, n, 1 - 2 * level)

        def judged(outcome: Outcome, reason: str) -> Judgement:
            return Judgement(outcome, reason, n, len(unused), most / n, lower, upper, "%")

        name = f"expert {expert} of layer {layer}"
        if lower > bound.below:
            return judged(Outcome.FALSIFIED, f"{name} takes {most} of {n} tokens")
        resting, idle_layer = self._most_unused(counts, unused)
        too_many = resting > parse_quantity(self.parameters.unused).value
        of_layer = f"{resting:.0%} of the experts of layer {idle_layer}"
        if too_many and math.log(level) / n > math.log1p(-parse_quantity(self.parameters.idle).value):
            return judged(Outcome.FALSIFIED, f"{of_layer} are dead: not used by any of {n} prompts")
        if n < bound.runs:
            return judged(Outcome.INCONCLUSIVE, f"{n} runs of {bound.runs} planned")
        if too_many:
            reason = f"{of_layer} were not used by {n} prompts, too few to call them dead"
            return judged(Outcome.INCONCLUSIVE, reason)
        if upper > bound.below:
            return judged(Outcome.INCONCLUSIVE, f"{name} takes up to {upper:.1%} of the tokens")
        used = f"{len(counts) - len(unused)} of {len(counts)} experts were used"
        reason = f"{used}; {name} takes the most, at most {upper:.1%}"
        return judged(Outcome.SURVIVED, reason)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught once the planned prompts cannot survive, whatever follows."""
        assert bound.runs is not None
        assert bound.below is not None
        counts, unused = _loads(observations)
        if not counts:
            return False
        spread = self._spread(counts, bound)
        too_many = self._most_unused(counts, unused)[0] > parse_quantity(self.parameters.unused).value
        return spread > _level(bound.confidence, counts) or (len(observations) >= bound.runs and too_many)

    def uncatchable(self, observations: Sequence[Observation], bound: "Bound", left: int) -> bool:
        """It is, where the busiest expert would not be too busy even if every prompt that is left used it."""
        assert bound.runs is not None
        counts, _ = _loads(observations)
        if not counts or len(observations) + left >= bound.runs:
            return False
        return self._spread(counts, bound, left) <= _level(bound.confidence, counts)

    @staticmethod
    def _spread(counts: dict["Place", int], bound: "Bound", more: int = 0) -> float:
        """How likely an expert at the bound would be used as often as the busiest one at most."""
        assert bound.runs is not None
        assert bound.below is not None
        most = min(max(counts.values()) + more, bound.runs)
        return binomial_tail(most, bound.runs, bound.below, upper=False)

    @staticmethod
    def _most_unused(counts: dict["Place", int], unused: Sequence["Place"]) -> tuple[float, int]:
        """The largest share of a layer's experts that no prompt used, and its layer."""
        resting = Counter(layer for layer, _ in unused)
        experts = Counter(layer for layer, _ in counts)
        return max((resting[layer] / count, layer) for layer, count in experts.items())

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The upper end of the largest share, and the experts that were not used."""
        if judgement.upper is None:
            return "no prompt was routed"
        unused = f", {judgement.violations} unused" if judgement.violations else ""
        return f"{judgement.upper:.1%} ≤ {bound.below:.0%}{unused}, n={judgement.n}"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The share of the drawn positions that every expert takes."""
        n = max(len(observations), 1)
        return Drawn([count / n for count in _loads(observations)[0].values()], "expert")


Place = tuple[int, int]  # layer, expert


def _loads(observations: Sequence[Observation]) -> tuple[dict[Place, int], list[Place]]:
    """How many of the drawn positions went to each expert, and the experts that no prompt used."""
    counts: dict[Place, int] = {}
    used: set[Place] = set()
    for observation in observations:
        samples = observation.samples
        for layer, chosen in enumerate(samples["chosen"]):
            for expert in range(samples["experts"]):
                counts[layer, expert] = counts.get((layer, expert), 0) + (expert in chosen)
            used |= {(layer, expert) for expert in samples["used"][layer]}
    return counts, [place for place in counts if place not in used]


def _level(confidence: float, counts: dict[Place, int]) -> float:
    """The level of one test of one expert, so that all of them together keep the confidence."""
    return (1 - confidence) / (2 * len(counts))


def _largest(values: "np.ndarray") -> float | None:
    """The largest of them, 0 of none; None where one is not a number."""
    largest = float(values.max(initial=0.0))
    return largest if math.isfinite(largest) else None

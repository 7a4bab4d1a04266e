"""Memory: the peak of loading and serving against arithmetic, and growth from one generation to the next.

What counts is anonymous memory, which no file backs: a mapped model file is not in it, nor are libraries.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from refute.kinds.base import Case, Drawn, Measured, Observation, Planned
from refute.kinds.cases import some_prompt
from refute.kinds.parameters import several, whole_number
from refute.statistics import excluded_rate
from refute.targets.base import Request, Target
from refute.units import format_quantity
from refute.verdict import Judgement, Outcome

if TYPE_CHECKING:
    from refute.contract import Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakParameters:
    """prompt_tokens: lengths of prompts, in turn; a longer one also needs more cache and workspace."""

    prompt_tokens: tuple[int, ...]
    max_tokens: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt_tokens", several("prompt_tokens", self.prompt_tokens))
        if not self.prompt_tokens:
            raise ValueError("prompt_tokens is [], expected one or more")
        for length in self.prompt_tokens:
            whole_number("prompt_tokens", length, 1)
        whole_number("max_tokens", self.max_tokens, 1)


class MemoryPeak(Planned[PeakParameters]):
    """A process that loads the model and serves a request grows by at most so many times what it needs."""

    name = "memory-peak"
    rule_version = "1"
    requires = frozenset({"token_ids", "memory"})
    parameters_type = PeakParameters
    bound_fields = frozenset({"of", "below", "confidence", "runs"})
    unit = "x"

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another prompt for every run, the lengths in turn."""
        lengths = self.parameters.prompt_tokens
        return [
            {
                "run": run,
                "prompt": some_prompt(target, lengths[run % len(lengths)], seed + run),
                "max_tokens": self.parameters.max_tokens,
            }
            for run in range(runs)
        ]

    def observe(self, target: Target, case: Case) -> Observation:
        """One process, and what the engine's own numbers say that it needs."""
        request = Request(tuple(case["prompt"]), case["max_tokens"])
        peak, needed = target.fresh_peak(request), target.footprint(request)
        return Observation(case, {"bytes": asdict(peak), "needed": asdict(needed)})

    def measure(self, observation: Observation) -> float:
        """Growth of anonymous memory at its peak, over weights, cache and workspace.

        The kernel keeps one peak for anonymous memory and files together. File pages of the end are taken
        off; those of the peak were at most as many, so the growth is never overstated but where the
        kernel took file pages back in between.
        """
        seen, needed = observation.samples["bytes"], observation.samples["needed"]
        grown = seen["peak"] - seen["file_after"] - seen["anonymous_before"]
        return float(max(grown, 0) / sum(needed.values()))

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """One process above the bound refutes."""
        assert bound.runs is not None
        assert bound.below is not None
        ratios = [self.measure(observation) for observation in observations]
        above = sum(ratio > bound.below for ratio in ratios)
        n, worst = len(ratios), max(ratios, default=None)
        if above:
            reason = f"{above} of {n} processes grew by more than {bound.below:g} times what they need"
            return Judgement(Outcome.FALSIFIED, reason, n, above, worst, upper=worst, unit="x")
        if n < bound.runs:
            reason = f"{n} processes of {bound.runs} planned"
            return Judgement(Outcome.INCONCLUSIVE, reason, n, 0, worst, upper=worst, unit="x")
        rate = excluded_rate(n, bound.confidence)
        reason = f"{n} processes grew by at most {worst:.3g} times what they need"
        return Judgement(Outcome.SURVIVED, reason, n, 0, worst, upper=worst, unit="x", excluded_rate=rate)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A fault is caught by one process above the bound."""
        assert bound.below is not None
        return any(self.measure(observation) > bound.below for observation in observations)

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The largest growth, against the bound."""
        if judgement.upper is None:
            return f"0 of {bound.runs} processes"
        return f"{judgement.upper:.3g} ≤ {bound.below:g} x"

    def drawn(self, observations: Sequence[Observation], judgement: Judgement) -> Drawn:  # noqa: ARG002
        """The growth of every process."""
        return Drawn([self.measure(observation) for observation in observations], "process")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthParameters:
    """generations: of one run. warm_up: those before the first run, which fill what is kept for good."""

    generations: int
    warm_up: int
    prompt_tokens: int
    max_tokens: int

    def __post_init__(self) -> None:
        for name in ("generations", "prompt_tokens", "max_tokens"):
            whole_number(name, getattr(self, name), 1)
        whole_number("warm_up", self.warm_up, 0)


class MemoryGrowth(Measured[GrowthParameters]):
    """Memory grows by less than so much per generation, in the median run of many generations each."""

    name = "memory-growth"
    rule_version = "1"
    requires = frozenset({"token_ids", "memory"})
    parameters_type = GrowthParameters
    bound_fields = frozenset({"of", "statistic", "below", "confidence", "runs"})
    unit = "B"
    stricter = MappingProxyType({**Measured.stricter, "warm_up": "lower"})

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:  # noqa: ARG002 (of a protocol)
        """Other prompts for every generation, derived from the run's seed."""
        asked = self.parameters
        return [
            {
                "run": run,
                "seed": seed + run * (asked.generations + asked.warm_up),
                "warm_up": 0 if run else asked.warm_up,
                "generations": asked.generations,
                "prompt_tokens": asked.prompt_tokens,
                "max_tokens": asked.max_tokens,
            }
            for run in range(runs)
        ]

    def observe(self, target: Target, case: Case) -> Observation:
        """Read what is held before and after the run's generations."""

        def generate(number: int) -> None:
            prompt = some_prompt(target, case["prompt_tokens"], case["seed"] + number)
            target.generate(Request(tuple(prompt), case["max_tokens"]))

        for number in range(case["warm_up"]):
            generate(number)
        before = target.resident()
        for number in range(case["warm_up"], case["warm_up"] + case["generations"]):
            generate(number)
        return Observation(case, {"before": before, "after": target.resident()})

    def measure(self, observation: Observation) -> float:
        """Bytes per generation."""
        samples = observation.samples
        return float((samples["after"] - samples["before"]) / observation.case["generations"])

    def figure(self, judgement: Judgement, bound: "Bound") -> str:
        """The upper end of the median growth, against the bound."""
        if judgement.upper is None or bound.below is None:
            return f"{judgement.n} runs of {bound.runs}"
        grown, limit = format_quantity(judgement.upper, "B"), format_quantity(bound.below, "B")
        return f"{grown} ≤ {limit} per generation"

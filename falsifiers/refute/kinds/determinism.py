"""Determinism: same request, same tokens; another seed, other tokens; top-k 1 is greedy.

Between repetitions an unrelated sampled request runs, so that state which leaks from one request into
the next shows.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases
from refute.kinds.distribution import probabilities
from refute.kinds.parameters import Lengths, finite, in_unit
from refute.targets.base import Request, Sampling, Target
from refute.units import parse_quantity

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_LARGEST_SEED = 2**32 - 1
_DISTURBANCE = Sampling(temperature=1.3, seed=20_001)
_DISTURBING_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DeterminismParameters(Lengths):
    """greedy: temperature 0 or top-k 1. seeded: temperature above 0 with a fixed seed."""

    mode: Literal["greedy", "seeded"]
    repeats: int

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        if self.mode not in {"greedy", "seeded"}:
            raise ValueError(f"mode is {self.mode!r}, expected 'greedy' or 'seeded'")
        if self.repeats < 2:
            raise ValueError(f"repeats is {self.repeats}, expected at least 2: one run equals itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedParameters(Lengths):
    """seeds: requests that differ in their seed alone.

    chance: two seeds may agree by luck; an agreement refutes only where luck is rarer than this.
    """

    seeds: int
    temperature: float
    chance: str

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        if self.seeds < 2:
            raise ValueError(f"seeds is {self.seeds}, expected at least 2")
        in_unit("chance", self.chance, "%")


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedyParameters(Lengths):
    """The temperature at which top-k 1 must still be greedy."""

    temperature: float


class Determinism(Searched[DeterminismParameters]):
    """The same request gives the same tokens in every run."""

    name = "determinism"
    rule_version = "1"
    requires = frozenset({"token_ids", "seed"})
    parameters_type = DeterminismParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "repeats": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts and sampling settings of the mode."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        temperature = st.floats(0.1, 2.0).map(lambda value: round(value, 3))
        sampling = (
            st.fixed_dictionaries({"temperature": st.just(0.0)})
            | st.fixed_dictionaries({"temperature": temperature, "top_k": st.just(1)})
            if self.parameters.mode == "greedy"
            else st.fixed_dictionaries(
                {
                    "temperature": temperature,
                    "top_k": st.sampled_from([0, 5, 20, 50]),
                    "top_p": st.sampled_from([1.0, 0.95, 0.8]),
                    "min_p": st.sampled_from([0.0, 0.05]),
                    "repetition_penalty": st.sampled_from([1.0, 1.05]),
                    "seed": st.integers(0, _LARGEST_SEED),
                }
            )
        )
        return cases(target, self.parameters, sampling=sampling)

    def observe(self, target: Target, case: Case) -> Observation:
        """Run the request again and again, disturbed by another one in between."""
        sampling = Sampling(**case["sampling"])
        runs = [_tokens(target, case, sampling)]
        for _ in range(self.parameters.repeats - 1):
            _tokens(target, {**case, "max_tokens": _DISTURBING_TOKENS}, _DISTURBANCE)
            runs.append(_tokens(target, case, sampling))
        return Observation(case, {"runs": runs})

    def refutes(self, observation: Observation) -> bool:
        """Any two runs that differ."""
        first, *others = observation.samples["runs"]
        return any(run != first for run in others)

    def informative(self, observation: Observation) -> bool:
        """A case counts when it was repeated and gave tokens."""
        runs = observation.samples["runs"]
        return len(runs) >= self.parameters.repeats and len(runs[0]) > 0


class SeedSensitivity(Searched[SeedParameters]):
    """Different seeds give different tokens, where the model leaves a choice."""

    name = "seed-sensitivity"
    rule_version = "1"
    requires = frozenset({"token_ids", "seed", "logits"})
    parameters_type = SeedParameters
    stricter = MappingProxyType({**Searched.stricter, "seeds": "higher", "chance": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts and a first seed."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        sampling = st.fixed_dictionaries(
            {
                "temperature": st.just(self.parameters.temperature),
                "seed": st.integers(0, _LARGEST_SEED - self.parameters.seeds),
            }
        )
        return cases(target, self.parameters, sampling=sampling)

    def observe(self, target: Target, case: Case) -> Observation:
        """One run per seed, and how likely each run's tokens are (natural logarithm)."""
        runs, likelihoods = [], []
        for offset in range(self.parameters.seeds):
            settings = {**case["sampling"], "seed": case["sampling"]["seed"] + offset}
            sampling = Sampling(**settings)
            tokens = _tokens(target, case, sampling)
            logits = target.logits([*case["prompt"], *tokens])[len(case["prompt"]) - 1 : -1]
            runs.append(tokens)
            likelihoods.append(
                sum(
                    math.log(max(float(probabilities(row, sampling)[token]), 1e-300))
                    for row, token in zip(logits, tokens, strict=True)
                )
            )
        return Observation(case, {"runs": runs, "log_likelihoods": likelihoods})

    def refutes(self, observation: Observation) -> bool:
        """Two seeds that agree on tokens which luck alone would hardly repeat."""
        runs = observation.samples["runs"]
        unlikely = [likelihood < self._limit for likelihood in observation.samples["log_likelihoods"]]
        return any(unlikely[j] and runs[i] == runs[j] for j in range(len(runs)) for i in range(j))

    def informative(self, observation: Observation) -> bool:
        """A case counts when an agreement would have refuted."""
        likelihoods = observation.samples["log_likelihoods"]
        return finite(likelihoods) and any(likelihood < self._limit for likelihood in likelihoods)

    @property
    def _limit(self) -> float:
        return math.log(parse_quantity(self.parameters.chance).value)


class GreedyEquivalence(Searched[GreedyParameters]):
    """Top-k 1 gives the greedy tokens at any temperature."""

    name = "greedy-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "seed"})
    parameters_type = GreedyParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts and seeds."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        sampling = st.fixed_dictionaries(
            {
                "temperature": st.just(self.parameters.temperature),
                "top_k": st.just(1),
                "seed": st.integers(0, _LARGEST_SEED),
            }
        )
        return cases(target, self.parameters, sampling=sampling)

    def observe(self, target: Target, case: Case) -> Observation:
        """One greedy run, one with top-k 1."""
        return Observation(
            case,
            {
                "greedy": _tokens(target, case, Sampling()),
                "top_k_1": _tokens(target, case, Sampling(**case["sampling"])),
            },
        )

    def refutes(self, observation: Observation) -> bool:
        """Any difference."""
        return bool(observation.samples["greedy"] != observation.samples["top_k_1"])

    def informative(self, observation: Observation) -> bool:
        """A case counts when there were tokens to compare."""
        return len(observation.samples["greedy"]) > 0


def _tokens(target: Target, case: Case, sampling: Sampling) -> list[int]:
    return list(target.generate(Request(tuple(case["prompt"]), case["max_tokens"], sampling)).tokens)

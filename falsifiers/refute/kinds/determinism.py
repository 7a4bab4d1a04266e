"""Determinism: same request, same tokens; another seed, other tokens; top-k 1 is greedy.

Between repetitions an unrelated sampled request runs, so that state which leaks from one request into
the next shows.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.distribution import probabilities
from refute.targets.base import Request, Sampling, Target
from refute.units import parse_quantity

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_LARGEST_SEED = 2**32 - 1
_DISTURBANCE = Sampling(temperature=1.3, seed=20_001)


@dataclass(frozen=True, slots=True)
class DeterminismParameters:
    """greedy: temperature 0 or top-k 1. seeded: temperature above 0 with a fixed seed."""

    mode: Literal["greedy", "seeded"]
    max_tokens: int
    prompt_tokens: tuple[int, int]
    repeats: int

    def __post_init__(self) -> None:
        _check_range(self)
        if self.mode not in {"greedy", "seeded"}:
            raise ValueError(f"mode is {self.mode!r}, expected 'greedy' or 'seeded'")
        if self.repeats < 2:
            raise ValueError(f"repeats is {self.repeats}, expected at least 2: one run equals itself")


@dataclass(frozen=True, slots=True)
class SeedParameters:
    """seeds: requests that differ in their seed alone.

    chance: two seeds may agree by luck; an agreement refutes only where luck is rarer than this.
    """

    max_tokens: int
    prompt_tokens: tuple[int, int]
    seeds: int
    temperature: float
    chance: str

    def __post_init__(self) -> None:
        _check_range(self)
        if self.seeds < 2:
            raise ValueError(f"seeds is {self.seeds}, expected at least 2")
        if parse_quantity(self.chance).unit != "%":
            raise ValueError(f"chance is {self.chance!r}, expected a percentage such as '0.001 %'")


@dataclass(frozen=True, slots=True)
class GreedyParameters:
    """The temperature at which top-k 1 must still be greedy."""

    max_tokens: int
    prompt_tokens: tuple[int, int]
    temperature: float

    def __post_init__(self) -> None:
        _check_range(self)


class Determinism(Searched[DeterminismParameters]):
    """The same request gives the same tokens in every run."""

    name = "determinism"
    rule_version = "1"
    requires = frozenset({"token_ids", "seed"})
    parameters_type = DeterminismParameters

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
        return _with_prompts(target, self.parameters, sampling)

    def observe(self, target: Target, case: Case) -> Observation:
        """Run the request again and again, disturbed by another one in between."""
        sampling = Sampling(**case["sampling"])
        runs = []
        for _ in range(self.parameters.repeats):
            runs.append(_tokens(target, case, sampling))
            _tokens(target, case, _DISTURBANCE)
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

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts and a first seed."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        sampling = st.fixed_dictionaries(
            {
                "temperature": st.just(self.parameters.temperature),
                "seed": st.integers(0, _LARGEST_SEED - self.parameters.seeds),
            }
        )
        return _with_prompts(target, self.parameters, sampling)

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
        return any(likelihood < self._limit for likelihood in observation.samples["log_likelihoods"])

    @property
    def _limit(self) -> float:
        return math.log(parse_quantity(self.parameters.chance).value)


class GreedyEquivalence(Searched[GreedyParameters]):
    """Top-k 1 gives the greedy tokens at any temperature."""

    name = "greedy-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "seed"})
    parameters_type = GreedyParameters

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
        return _with_prompts(target, self.parameters, sampling)

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


def _with_prompts(
    target: Target,
    parameters: DeterminismParameters | SeedParameters | GreedyParameters,
    sampling: "SearchStrategy[dict[str, Any]]",
) -> "SearchStrategy[dict[str, Any]]":
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    from refute.kinds.cases import prompt_range, prompts  # noqa: PLC0415

    return st.fixed_dictionaries(
        {
            "prompt": prompts(target, prompt_range(parameters.prompt_tokens), parameters.max_tokens),
            "sampling": sampling,
            "max_tokens": st.just(parameters.max_tokens),
        }
    )


def _tokens(target: Target, case: Case, sampling: Sampling) -> list[int]:
    return list(target.generate(Request(tuple(case["prompt"]), case["max_tokens"], sampling)).tokens)


def _check_range(parameters: DeterminismParameters | SeedParameters | GreedyParameters) -> None:
    from refute.kinds.cases import prompt_range  # noqa: PLC0415 (keeps Hypothesis out of imports)

    object.__setattr__(parameters, "prompt_tokens", tuple(parameters.prompt_tokens))
    prompt_range(parameters.prompt_tokens)
    if isinstance(parameters.max_tokens, bool) or parameters.max_tokens < 1:
        raise ValueError(f"max_tokens is {parameters.max_tokens!r}, expected a whole number of at least 1")

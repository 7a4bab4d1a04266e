"""Decode rate: a floor in tokens per second, and the cache's speed-up over full prefill.

Only decode is on the clock: from the moment the first token is whole to the moment the last one is, so
neither loading nor prefill counts. A run is one request; tokens inside one request are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refute.kinds.base import Case, Measured, Observation
from refute.kinds.cases import some_prompt
from refute.kinds.parameters import whole_number
from refute.targets.base import Generation, Request, Target


@dataclass(frozen=True, slots=True)
class ThroughputParameters:
    """max_tokens: tokens of one run, the first of which only starts the clock."""

    max_tokens: int
    prompt_tokens: int

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 2)
        whole_number("prompt_tokens", self.prompt_tokens, 1)


class TokFloor(Measured[ThroughputParameters]):
    """Sustained decode is at least so many tokens per second."""

    name = "tok-floor"
    rule_version = "1"
    requires = frozenset({"token_ids", "timing"})
    bound_fields = Measured.bound_fields - {"below"}
    unit = "tok/s"
    measured = "decode-rate"
    parameters_type = ThroughputParameters
    timing = True

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another prompt for every run."""
        return _planned(target, runs, seed, self.parameters)

    def observe(self, target: Target, case: Case) -> Observation:
        """One request; times are nanoseconds since it started."""
        return Observation(case, _times(target.generate(_request(case, cache=True))))

    def measure(self, observation: Observation) -> float:
        """Tokens per second between the first and the last token."""
        times = observation.samples["token_ns"]
        return (len(times) - 1) / (_span(times) / 1e9)


class SpeedUp(Measured[ThroughputParameters]):
    """Decode over the cache is so many times faster than a full prefill for every token."""

    name = "speed-up"
    rule_version = "2"
    requires = frozenset({"token_ids", "cache_off", "timing"})
    bound_fields = Measured.bound_fields - {"below"}
    unit = "x"
    measured = "decode-time-ratio"
    parameters_type = ThroughputParameters
    timing = True
    paired = True

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:
        """Another prompt for every pair; which arm goes first alternates, so that drift cancels."""
        cases = _planned(target, runs, seed, self.parameters)
        return [{**case, "cached_first": bool(case["run"] % 2)} for case in cases]

    def observe(self, target: Target, case: Case) -> Observation:
        """Both arms of one pair, one after the other, from the same prompt."""
        arms: dict[str, Any] = {}
        for cache in (case["cached_first"], not case["cached_first"]):
            generation = target.generate(_request(case, cache=cache))
            arms["cached" if cache else "full"] = _times(generation)
        return Observation(case, arms)

    def measure(self, observation: Observation) -> float:
        """The twin's decode time over the cache's."""
        samples = observation.samples
        return _span(samples["full"]["token_ns"]) / _span(samples["cached"]["token_ns"])


def _planned(target: Target, runs: int, seed: int, parameters: ThroughputParameters) -> list[Case]:
    return [
        {
            "run": run,
            "prompt": some_prompt(target, parameters.prompt_tokens, seed + run),
            "max_tokens": parameters.max_tokens,
        }
        for run in range(runs)
    ]


def _request(case: Case, *, cache: bool) -> Request:
    return Request(prompt=tuple(case["prompt"]), max_tokens=case["max_tokens"], cache=cache)


def _times(generation: Generation) -> dict[str, Any]:
    start = generation.started_ns
    return {
        "prefilled_ns": generation.prefilled_ns - start,
        "token_ns": [moment - start for moment in generation.token_ns],
    }


def _span(times: Sequence[int]) -> int:
    """Nanoseconds from the first token to the last; a clock that stands still is no measurement."""
    span = times[-1] - times[0]
    if len(times) < 2 or span <= 0:
        raise ValueError(f"{len(times)} tokens within {span} ns: nothing was timed")
    return span

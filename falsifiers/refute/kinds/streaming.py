"""Streaming in process: tokens are handed out as they are computed, and a stop stops the computing.

What was computed is counted in the engine, by forwards begun: a token that was handed out late, or one that
nobody asked for, leaves no other trace. Requests prefill in one chunk, so the first token costs one forward
and every further one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases
from refute.kinds.parameters import Lengths, several, whole_number
from refute.targets.base import Delivery, Request, Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_WAYS = ("callback", "iterator")


@dataclass(frozen=True, slots=True, kw_only=True)
class StopParameters(Lengths):
    """after: tokens that may still be computed after the stop. by: who stops, `callback` or `iterator`."""

    after: int
    by: tuple[str, ...]

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        whole_number("after", self.after, 0)
        if self.max_tokens < self.after + 2:
            raise ValueError(
                f"max_tokens is {self.max_tokens}, expected at least {self.after + 2}: one before the stop, "
                "and more after it than are allowed"
            )
        object.__setattr__(self, "by", _ways(self.by))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryParameters(Lengths):
    """ahead: tokens that may be computed beyond the one that is handed out. by: who takes them."""

    ahead: int
    by: tuple[str, ...]

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        whole_number("ahead", self.ahead, 0)
        if self.max_tokens < self.ahead + 2:
            raise ValueError(
                f"max_tokens is {self.max_tokens}, expected at least {self.ahead + 2}: fewer can all be ahead"
            )
        object.__setattr__(self, "by", _ways(self.by))


class StreamStop(Searched[StopParameters]):
    """A caller that has had enough stops the computing, not only the handing out."""

    name = "stream-stop"
    rule_version = "1"
    requires = frozenset({"token_ids", "stream"})
    parameters_type = StopParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "after": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, ways to stop, and after how many tokens; more than are allowed are left then."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        last = self.parameters.max_tokens - self.parameters.after - 1
        return cases(
            target,
            self.parameters,
            by=st.sampled_from(self.parameters.by),
            stop_after=st.integers(1, last),
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Stop after some tokens, and look how far the engine went."""
        return Observation(case, _streamed(target, case, Delivery(case["by"], case["stop_after"])))

    def refutes(self, observation: Observation) -> bool:
        """More tokens handed out than were wanted, or more forwards after the last one than are allowed."""
        samples = observation.samples
        handed, forwards = len(samples["tokens"]), samples["forwards"]
        computed = samples["total"] - forwards[-1] if forwards else 0
        return handed > observation.case["stop_after"] or computed > self.parameters.after

    def informative(self, observation: Observation) -> bool:
        """A case counts when the stop came, and the engine's counters account for every token."""
        handed = len(observation.samples["tokens"])
        return handed == observation.case["stop_after"] and _counted(observation.samples["forwards"])


class StreamDelivery(Searched[DeliveryParameters]):
    """When a token is handed out, no later token has been computed."""

    name = "stream-delivery"
    rule_version = "1"
    requires = frozenset({"token_ids", "stream"})
    parameters_type = DeliveryParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "ahead": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, and who takes the tokens."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return cases(target, self.parameters, by=st.sampled_from(self.parameters.by))

    def observe(self, target: Target, case: Case) -> Observation:
        """Take every token, and note how much was computed at each."""
        return Observation(case, _streamed(target, case, Delivery(case["by"])))

    def refutes(self, observation: Observation) -> bool:
        """A token that was handed out when more of them than allowed had been computed beyond it."""
        forwards = observation.samples["forwards"]
        return any(done > i + 1 + self.parameters.ahead for i, done in enumerate(forwards))

    def informative(self, observation: Observation) -> bool:
        """A case counts when enough was handed out to show it, and the counters account for every token."""
        forwards = observation.samples["forwards"]
        return len(forwards) > self.parameters.ahead + 1 and _counted(forwards)


def _streamed(target: Target, case: Case, delivery: Delivery) -> dict[str, Any]:
    request = Request(tuple(case["prompt"]), case["max_tokens"], delivery=delivery)
    generation = target.generate(request)
    if generation.progress is None:
        raise ValueError("the target promises streams but reported no progress")
    return {
        "tokens": list(generation.tokens),
        "forwards": list(generation.progress.forwards),
        "total": generation.progress.total,
    }


def _counted(forwards: Sequence[int]) -> bool:
    """Whether the engine begun as many forwards as it handed tokens out: a counter at rest proves nothing."""
    return all(done > i for i, done in enumerate(forwards))


def _ways(by: Sequence[str]) -> tuple[Any, ...]:
    ways = several("by", by)
    if not ways or not all(way in _WAYS for way in ways):
        raise ValueError(f"by is {by!r}, expected a list of {' and '.join(_WAYS)}")
    return ways

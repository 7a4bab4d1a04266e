"""Cache equivalence: decode over the KV cache against the slow twin, a full prefill for every token."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases, chunkings
from refute.kinds.parameters import Lengths, in_unit
from refute.targets.base import Generation, Request, Target
from refute.units import parse_quantity

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceParameters(Lengths):
    """Lengths to search, and the tie bound.

    margin: two arms compute the same logits only up to rounding, so where the top two logits lie
    closer than this, a different token is a tie and the comparison of this case ends there.
    """

    margin: str

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        in_unit("margin", self.margin, "logit")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingParameters(Lengths):
    """Lengths to search; gap: router probabilities closer than this are a tie."""

    gap: str

    def __post_init__(self) -> None:
        Lengths.__post_init__(self)
        in_unit("gap", self.gap, "%")


class CacheEquivalence(Searched[EquivalenceParameters]):
    """Greedy tokens over the cache equal those of full prefill, for any prompt and chunking."""

    name = "cache-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "cache_off", "chunks"})
    parameters_type = EquivalenceParameters

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, chunkings."""
        return cases(target, self.parameters, chunks=chunkings())

    def observe(self, target: Target, case: Case) -> Observation:
        """Generate greedily in both arms; the twin is one chunk and never sees the cache."""
        margins = "margins" in target.capabilities
        cached = _arm(target, case, cache=True, margins=margins)
        full = _arm(target, case, cache=False, margins=margins)
        samples: dict[str, Any] = {
            "cached": list(cached.tokens),
            "full": list(full.tokens),
            "full_margins": None if full.margins is None else list(full.margins),
            "counters": {"cached": asdict(cached.counters), "full": asdict(full.counters)},
        }
        return Observation(case, samples)

    def refutes(self, observation: Observation) -> bool:
        """The first difference refutes, unless the twin's own top two logits tie there."""
        cached, full = observation.samples["cached"], observation.samples["full"]
        if len(cached) != len(full):
            return True
        first = _first_difference(cached, full)
        if first is None:
            return False
        margins = observation.samples["full_margins"]
        return margins is None or bool(margins[first] > parse_quantity(self.parameters.margin).value)

    def informative(self, observation: Observation) -> bool:
        """A case counts when tokens were compared and the engine says that the cached arm read its cache."""
        samples = observation.samples
        compared = _first_difference(samples["cached"], samples["full"])
        read = samples["counters"]["cached"]["cache_positions_read"]
        decoded = len(samples["full"]) > 1
        return decoded and (compared is None or compared > 0) and read > 0


class RoutingEquivalence(Searched[RoutingParameters]):
    """The experts chosen for a token do not depend on whether its past comes from the cache."""

    name = "routing-equivalence"
    rule_version = "1"
    requires = frozenset({"token_ids", "cache_off", "chunks", "routing"})
    parameters_type = RoutingParameters

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, chunkings."""
        return cases(target, self.parameters, chunks=chunkings())

    def observe(self, target: Target, case: Case) -> Observation:
        """Compare the experts of both arms at every position whose prefix is the same in both."""
        cached = _arm(target, case, cache=True, routing=True)
        full = _arm(target, case, cache=False, routing=True)
        if cached.routing is None or full.routing is None:
            raise ValueError("the target promises routing but reported none")
        shared = _first_difference(cached.tokens, full.tokens)
        positions = len(full.tokens) if shared is None else shared + 1
        mismatches = [
            {"position": p, "layer": layer, "cached": list(ours), "full": list(theirs), "gap": gap}
            for p, (a, b, gaps) in enumerate(
                zip(cached.routing.experts[:positions], full.routing.experts, full.routing.gaps, strict=False)
            )
            for layer, (ours, theirs, gap) in enumerate(zip(a, b, gaps, strict=True))
            if tuple(ours) != tuple(theirs)
        ]
        samples = {
            "compared": sum(map(len, full.routing.experts[:positions])),
            "mismatches": mismatches,
            "cached_sha256": _digest(cached.routing.experts[:positions]),
            "full_sha256": _digest(full.routing.experts[:positions]),
        }
        return Observation(case, samples)

    def refutes(self, observation: Observation) -> bool:
        """Other experts refute, unless the first mismatch is a tie.

        Within a position a flipped tie changes every later layer, and it changes every later position,
        so only the first mismatch says whose fault it is.
        """
        mismatches = observation.samples["mismatches"]
        if not mismatches:
            return False
        return bool(mismatches[0]["gap"] > parse_quantity(self.parameters.gap).value)

    def informative(self, observation: Observation) -> bool:
        """A case counts when choices were compared."""
        return bool(observation.samples["compared"] > 0)


def _arm(
    target: Target, case: Case, *, cache: bool, margins: bool = False, routing: bool = False
) -> Generation:
    request = Request(
        prompt=tuple(case["prompt"]),
        max_tokens=case["max_tokens"],
        cache=cache,
        chunks=tuple(case["chunks"]) if cache else (),
        margins=margins,
        routing=routing,
    )
    return target.generate(request)


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

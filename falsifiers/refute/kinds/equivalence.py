"""Cache equivalence: decode over the KV cache against the slow twin, a full prefill for every token.

A causal model's logits at a position do not depend on what follows. So where a target lets sequences be
driven token by token, one prefill of prompt and answer, without the cache, tells the twin's choice at every
position at once, up to the first one that differs, where the comparison ends anyway.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.cases import cases, chunkings
from refute.kinds.parameters import Lengths, finite, in_unit
from refute.targets.base import Generation, Request, Target
from refute.targets.scores import Scores
from refute.units import parse_quantity

if TYPE_CHECKING:
    import numpy as np
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
    rule_version = "2"
    requires = frozenset({"token_ids", "cache_off", "chunks"})
    parameters_type = EquivalenceParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "margin": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, chunkings."""
        return cases(target, self.parameters, chunks=chunkings())

    def observe(self, target: Target, case: Case) -> Observation:
        """Generate greedily over the cache, and ask the twin; it is one chunk and never sees the cache."""
        margins = "margins" in target.capabilities
        cached = _arm(target, case, cache=True, margins=margins)
        samples: dict[str, Any] = {"cached": list(cached.tokens), "counters": asdict(cached.counters)}
        if "sessions" in target.capabilities:
            full, leads = _choices(_twin(target, case, cached.tokens).logits)
            end = _first_difference(cached.tokens, full)
            kept = None if end is None else end + 1  # what follows has another past than the twin's
            return Observation(
                case,
                {**samples, "twin": "one prefill", "full": full[:kept], "full_margins": leads[:kept]},
            )
        twin = _arm(target, case, cache=False, margins=margins)
        full_margins = None if twin.margins is None else list(twin.margins)
        return Observation(
            case, {**samples, "twin": "every token", "full": list(twin.tokens), "full_margins": full_margins}
        )

    def refutes(self, observation: Observation) -> bool:
        """The first difference refutes, unless the twin's own top two logits tie there."""
        cached, full = observation.samples["cached"], observation.samples["full"]
        first = _first_difference(cached, full)
        if first is None:
            return len(cached) != len(full)
        margins = observation.samples["full_margins"]
        return margins is None or bool(margins[first] > parse_quantity(self.parameters.margin).value)

    def informative(self, observation: Observation) -> bool:
        """A case counts when tokens were compared and the engine says that the cached arm read its cache.

        Where the twin's logits are no numbers, equal tokens say nothing.
        """
        samples = observation.samples
        compared = _first_difference(samples["cached"], samples["full"])
        read = samples["counters"]["cache_positions_read"]
        decoded = len(samples["cached"]) > 1 and finite(samples["full_margins"] or ())
        return decoded and (compared is None or compared > 0) and read > 0


class RoutingEquivalence(Searched[RoutingParameters]):
    """The experts chosen for a token do not depend on whether its past comes from the cache."""

    name = "routing-equivalence"
    rule_version = "2"
    requires = frozenset({"token_ids", "cache_off", "chunks", "routing", "sessions"})
    parameters_type = RoutingParameters
    stricter = MappingProxyType({**Searched.stricter, "max_tokens": "higher", "gap": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Prompts, chunkings."""
        return cases(target, self.parameters, chunks=chunkings())

    def observe(self, target: Target, case: Case) -> Observation:
        """Compare the experts at the last position of the prompt and at every token but the last."""
        cached = _arm(target, case, cache=True, routing=True)
        twin = _twin(target, case, cached.tokens, routing=True)
        if cached.routing is None or twin.experts is None or twin.gaps is None:
            raise ValueError("the target promises routing but reported none")
        ours = [[list(layer) for layer in position] for position in cached.routing.experts]
        theirs, gaps = twin.experts.tolist(), twin.gaps.tolist()
        mismatches = [
            {"position": p, "layer": layer, "cached": a, "full": b, "gap": gaps[p][layer]}
            for p, (mine, other) in enumerate(zip(ours, theirs, strict=True))
            for layer, (a, b) in enumerate(zip(mine, other, strict=True))
            if a != b
        ]
        samples = {
            "compared": sum(map(len, ours)),
            "mismatches": mismatches,
            "cached_sha256": _digest(ours),
            "full_sha256": _digest(theirs),
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


def _twin(target: Target, case: Case, answer: Sequence[int], *, routing: bool = False) -> Scores:
    """Scores of the twin at the positions whose logits chose the answer's tokens: T = len(answer)."""
    prompt = tuple(case["prompt"])
    tokens = [*prompt, *answer[:-1]]
    scores = target.session(len(tokens), prompt=len(prompt), cache=False).extend(tokens, routing=routing)
    first = len(prompt) - 1
    parts = (scores.logits, scores.experts, scores.weights, scores.gaps)
    return Scores(*(None if part is None else part[first:] for part in parts))  # type: ignore[arg-type]


def _choices(logits: "np.ndarray") -> tuple[list[int], list[float]]:
    """The greedy token of each row (T, V), the lowest id among equals; top logit minus second."""
    import numpy as np  # noqa: PLC0415 (keeps NumPy out of collection)

    top = np.partition(logits, -2, axis=-1)[:, -2:]
    return logits.argmax(axis=-1).tolist(), (top[:, 1] - top[:, 0]).tolist()


def _first_difference(a: Sequence[int], b: Sequence[int]) -> int | None:
    if a == b:
        return None
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()

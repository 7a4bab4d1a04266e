"""Equivalence: which differences between two arms refute, and which cases say nothing."""

from typing import Any

import pytest

from refute.kinds.base import Observation
from refute.kinds.equivalence import (
    CacheEquivalence,
    EquivalenceParameters,
    RoutingEquivalence,
    RoutingParameters,
)
from refute.targets.fake import FakeTarget

CACHE = CacheEquivalence(EquivalenceParameters(max_tokens=8, prompt_tokens=(1, 16), margin="0.001 logit"))
ROUTING = RoutingEquivalence(RoutingParameters(max_tokens=4, prompt_tokens=(1, 16), gap="0.01 %"))
CASE = {"prompt": [5, 6, 7, 5, 6], "chunks": [2, 1], "max_tokens": 8}


def arms(cached: list[int], full: list[int], margins: list[float] | None, read: int = 9) -> Observation:
    samples = {"cached": cached, "full": full, "full_margins": margins, "twin": "every token"}
    return Observation(CASE, {**samples, "counters": {"cache_positions_read": read}})


@pytest.mark.parametrize(
    ("observation", "refuted"),
    [
        (arms([1, 2, 3], [1, 2, 3], [1.0, 1.0, 1.0]), False),
        (arms([1, 2, 3], [1, 9, 3], [1.0, 1.0, 1.0]), True),
        (arms([1, 2, 3], [1, 9, 3], [1.0, 0.0005, 1.0]), False),
        (arms([1, 2, 3], [1, 9, 3], [0.0, 0.0011, 0.0]), True),
        (arms([1, 2, 3], [1, 9, 3], None), True),
        (arms([1, 2], [1, 2, 3], [1.0, 1.0, 1.0]), True),
    ],
)
def test_a_difference_refutes_unless_the_twins_own_top_two_tie(
    observation: Observation, refuted: bool
) -> None:
    assert CACHE.refutes(observation) is refuted


@pytest.mark.parametrize(
    ("observation", "informative"),
    [
        (arms([1, 2], [1, 2], [1.0, 1.0]), True),
        (arms([1, 2], [1, 2], [1.0, 1.0], read=0), False),
        (arms([1], [1], [1.0]), False),
        (arms([], [], []), False),
        (arms([1, 2], [9, 2], [0.0, 1.0]), False),
    ],
)
def test_a_case_counts_only_if_tokens_were_compared_and_the_cache_was_read(
    observation: Observation, informative: bool
) -> None:
    assert CACHE.informative(observation) is informative


def test_an_honest_engine_gives_equal_arms() -> None:
    observation = CACHE.observe(FakeTarget(0), CASE)
    assert observation.samples["cached"] == observation.samples["full"]
    assert len(observation.samples["cached"]) == 8
    assert CACHE.informative(observation)


def mismatch(*gaps: float) -> Observation:
    other = {"layer": 0, "cached": [0, 1], "full": [0, 2]}
    found = [{"position": i, **other, "gap": gap} for i, gap in enumerate(gaps)]
    return Observation(CASE, {"compared": 8, "mismatches": found, "cached_sha256": "", "full_sha256": ""})


@pytest.mark.parametrize(
    ("observation", "refuted"),
    [(mismatch(), False), (mismatch(0.3), True), (mismatch(0.00009), False), (mismatch(0.00009, 0.3), False)],
)
def test_other_experts_refute_unless_the_first_mismatch_is_a_tie(
    observation: Observation, refuted: bool
) -> None:
    assert ROUTING.refutes(observation) is refuted


def test_routing_is_compared_at_every_layer_of_every_shared_position() -> None:
    target = FakeTarget(0)
    observation = ROUTING.observe(target, {**CASE, "max_tokens": 4})
    assert observation.samples["compared"] == 4 * target.identity.layers
    assert observation.samples["cached_sha256"] == observation.samples["full_sha256"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0, "prompt_tokens": (1, 2), "margin": "1 logit"},
        {"max_tokens": True, "prompt_tokens": (1, 2), "margin": "1 logit"},
        {"max_tokens": 8, "prompt_tokens": (3, 2), "margin": "1 logit"},
        {"max_tokens": 8, "prompt_tokens": (1, 2, 3), "margin": "1 logit"},
        {"max_tokens": 8, "prompt_tokens": (1, 2), "margin": "1 ms"},
        {"max_tokens": 8, "prompt_tokens": (1, 2), "margin": "1"},
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|unit"):
        EquivalenceParameters(**wrong)

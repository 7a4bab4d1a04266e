"""Cache bits: one bit refutes, in any run; a case counts only if all its runs read the cache."""

import hypothesis
import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.bits import BitsParameters, CacheBits
from refute.search import first_counterexample
from refute.targets.fake import FakeTarget

KIND = CacheBits(BitsParameters(chunks=(1, 7, 64), threads=(1, 2), max_tokens=4, repeats=2))
CASE = {"chunk": 7, "length": 20, "seed": 0}


def samples(**changed):
    same = {"runs_sha256": ["a"] * 4, "twin_sha256": "a", "finite": True, "compared": 24}
    return Observation(CASE, {**same, "cache_positions_read": 9, **changed})


def test_an_honest_engine_keeps_every_bit():
    observation = KIND.observe(FakeTarget(), CASE)
    assert KIND.informative(observation)
    assert not KIND.refutes(observation)
    assert observation.samples["threads"] == [1, 1, 2, 2]
    assert observation.samples["compared"] == 24


@pytest.mark.parametrize(
    ("changed", "refuted"),
    [
        ({}, False),
        ({"runs_sha256": ["a", "a", "a", "b"]}, True),
        ({"runs_sha256": ["b"] * 4}, True),
        ({"finite": False}, True),
    ],
)
def test_any_other_bit_refutes_in_any_run(changed, refuted):
    assert KIND.refutes(samples(**changed)) is refuted


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, True),
        ({"runs_sha256": ["a"] * 3}, False),
        ({"compared": 0}, False),
        ({"cache_positions_read": 0}, False),
    ],
)
def test_a_case_counts_only_if_all_its_runs_read_the_cache(changed, told):
    assert KIND.informative(samples(**changed)) is told


@pytest.mark.parametrize(
    "fault",
    [
        Fault("sums-reordered", 1),
        Fault("thread-race", 0.0005),
        Fault("rope-position", 0.25),
        Fault("lost-row-at-chunk-border", 1),
        Fault("kv-heads-permuted", 1),
        Fault("chunk-dependent", 0.25),
        Fault("order-dependent", 1),
    ],
    ids=str,
)
def test_it_sees_the_smallest_faults(fault):
    with FakeTarget().plant(fault) as faulty:
        *_, last = first_counterexample(KIND, faulty, cases=10, seed=0)
    assert KIND.refutes(last)


def test_the_place_of_the_first_difference_is_told():
    with FakeTarget().plant(Fault("sums-reordered", 1)) as faulty:
        found = KIND.observe(faulty, {"chunk": 1, "length": 4, "seed": 0}).samples
    assert (found["first"], found["differing"]) == (0, 8)  # of the twin's rows, which one forward gave


def test_prompts_are_longer_than_a_chunk_where_the_context_allows():
    drawn = []

    @hypothesis.settings(max_examples=30, database=None)
    @hypothesis.given(KIND.cases(FakeTarget()))
    def draw(case):
        drawn.append(case)

    draw()
    assert {case["chunk"] for case in drawn} == {1, 7, 64}
    assert all(case["chunk"] < case["length"] <= case["chunk"] + 48 for case in drawn)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("chunks", [], "chunks is empty"), ("threads", [0], "threads is 0"), ("repeats", 0, "repeats is 0")],
)
def test_parameters_that_say_nothing_are_refused(name, value, sentence):
    given = {"chunks": [1], "threads": [1], "max_tokens": 1, "repeats": 1}
    with pytest.raises(ValueError, match=sentence):
        BitsParameters(**{**given, name: value})

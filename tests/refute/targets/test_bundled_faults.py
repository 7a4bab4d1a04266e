"""What each fault changes in the bundled runtime, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
from fault_reach import BOUNDS, FLOOR, REACH
from tiny_gguf import TinyModel, write_tiny

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.clock import decode_rate
from refute.targets.base import CannotPlant, Refusal, Request, Sampling, TargetError
from refute.targets.bundled import BundledTarget

LAYERS = TinyModel().layers
# few tokens of these requests depend on them
LOUD = {"penalty-at-one": 4.0, "temperature-scaled": 4.0, "attention-window": 8.0}


@pytest.fixture(scope="module")
def penalised(target, greedy):
    """Nearly uniform among three quarters of the vocabulary, so that a wrong penalty shows at any rank."""
    kept = target.identity.vocabulary * 3 // 4
    return replace(greedy, max_tokens=48, sampling=Sampling(50.0, kept, 1.0, 0.0, 2.0, seed=3))


@pytest.fixture(scope="module")
def sampled(greedy):
    return replace(greedy, sampling=Sampling(1.5, 20, 0.95, 0.001, 1.3, seed=3))


def answers(target, greedy, sampled):
    """What each of the four requests computed and drew; margins show a change that flips no token."""
    generations = [
        target.generate(replace(request, cache=cache))
        for request in (greedy, sampled)
        for cache in (True, False)
    ]
    return [(each.tokens, np.array(each.margins)) for each in generations]


def differ(ours, theirs) -> bool:
    return ours[0] != theirs[0] or bool(np.abs(ours[1] - theirs[1]).max() > 1e-6)


def test_every_fault_has_a_stated_reach() -> None:
    in_files = {spec.name for spec in FAULTS.values() if spec.seam == "model"}  # see the tests of mutants
    assert REACH.keys() == FAULTS.keys() - in_files


ELSEWHERE = {
    "cache-ignored",
    "logits-not-finite",
    *(name for name, spec in FAULTS.items() if spec.seam == "tokenizer"),
}


@pytest.mark.parametrize("name", [name for name in REACH if name not in ELSEWHERE])
def test_fault_changes_what_it_says_and_nothing_else(name, target, greedy, sampled, penalised) -> None:
    if name.startswith("penalty"):
        greedy, sampled = replace(greedy, max_tokens=48), penalised
    honest = answers(target, greedy, sampled)
    with target.plant(Fault(name, LOUD.get(name, FAULTS[name].default)), BOUNDS.get(name, FLOOR)) as faulty:
        faults = answers(faulty, greedy, sampled)
    assert tuple(map(differ, faults, honest)) == REACH[name]
    assert not any(map(differ, answers(target, greedy, sampled), honest))


def test_ignored_cache_answers_right_and_reads_no_cache(target, greedy) -> None:
    with target.plant(Fault("cache-ignored", 1)) as faulty:
        ours, theirs = faulty.generate(greedy), target.generate(greedy)
    assert ours.tokens == theirs.tokens
    assert ours.counters.cache_positions_read == 0
    assert ours.counters.experts_run > theirs.counters.experts_run


@pytest.mark.parametrize(
    "name", ["stale-row", "lost-row-at-chunk-border", "empty-cache", "kv-heads-permuted"]
)
def test_one_chunk_and_one_token_cross_no_border(name, target, greedy, sampled) -> None:
    greedy, sampled = (replace(request, chunks=(), max_tokens=1) for request in (greedy, sampled))
    honest = answers(target, greedy, sampled)
    with target.plant(Fault(name, FAULTS[name].default)) as faulty:
        assert not any(map(differ, answers(faulty, greedy, sampled), honest))


@pytest.mark.parametrize("cache", [True, False])
def test_logits_that_are_no_numbers_end_a_generation(cache, target, greedy) -> None:
    request = replace(greedy, cache=cache, chunks=())
    with (
        target.plant(Fault("logits-not-finite", 1)) as faulty,
        pytest.raises(TargetError, match="finite"),
    ):
        faulty.generate(request)


def test_a_session_has_a_place_for_the_experts_of_a_layer_that_ran_as_dense(target, greedy) -> None:
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        scores = faulty.session(len(greedy.prompt), prompt=1).extend(greedy.prompt, routing=True)
    assert (scores.experts[:, 0] == -1).all()
    assert (scores.weights[:, 0] == 0).all()
    assert (scores.experts[:, 1:] >= 0).all()


def test_dense_dispatch_shows_in_the_counters(target, greedy) -> None:
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        counters = faulty.generate(greedy).counters
    assert counters.dense_layers == counters.forwards
    assert counters.moe_layers == counters.forwards * (LAYERS - 1)


@pytest.mark.parametrize(("dose", "first"), [(1, LAYERS - 1), (1000, 0)])
def test_routing_is_wrong_in_the_last_layers_when_decoding(dose, first, target, greedy) -> None:
    with target.plant(Fault("routing-depends-on-cache", dose)) as faulty:
        ours, theirs = faulty.generate(greedy).routing, target.generate(greedy).routing
    assert ours is not None
    assert theirs is not None
    assert ours.experts[0] == theirs.experts[0]  # the last position of the prompt
    assert ours.experts[1][:first] == theirs.experts[1][:first]
    kept = set(ours.experts[1][first]) & set(theirs.experts[1][first])
    assert len(kept) == TinyModel().experts_per_token - 1


@pytest.mark.parametrize("dose", [0.98, 0.95, 0.9])
def test_slow_clock_shows_dose_times_floor(dose, target, greedy) -> None:
    with target.plant(Fault("slow-clock", dose), FLOOR) as faulty:
        assert decode_rate(faulty.generate(greedy)) == pytest.approx(dose * 5.0, rel=1e-6)


def test_reference_logits_are_spared_by_faults(target, greedy) -> None:
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        np.testing.assert_array_equal(faulty.logits(greedy.prompt), target.logits(greedy.prompt))


def test_one_kv_head_cannot_be_permuted(path) -> None:
    target = BundledTarget(write_tiny(path.with_name("mqa.gguf"), TinyModel(kv_heads=1)), "array", "cpu")
    with pytest.raises(CannotPlant, match="one kv head"), target.plant(Fault("kv-heads-permuted", 1)):
        pass
    target.close()


def test_one_fault_at_a_time(target) -> None:
    with (
        target.plant(Fault("seed-fixed", 1)) as faulty,
        pytest.raises(CannotPlant, match="seed-fixed=1 already"),
        faulty.plant(Fault("stale-row", 1)),
    ):
        pass


def test_threads_are_those_of_the_session_alone(target) -> None:
    with target.plant(Fault("thread-race", 0.5)) as faulty:
        one = faulty.session(3, prompt=3, threads=1).extend([1, 2, 3]).logits
        two = faulty.session(3, prompt=3, threads=2).extend([1, 2, 3]).logits
    honest = target.session(3, prompt=3, threads=2).extend([1, 2, 3]).logits
    np.testing.assert_allclose(one, honest, atol=1e-4)
    np.testing.assert_allclose(two[:, 0] - honest[:, 0], 0.5, atol=1e-4)
    np.testing.assert_allclose(two[:, 1:], honest[:, 1:], atol=1e-4)
    assert target.identity.settings["threads"] == 1


def test_an_unchecked_context_runs_a_prompt_cut_to_fit(target) -> None:
    context = target.identity.context
    long = tuple(target.ordinary_tokens[i % 5] for i in range(context + 1))
    with target.plant(Fault("context-unchecked", 2)) as faulty:
        assert len(faulty.generate(Request(long, 1)).tokens) == 1
        with pytest.raises(Refusal):
            faulty.generate(Request(long, 2 + 1))


def test_an_empty_prompt_is_refused_but_for_the_share_that_a_fault_admits(target) -> None:
    empty = Request((), 2)
    with target.plant(Fault("empty-admitted", 0.5)) as faulty:
        for refusing in (target, faulty):
            with pytest.raises(Refusal, match="prompt is empty"):
                refusing.generate(empty)
        assert faulty.generate(empty).tokens == target.generate(Request((0,), 2)).tokens


def test_leaked_caches_are_held_until_the_fault_is_gone(target) -> None:
    with target.plant(Fault("cache-leaked", 0.5)) as faulty:
        for _ in range(4):
            faulty.generate(Request((1, 2, 3), 2))
        kept = faulty._fault.hoard.caches
        assert [cache.length for cache in kept] == [4, 4]  # the last token is never fed

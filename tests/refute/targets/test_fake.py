from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refute.contract import Bound
from refute.faults.base import Fault
from refute.faults.clock import decode_rate
from refute.targets.base import CAPABILITIES, CannotPlant, Refusal, Request, Sampling, TargetError
from refute.targets.fake import CONTEXT, LAYERS, FakeTarget

FLOOR = Bound(confidence=0.99, above=5.0, unit="tok/s", runs=15)
PROMPT = tuple(range(60, 92))  # all different, so that the penalty has much to punish
GREEDY = Request(PROMPT, 16, chunks=(8, 4), margins=True, routing=True)
SAMPLED = replace(GREEDY, sampling=Sampling(1.0, 40, 0.95, 0.001, 1.05, seed=3))


@settings(max_examples=25)
@given(
    prompt=st.lists(st.integers(0, 255), min_size=1, max_size=40).map(tuple),
    chunks=st.lists(st.integers(1, 9), max_size=3).map(tuple),
)
def test_any_chunking_and_the_twin_agree(prompt, chunks) -> None:
    target = FakeTarget()
    cached = target.generate(Request(prompt, 6, chunks=chunks, margins=True, routing=True))
    twin = target.generate(Request(prompt, 6, cache=False, margins=True, routing=True))
    assert (cached.tokens, cached.margins, cached.routing) == (twin.tokens, twin.margins, twin.routing)


def test_logits_are_those_that_generation_uses() -> None:
    target = FakeTarget()
    tokens = target.generate(GREEDY).tokens
    logits = target.logits((*PROMPT, *tokens))
    assert logits.dtype == np.float32
    assert tuple(logits[len(PROMPT) - 1 : -1].argmax(axis=1)) == tokens


def test_counters_count() -> None:
    counters = FakeTarget().generate(GREEDY).counters
    forwards = 7 + 15  # chunks of 8, 4, 4, ... over 32 tokens, then one for each further token
    assert (len(PROMPT), counters.forwards, counters.guards_fired) == (32, forwards, 0)
    assert (counters.moe_layers, counters.dense_layers) == (LAYERS * forwards, 0)
    assert counters.cache_positions_read == LAYERS * (8 + 12 + 16 + 20 + 24 + 28 + sum(range(32, 47)))


def test_twin_reads_no_cache() -> None:
    assert FakeTarget().generate(replace(GREEDY, cache=False)).counters.cache_positions_read == 0


def test_dense_dispatch_shows_in_the_counters() -> None:
    with FakeTarget().plant(Fault("dense-dispatch", 1)) as faulty:
        counters = faulty.generate(GREEDY).counters
    assert (counters.moe_layers, counters.dense_layers) == ((LAYERS - 1) * 22, 22)


def test_routing_fault_shows_in_decode_only() -> None:
    target = FakeTarget()
    with target.plant(Fault("routing-depends-on-cache", 1)) as faulty:
        theirs, ours = target.generate(GREEDY).routing, faulty.generate(GREEDY).routing
    assert theirs is not None
    assert ours is not None
    assert ours.experts[0] == theirs.experts[0]
    assert ours.experts[1][:-1] == theirs.experts[1][:-1]
    assert ours.experts[1][-1] != theirs.experts[1][-1]


def test_clock_is_virtual_and_in_order() -> None:
    generation = FakeTarget(noise=0.0).generate(GREEDY)
    times = [generation.started_ns, generation.prefilled_ns, *generation.token_ns]
    assert times == sorted(times)
    assert decode_rate(generation) == pytest.approx(100.0)


def test_clock_noise_comes_from_the_seed() -> None:
    one, same, other = (FakeTarget(seed).generate(GREEDY).token_ns for seed in (1, 1, 2))
    assert one == same != other


def test_twin_is_slower_by_its_prefix() -> None:
    target = FakeTarget(noise=0.0)
    assert decode_rate(target.generate(replace(GREEDY, cache=False))) < 100.0 / 4


def test_a_slow_engine_can_be_simulated() -> None:
    assert decode_rate(FakeTarget(rate=4.9, noise=0.0).generate(GREEDY)) == pytest.approx(4.9)


@pytest.mark.parametrize("dose", [0.98, 0.9])
def test_slow_clock_shows_dose_times_floor(dose) -> None:
    with FakeTarget(noise=0.0).plant(Fault("slow-clock", dose), FLOOR) as faulty:
        assert decode_rate(faulty.generate(GREEDY)) == pytest.approx(dose * 5.0)


def test_ignored_cache_is_as_slow_as_the_twin() -> None:
    with FakeTarget(noise=0.0).plant(Fault("cache-ignored", 1)) as faulty:
        slow = decode_rate(faulty.generate(replace(GREEDY, chunks=())))
        assert slow == pytest.approx(decode_rate(faulty.generate(replace(GREEDY, cache=False))))


def test_dropped_capabilities_are_not_served() -> None:
    target = FakeTarget(capabilities=CAPABILITIES - {"routing", "margins"})
    generation = target.generate(GREEDY)
    assert (generation.routing, generation.margins) == (None, None)


def test_dense_engine_has_no_experts() -> None:
    target = FakeTarget(dense=True)
    counters = target.generate(GREEDY).counters
    assert "routing" not in target.capabilities
    assert (counters.moe_layers, counters.experts_run, counters.dense_layers) == (0, 0, LAYERS * 22)
    assert (target.identity.moe_layers, target.identity.dense_layers) == (0, LAYERS)


def test_seed_repeats_an_answer_and_no_seed_does_not() -> None:
    target = FakeTarget()
    unseeded = replace(SAMPLED, sampling=replace(SAMPLED.sampling, seed=None))
    assert target.generate(SAMPLED).tokens == target.generate(SAMPLED).tokens
    assert target.generate(unseeded).tokens != target.generate(unseeded).tokens


def test_sampling_follows_the_logits() -> None:
    target = FakeTarget()
    scaled = target.logits(PROMPT)[-1].astype(np.float64) / 1.5
    expected = np.exp(scaled - scaled.max())
    kept = np.argsort(-expected)[:5]
    expected = expected[kept] / expected[kept].sum()
    drawn = [
        target.generate(Request(PROMPT, 1, Sampling(temperature=1.5, top_k=5, seed=seed))).tokens[0]
        for seed in range(300)
    ]
    counts = np.array([drawn.count(token) for token in kept])
    assert counts.sum() == 300
    assert ((counts - 300 * expected) ** 2 / (300 * expected)).sum() < 18.5  # chi-square, 4 df, p = 0.001


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request((), 1), "empty"),
        (Request((257,), 1), "vocabulary"),
        (Request((1,), 4096), "context"),
        (Request((1,), 1, chunks=(0,)), "chunk sizes"),
    ],
    ids=["empty", "unknown", "long", "chunk"],
)
def test_bad_requests_are_refused(request_, message) -> None:
    with pytest.raises(TargetError, match=message):
        FakeTarget().generate(request_)


def test_one_fault_at_a_time() -> None:
    with FakeTarget().plant(Fault("seed-fixed", 1)) as faulty, pytest.raises(CannotPlant):  # noqa: SIM117
        with faulty.plant(Fault("stale-row", 1)):
            pass


def test_text_survives_a_round_trip() -> None:
    target = FakeTarget()
    assert target.decode(target.encode("naïve 🙂")) == "naïve 🙂"


def test_text_is_composed_as_the_identity_says() -> None:
    target = FakeTarget()
    assert target.identity.settings["tokenizer_nfc"] is True
    assert target.encode("e\u0301") == target.encode("é")


def test_a_chat_ends_every_turn_and_no_message_can() -> None:
    target = FakeTarget()
    (end,) = target.special_tokens.values()
    prompt = target.encode_chat([{"role": "user", "content": "a<|end|>"}])
    assert prompt == (*target.encode("user\na<|end|>"), end, *target.encode("\nassistant\n"))


def test_text_that_is_none_is_refused_and_the_next_is_served() -> None:
    target = FakeTarget()
    with pytest.raises(TargetError, match=r"lone surrogate U\+D800 at character 1"):
        target.encode("a\ud800")
    with pytest.raises(TargetError, match=r"messages\[0\]"):
        target.encode_chat([{"role": "user"}])
    assert target.encode("a") == (97,)


def test_its_token_reference_agrees_with_it() -> None:
    target = FakeTarget()
    reference = target.token_reference
    assert reference.engine != target.identity.engine
    assert len(reference.vectors) > 360
    assert all(target.encode(text) == ids for text, ids in reference.vectors)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (Request((), 4), "the prompt is empty"),
        (Request((1,) * 5000, 4), "exceed the context"),
        (Request((999,), 4), "not in the vocabulary"),
    ],
    ids=["empty", "past the context", "unknown token"],
)
def test_bad_input_is_refused_with_a_sentence_and_the_target_goes_on(bad, sentence) -> None:
    target = FakeTarget()
    before = target.generate(GREEDY).tokens
    with pytest.raises(TargetError, match=sentence):
        target.generate(bad)
    assert target.generate(GREEDY).tokens == before


@pytest.mark.parametrize("dose", [0.25, 0.5])
def test_a_cache_is_ignored_by_a_share_of_the_requests(dose) -> None:
    with FakeTarget().plant(Fault("cache-ignored", dose)) as faulty:
        read = [faulty.generate(GREEDY).counters.cache_positions_read > 0 for _ in range(8)]
    assert read.count(False) == 8 * dose


def test_a_position_may_be_off_by_a_part() -> None:
    target = FakeTarget()
    with target.plant(Fault("rope-position", 0.25)) as near, target.plant(Fault("rope-position", 1)) as far:
        three = {each.generate(GREEDY).tokens for each in (target, near, far)}
    assert len(three) == 3


PAGE = "The code of lampstone is brass.\nThe old bridge was painted again.\nWhat is lampstone?"


def answer(target, count=8) -> str:
    prompt = target.encode_chat([{"role": "user", "content": PAGE}])
    return target.decode(target.generate(Request(prompt, count, stop=True)).tokens)


def test_what_a_page_says_is_recalled() -> None:
    assert answer(FakeTarget()) == "brass"


def test_what_the_cache_does_not_hold_is_not_recalled() -> None:
    with FakeTarget().plant(Fault("attention-window", 40)) as faulty:
        assert "brass" not in answer(faulty)


def test_recall_is_the_same_over_the_cache_and_by_one_prefill() -> None:
    target = FakeTarget()
    prompt = (*target.encode_chat([{"role": "user", "content": PAGE}]), *b"brass")
    session = target.session(len(prompt), prompt=1)
    stepwise = [session.extend([token]).logits[-1] for token in prompt]
    np.testing.assert_array_equal(np.stack(stepwise), target.logits(prompt))


def test_an_unchecked_context_serves_what_is_too_long() -> None:
    long = Request((1,) * CONTEXT, 1)
    with pytest.raises(Refusal, match=str(CONTEXT)):
        FakeTarget().generate(long)
    with FakeTarget().plant(Fault("context-unchecked", 1)) as faulty:
        assert len(faulty.generate(long).tokens) == 1


def test_an_empty_prompt_is_refused_but_for_the_share_that_a_fault_admits() -> None:
    target, empty = FakeTarget(), Request((), 2)
    with target.plant(Fault("empty-admitted", 0.5)) as faulty:
        for refusing in (target, faulty):
            with pytest.raises(Refusal, match="the prompt is empty"):
                refusing.generate(empty)
        assert faulty.generate(empty).tokens == target.generate(Request((0,), 2)).tokens

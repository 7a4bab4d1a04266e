import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_gguf import TinyModel, write_tiny

from refute.contract import Bound
from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.clock import decode_rate
from refute.targets.base import CannotPlant, Refusal, Request, Sampling, TargetError
from refute.targets.bundled import BundledTarget
from refute_runtime.errors import RuntimeFailure

FLOOR = Bound(confidence=0.99, above=5.0, unit="tok/s", runs=15)
LAYERS = TinyModel().layers
CACHED_ARM = (True, False, True, False)
NOTHING = (False, False, False, False)
SAMPLED_ARMS = (False, False, True, True)
# which requests give other logits or draw otherwise, of: greedy cached, greedy twin, sampled cached and twin
REACH = {
    "rope-position": CACHED_ARM,
    "stale-row": CACHED_ARM,
    "lost-row-at-chunk-border": CACHED_ARM,
    "kv-heads-permuted": CACHED_ARM,
    "empty-cache": CACHED_ARM,
    "phantom-row": CACHED_ARM,
    "cache-ignored": NOTHING,
    "attention-window": CACHED_ARM,
    "oldest-rows-lost": NOTHING,  # so short a sequence has no old rows
    "middle-rows-lost": CACHED_ARM,
    "rope-drift": CACHED_ARM,
    "context-unchecked": NOTHING,
    "cache-leaked": NOTHING,
    "weights-twice": NOTHING,
    "kv-oversized": NOTHING,
    "seed-ignored": SAMPLED_ARMS,
    "seed-fixed": SAMPLED_ARMS,
    "temperature-scaled": SAMPLED_ARMS,
    "top-k-widened": SAMPLED_ARMS,
    "greedy-sampled": (True, True, False, False),
    "penalty-twice": SAMPLED_ARMS,
    "dense-dispatch": (True, True, True, True),
    "routing-depends-on-cache": CACHED_ARM,
    "slow-clock": NOTHING,
}
# few tokens of these requests depend on them
LOUD = {"penalty-twice": 4.0, "temperature-scaled": 4.0, "attention-window": 8.0}


class Ticks:
    """A clock that advances one millisecond per reading."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1_000_000
        return self.now


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def target(path):
    target = BundledTarget(path, device="cpu", clock=Ticks())
    yield target
    target.close()


@pytest.fixture(scope="module")
def greedy(target):
    return Request(target.encode("hello world, the " * 4), 12, chunks=(8, 4), margins=True, routing=True)


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
    assert REACH.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "cache-ignored"])
def test_fault_changes_what_it_says_and_nothing_else(name, target, greedy, sampled) -> None:
    honest = answers(target, greedy, sampled)
    with target.plant(Fault(name, LOUD.get(name, FAULTS[name].default)), FLOOR) as faulty:
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


def test_arms_and_chunkings_agree(target, greedy) -> None:
    one = target.generate(replace(greedy, chunks=()))
    for other in (target.generate(greedy), target.generate(replace(greedy, cache=False))):
        assert other.tokens == one.tokens
        assert other.routing is not None
        assert other.routing.experts == one.routing.experts


def test_logits_are_those_that_generation_uses(target, greedy) -> None:
    tokens = target.generate(greedy).tokens
    logits = target.logits((*greedy.prompt, *tokens))
    assert (logits.dtype, logits.shape[1]) == (np.float32, target.identity.vocabulary)
    assert tuple(logits[len(greedy.prompt) - 1 : -1].argmax(axis=1)) == tokens


def test_reference_logits_are_spared_by_faults(target, greedy) -> None:
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        np.testing.assert_array_equal(faulty.logits(greedy.prompt), target.logits(greedy.prompt))


def test_times_are_in_order(target, greedy) -> None:
    generation = target.generate(greedy)
    times = [generation.started_ns, generation.prefilled_ns, *generation.token_ns]
    assert times == sorted(times)
    assert len(generation.token_ns) == len(generation.tokens) == 12


def test_reports_only_what_was_asked_for(target, greedy) -> None:
    generation = target.generate(replace(greedy, margins=False, routing=False))
    assert (generation.margins, generation.routing) == (None, None)


def test_identity_is_read_from_the_file_and_the_engine(path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    target = BundledTarget(
        path, device="cpu", model_sha256=lambda p: hashlib.sha256(p.read_bytes()).hexdigest()
    )
    identity = target.identity
    target.close()
    assert (identity.model_sha256, identity.architecture, identity.model_name) == (
        digest,
        "qwen3moe",
        "tiny-qwen3moe",
    )
    assert (identity.layers, identity.moe_layers, identity.dense_layers) == (LAYERS, LAYERS, 0)
    assert not identity.simulated
    assert len(identity.engine_digest) == 64
    assert {"backend", "device", "numerics", "numpy", "blas", "tokenizer_nfc"} <= identity.settings.keys()


def test_dense_model_has_no_routing_and_no_moe_faults(path) -> None:
    target = BundledTarget(
        write_tiny(path.with_name("dense.gguf"), TinyModel(architecture="qwen3")), device="cpu"
    )
    assert "routing" not in target.capabilities
    assert (target.identity.moe_layers, target.identity.dense_layers) == (0, LAYERS)
    with pytest.raises(CannotPlant), target.plant(Fault("dense-dispatch", 1)):
        pass
    target.close()


def test_one_kv_head_cannot_be_permuted(path) -> None:
    target = BundledTarget(write_tiny(path.with_name("mqa.gguf"), TinyModel(kv_heads=1)), device="cpu")
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


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request((), 1), "prompt is empty"),
        (Request((10**6,), 1), "token ids from 0 to"),
        (Request((1,), 10**4), "positions"),
        (Request((1,), 0), "max_tokens"),
        (Request((1,), 1, chunks=(0,)), "chunks"),
        (Request((1,), 1, Sampling(temperature=-1.0)), "temperature"),
    ],
    ids=["empty", "unknown", "long", "none", "chunk", "sampling"],
)
@pytest.mark.parametrize("cache", [True, False])
def test_bad_requests_are_refused_with_the_engines_sentence(request_, message, cache, target) -> None:
    if request_.chunks and not cache:
        pytest.skip("the twin has no chunks")
    with pytest.raises(TargetError, match=message):
        target.generate(replace(request_, cache=cache))


@pytest.mark.parametrize("tokens", [(), (10**6,), (-1,)])
def test_logits_of_no_tokens_are_refused(tokens, target) -> None:
    with pytest.raises(TargetError, match="token ids below"):
        target.logits(tokens)


def test_bad_files_are_refused(tmp_path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    for path in (broken, tmp_path / "missing.gguf"):
        with pytest.raises(TargetError, match=path.name):
            BundledTarget(path)


def test_importing_the_target_imports_no_runtime() -> None:
    script = "import sys, refute.targets.bundled; sys.exit('refute_runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_messages_become_a_prompt_as_the_file_has_it(target) -> None:
    prompt = target.encode_chat([{"role": "user", "content": "hello"}])
    assert target.decode(prompt).count("hello") == 1
    assert len(prompt) > len(target.encode("hello"))


def test_memory_is_not_promised_where_it_cannot_be_read(path, monkeypatch) -> None:
    monkeypatch.setattr("refute.targets.resident.readable", lambda: False)
    target = BundledTarget(path, device="cpu")
    assert "memory" not in target.capabilities
    target.close()


def test_the_footprint_is_arithmetic_on_the_engines_numbers(target) -> None:
    small, large = (target.footprint(Request((1,) * prompt, 4)) for prompt in (4, 12))
    model = TinyModel()
    row = 2 * model.layers * model.kv_heads * model.head_dim * 4
    assert (small.cache, large.cache) == (8 * row, 16 * row)
    assert small.weights == large.weights
    assert small.workspace < large.workspace


@pytest.mark.parametrize("cached", [True, False])
def test_a_request_past_the_context_is_refused_before_it_is_computed(target, cached) -> None:
    context = target.identity.context
    with pytest.raises(Refusal, match=str(context)):
        target.generate(Request((1,), context, cache=cached))


def test_failing_on_the_way_is_no_refusal(target, monkeypatch) -> None:
    def breaks(*_, **__):
        raise RuntimeFailure("the logits are no distribution")

    monkeypatch.setattr(target._engine.model, "forward", breaks)
    with pytest.raises(TargetError, match="no distribution") as caught:
        target.generate(Request((1,), 1))
    assert not isinstance(caught.value, Refusal)


def test_an_unchecked_context_runs_a_prompt_cut_to_fit(target) -> None:
    context = target.identity.context
    long = tuple(target.ordinary_tokens[i % 5] for i in range(context + 1))
    with target.plant(Fault("context-unchecked", 2)) as faulty:
        assert len(faulty.generate(Request(long, 1)).tokens) == 1
        with pytest.raises(Refusal):
            faulty.generate(Request(long, 2 + 1))


def test_leaked_caches_are_held_until_the_fault_is_gone(target) -> None:
    with target.plant(Fault("cache-leaked", 0.5)) as faulty:
        for _ in range(4):
            faulty.generate(Request((1, 2, 3), 2))
        kept = faulty._fault.hoard.caches
        assert [cache.length for cache in kept] == [4, 4]  # the last token is never fed

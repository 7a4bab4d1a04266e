import hashlib
import subprocess
import sys
from dataclasses import replace
from importlib.resources import as_file, files

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
EVERY_ARM = (True, True, True, True)
NOTHING = (False, False, False, False)
SAMPLED_ARMS = (False, False, True, True)
GREEDY_ARMS = (True, True, False, False)
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
    "greedy-sampled": GREEDY_ARMS,
    "penalty-twice": SAMPLED_ARMS,
    "weights-not-renormalised": EVERY_ARM,
    "router-top-k-off": EVERY_ARM,
    "router-collapsed": EVERY_ARM,
    "logits-perturbed": EVERY_ARM,
    "logits-not-finite": EVERY_ARM,
    "penalty-ignored": SAMPLED_ARMS,
    "penalty-per-occurrence": SAMPLED_ARMS,
    "penalty-sign": SAMPLED_ARMS,
    "penalty-at-one": GREEDY_ARMS,
    "penalty-window": SAMPLED_ARMS,
    "dense-dispatch": EVERY_ARM,
    "dense-on-some-routes": NOTHING,  # its default reaches a session and the chat alone
    "guard-fires": NOTHING,
    "counters-stuck": NOTHING,
    "routing-depends-on-cache": CACHED_ARM,
    "stop-ignored": NOTHING,
    "stream-buffered": NOTHING,
    # These show in sessions alone.
    "fork-shared": NOTHING,
    "trim-short": NOTHING,
    "crosstalk": NOTHING,
    "thread-race": NOTHING,
    "chunk-dependent": CACHED_ARM,
    "order-dependent": (False, False, True, False),  # nothing ran before the first request
    "slow-clock": NOTHING,
    **{name: NOTHING for name, spec in FAULTS.items() if spec.seam == "tokenizer"},  # text alone
}
# few tokens of these requests depend on them
LOUD = {"penalty-at-one": 4.0, "temperature-scaled": 4.0, "attention-window": 8.0}


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
    assert identity.experts == TinyModel().experts
    assert not identity.simulated
    assert len(identity.engine_digest) == 64
    assert {"backend", "device", "numerics", "numpy", "blas", "tokenizer_nfc"} <= identity.settings.keys()


def test_dense_model_has_no_routing_and_no_moe_faults(path) -> None:
    target = BundledTarget(
        write_tiny(path.with_name("dense.gguf"), TinyModel(architecture="qwen3")), device="cpu"
    )
    assert "routing" not in target.capabilities
    assert (target.identity.moe_layers, target.identity.dense_layers) == (0, LAYERS)
    assert target.identity.experts == 0
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


CHAT = [{"role": "user", "content": "a<|im_end|>"}]


@pytest.fixture(scope="module")
def pocket():
    with as_file(files("refute_runtime") / "pocket" / "pocket.gguf") as path:
        target = BundledTarget(path, device="cpu")
        yield target
        target.close()


def test_streamed_text_waits_for_whole_characters(pocket) -> None:
    assert pocket.stream_decode(pocket.encode("aé")) == ["a", "", "é", ""]
    assert pocket.stream_decode(pocket.encode("é")[:1]) == ["", "\ufffd"]


def test_special_tokens_in_a_chat_come_from_the_template(pocket) -> None:
    special = {token: text for text, token in pocket.special_tokens.items()}
    found = [special[token] for token in pocket.encode_chat(CHAT) if token in special]
    assert found == ["<|im_start|>", "<|im_end|>", "<|im_start|>"]


def test_lone_surrogates_are_refused_and_the_next_text_is_served(pocket) -> None:
    with pytest.raises(TargetError, match=r"lone surrogate U\+D800 at character 1"):
        pocket.encode("a\ud800")
    with pytest.raises(TargetError, match=r"lone surrogate"):
        pocket.encode_chat([{"role": "user", "content": "\udfff"}])
    assert pocket.decode(pocket.encode("a")) == "a"
    assert pocket.encode_chat(CHAT)


@pytest.mark.parametrize("call", ["decode", "stream_decode"])
def test_unknown_ids_are_refused_and_the_next_are_served(call, pocket) -> None:
    with pytest.raises(TargetError, match="token id 99999999 is out of range"):
        getattr(pocket, call)([99_999_999])
    assert "".join(getattr(pocket, call)(pocket.encode("a"))) == "a"


def test_forged_special_tokens_reach_text_and_chat(pocket) -> None:
    end = pocket.special_tokens["<|im_end|>"]
    with pocket.plant(Fault("special-forged", 1000)) as faulty:
        assert faulty.encode("a<|im_end|>") == (*pocket.encode("a"), end)
        assert faulty.encode_chat(CHAT).count(end) == pocket.encode_chat(CHAT).count(end) + 1
        assert pocket.encode_chat(CHAT).count(end) == 1


def test_text_that_is_not_composed_keeps_its_marks(pocket) -> None:
    with pocket.plant(Fault("nfc-skipped", 1)) as faulty:
        assert faulty.decode(faulty.encode("e\u0301")) == "e\u0301"
        assert faulty.identity == pocket.identity
    assert pocket.decode(pocket.encode("e\u0301")) == "é"


def test_faults_of_the_tokenizer_reach_the_text_of_answers(pocket) -> None:
    request = Request(pocket.encode("def f(x):\n    return"), 4)
    honest = pocket.generate(request)
    with pocket.plant(Fault("byte-lost", 200)) as faulty:  # all from 0x2D to 0xF4
        answer = faulty.generate(request)
    assert answer.tokens == honest.tokens
    assert answer.text != honest.text


def test_faults_of_the_tokenizer_spare_the_tokens_of_answers(pocket) -> None:
    request = Request(tuple(pocket.ordinary_tokens[:16]), 2, margins=True)
    honest = pocket.generate(request)
    for name in (name for name, spec in FAULTS.items() if spec.seam == "tokenizer"):
        with pocket.plant(Fault(name, FAULTS[name].default)) as faulty:
            answer = faulty.generate(request)
        assert (answer.tokens, answer.margins) == (honest.tokens, honest.margins)


def test_a_model_without_a_template_has_no_chat(path) -> None:
    mute = path.with_name("mute.gguf")
    target = BundledTarget(write_tiny(mute, overrides={"tokenizer.chat_template": None}), device="cpu")
    assert "chat" not in target.capabilities
    with pytest.raises(TargetError, match=r"chat_template is missing"):
        target.encode_chat(CHAT)
    target.close()


def test_a_model_without_vectors_has_no_token_reference(target) -> None:
    assert "token_reference" not in target.capabilities
    with pytest.raises(TargetError, match=r"no token vectors of tiny\.gguf"):
        _ = target.token_reference


def test_vectors_that_cannot_be_read_are_told_where_they_are_needed(path) -> None:
    model = write_tiny(path.with_name("vectors.gguf"))
    model.with_suffix(".tokens.json").write_text("{", encoding="utf-8")
    target = BundledTarget(model, device="cpu", model_sha256="ab" * 32)
    assert "token_reference" in target.capabilities
    with pytest.raises(TargetError, match=r"vectors\.tokens\.json: not JSON"):
        _ = target.token_reference
    assert target.encode("a")
    target.close()


def test_bad_files_are_refused(tmp_path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    for path in (broken, tmp_path / "missing.gguf"):
        with pytest.raises(TargetError, match=path.name):
            BundledTarget(path)


def test_importing_the_target_imports_no_runtime() -> None:
    script = "import sys, refute.targets.bundled; sys.exit('refute_runtime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (Request((), 4), "prompt is empty"),
        (Request((1,) * 10_000, 4), "expected at most"),
        (Request((10**6,), 4), "expected token ids"),
    ],
    ids=["empty", "past the context", "unknown token"],
)
def test_bad_input_is_refused_with_a_sentence_and_the_target_goes_on(target, greedy, bad, sentence) -> None:
    before = target.generate(greedy).tokens
    for cache in (True, False):
        with pytest.raises(TargetError, match=sentence):
            target.generate(replace(bad, cache=cache))
    assert target.generate(greedy).tokens == before


def test_sessions_refuse_bad_input_and_go_on(target) -> None:
    session = target.session(4, prompt=2)
    session.extend([1, 2])
    for tokens, sentence in (([], "no tokens"), ([1, 2, 3], "do not fit")):
        with pytest.raises(TargetError, match=sentence):
            session.extend(tokens)
    with pytest.raises(TargetError, match="threads"):
        target.session(4, prompt=1, threads=0)
    assert session.length == 2
    again = target.session(4, prompt=2).extend([1, 2, 3]).logits[-1]
    np.testing.assert_allclose(session.extend([3]).logits[-1], again, atol=1e-4)


def test_threads_are_those_of_the_session_alone(target) -> None:
    with target.plant(Fault("thread-race", 0.5)) as faulty:
        one = faulty.session(3, prompt=3, threads=1).extend([1, 2, 3]).logits
        two = faulty.session(3, prompt=3, threads=2).extend([1, 2, 3]).logits
    honest = target.session(3, prompt=3, threads=2).extend([1, 2, 3]).logits
    np.testing.assert_allclose(one, honest, atol=1e-4)
    np.testing.assert_allclose(two[:, 0] - honest[:, 0], 0.5, atol=1e-4)
    np.testing.assert_allclose(two[:, 1:], honest[:, 1:], atol=1e-4)
    assert target.identity.settings["threads"] == 1


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

"""The bundled runtime as a target: what it says of itself, computes, and refuses."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_gguf import TinyModel, write_tiny

from refute.contract import Bound
from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Refusal, Request, Sampling, TargetError
from refute.targets.bundled import BundledTarget
from refute_runtime.errors import RuntimeFailure

FLOOR = Bound(confidence=0.99, above=5.0, unit="tok/s", runs=15)
LAYERS = TinyModel().layers


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
        path, "array", "cpu", model_sha256=lambda p: hashlib.sha256(p.read_bytes()).hexdigest()
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
        write_tiny(path.with_name("dense.gguf"), TinyModel(architecture="qwen3")), "array", "cpu"
    )
    assert "routing" not in target.capabilities
    assert (target.identity.moe_layers, target.identity.dense_layers) == (0, LAYERS)
    assert target.identity.experts == 0
    with pytest.raises(CannotPlant), target.plant(Fault("dense-dispatch", 1)):
        pass
    target.close()


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
            BundledTarget(path, "array")


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


def test_memory_is_not_promised_where_it_cannot_be_read(path, monkeypatch) -> None:
    monkeypatch.setattr("refute.targets.resident.readable", lambda: False)
    target = BundledTarget(path, "array", "cpu")
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

"""The cpu backend against `array`, and against itself in other chunks and on other threads, bit for bit."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import TinyModel, write_tiny
from tiny_models import BLOCKS, DENSE, FLOATS, Wrapped, opened

from refute_runtime.backends.array import ArrayBackend
from refute_runtime.backends.cpu import CpuBackend
from refute_runtime.backends.simd import build
from refute_runtime.backends.simd.layers import SPLIT
from refute_runtime.config import ModelConfig
from refute_runtime.errors import ContextOverflow, RuntimeFailure
from refute_runtime.model import Model
from refute_runtime.weights import GgufFile, Weights


def backends(model, folder):
    _, config, weights = opened(model, folder)
    return ArrayBackend(config, weights), CpuBackend(config, weights, threads=2)


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    return backends(FLOATS, tmp_path_factory.mktemp("floats"))


@pytest.fixture(scope="module", params=[BLOCKS, DENSE, FLOATS], ids=["blocks", "dense", "floats"])
def model(request, tmp_path_factory):
    backend = backends(request.param, tmp_path_factory.mktemp("blocks"))[1]
    return Model(backend._config, backend)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("T", [1, 3, 9])
def test_projections_norms_and_rotation_are_arrays(floats, T):
    array, cpu = floats
    x, positions = noise(T, 64), np.arange(T) + 700
    for found, expected in zip(cpu.qkv(1, x, positions), array.qkv(1, x, positions), strict=True):
        close(found, expected)
    close(cpu.norm(x, "output_norm.weight"), array.norm(x, "output_norm.weight"))
    close(cpu.logits(x), array.logits(x))
    close(cpu.embed([3, 200, 3]), array.embed([3, 200, 3]))


@given(T=st.integers(1, 12), before=st.integers(-3, 2 * SPLIT + 5), seed=st.integers(0, 2**32 - 1))
def test_attention_is_arrays(floats, T, before, seed):
    R = max(T + before, 1)
    array, cpu = floats
    q = noise(T, 6, 16, seed=seed)
    k, v = (noise(R, 2, 16, seed=seed + i).astype(np.float16) for i in (1, 2))
    close(cpu.attention(q, k, v), array.attention(q, k.astype(np.float32), v.astype(np.float32)))


def test_attention_of_long_prompts_is_cut_without_a_trace(floats, monkeypatch):
    T = SPLIT + 7
    q, k, v = noise(T, 6, 16), noise(T, 2, 16, seed=1), noise(T, 2, 16, seed=2)
    whole = floats[1].attention(q, k, v)
    monkeypatch.setattr("refute_runtime.backends.cpu._QUERIES", 50_000)
    np.testing.assert_array_equal(floats[1].attention(q, k, v), whole)


def test_attention_without_any_row_is_a_failure(floats):
    with pytest.raises(RuntimeFailure, match="no rows"):
        floats[1].attention(noise(1, 6, 16), noise(0, 2, 16), noise(0, 2, 16))


def test_arrays_of_any_kind_are_taken(floats):
    """What a cache or a wrapped backend gives may be read-only, of other strides or float64."""
    q, k, v = noise(2, 6, 16), noise(5, 2, 16, seed=1), noise(5, 2, 16, seed=2)
    expected = floats[1].attention(q, k, v)
    strided = np.empty((5, 4, 16), np.float32)[:, ::2]
    strided[:] = k
    fixed = v.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(floats[1].attention(q.astype(np.float64), strided, fixed), expected)


@given(T=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_routing_and_experts_are_arrays(floats, T, seed):
    array, cpu = floats
    x = noise(T, 64, seed=seed)
    chosen, shares, gaps = array.route(0, x)
    found = cpu.route(0, x)
    clear = gaps > 1e-5
    np.testing.assert_array_equal(found[0][clear], chosen[clear])
    close(found[1][clear], shares[clear])
    close(found[2], gaps)
    close(cpu.experts(0, x, chosen, shares), array.experts(0, x, chosen, shares))


def test_of_equal_experts_the_first_is_chosen(floats, monkeypatch):
    monkeypatch.setattr(floats[1], "_times", lambda x, name: np.ones((len(x), 5), np.float32))
    chosen, shares, gaps = floats[1].route(0, noise(2, 64))
    np.testing.assert_array_equal(chosen, [[0, 1, 2]] * 2)
    np.testing.assert_allclose(shares, 1 / 3)
    np.testing.assert_array_equal(gaps, 0)


def logits(model, tokens, chunks, threads=2):
    """Logits (T, V) by forwards of these sizes, the last one repeated."""
    run = Model(model.config, model.backend.with_threads(threads))
    cache, found, done, sizes, size = run.backend.new_cache(len(tokens)), [], 0, iter(chunks), len(tokens)
    while done < len(tokens):
        size = next(sizes, size)
        found.append(run.forward(tokens[done : done + size], cache, last_only=False).logits)
        done += size
    return np.concatenate(found).view(np.int32)


def prompt(model, length):
    return np.random.default_rng(1).integers(0, model.config.vocabulary, length).tolist()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("chunks", "length"), [((1,), 24), ((7,), 60), ((64,), 280), ((512,), 540), ((270, 1), 290)], ids=str
)
def test_chunks_and_threads_do_not_show_in_the_bits(model, chunks, length, threads):
    tokens = prompt(model, min(model.config.context, length))
    np.testing.assert_array_equal(logits(model, tokens, chunks, threads), logits(model, tokens, ()))


def test_a_hundred_repetitions_are_identical(model):
    tokens = prompt(model, 11)
    expected = logits(model, tokens, (10, 1))
    for _ in range(100):
        np.testing.assert_array_equal(logits(model, tokens, (10, 1)), expected)


def test_rounded_activations_keep_near_array(tmp_path):
    """What `q8` costs, of a layer: a step is 1 / 127 of the largest of 256."""
    array, cpu = backends(BLOCKS, tmp_path)
    x = noise(5, 256)
    for weight in ("blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight"):
        expected = array.project(x, weight)
        assert np.abs(cpu.project(x, weight) - expected).max() < 0.05 * expected.std()


def test_no_number_reaches_the_logits_as_one(model):
    class Broken(type(model.backend)):
        def embed(self, tokens):
            x = super().embed(tokens)
            x[0, 3] = np.nan
            return x

    backend = model.backend
    broken = Broken(backend._config, backend._weights)
    forward = Model(model.config, broken).forward([1], broken.new_cache(1))
    assert np.isnan(forward.logits).all()
    assert forward.counters.guards_fired == 1


def test_a_type_without_kernel_is_named(tmp_path):
    file = GgufFile.open(write_tiny(tmp_path / "m.gguf", TinyModel(type=TensorType.Q5_0)))
    weights = Weights(file, ModelConfig.from_metadata(file.metadata, file.tensors))
    assert "has type Q5_0, expected one of F32" in CpuBackend.lacks(weights)


def test_what_all_kernels_need_is_there(floats):
    assert CpuBackend.lacks(floats[1]._weights) is None


def test_a_processor_without_halves_is_named(floats, monkeypatch):
    found = build.Processor("old", frozenset({"fma"}))
    monkeypatch.setattr(build, "processor", lambda: found)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert CpuBackend.lacks(floats[1]._weights) == "the processor lacks f16c"


def test_a_token_in_one_call_is_the_operations_bit_for_bit(model):
    tokens = [3, 9, 1, 7, 5]
    forwards = []
    for backend in (model.backend, Wrapped(model.backend)):
        cache, other = model.backend.new_cache(8), Model(model.config, backend)
        other.forward(tokens[:2], cache)
        forwards.append([other.forward([token], cache, routing=True) for token in tokens[2:]])
    for whole, by_operation in zip(*forwards, strict=True):
        np.testing.assert_array_equal(whole.logits, by_operation.logits)
        assert whole.counters == by_operation.counters
        for found, expected in zip(whole.routing, by_operation.routing, strict=True):
            np.testing.assert_array_equal(found.experts, expected.experts)
            np.testing.assert_array_equal(found.weights, expected.weights)
            np.testing.assert_array_equal(found.gap, expected.gap)


def test_one_call_is_only_for_the_backend_itself_and_its_own_cache(model, monkeypatch):
    asked = []
    honest = CpuBackend.whole
    monkeypatch.setattr(CpuBackend, "whole", lambda *given: asked.append(honest(*given)))
    cache = model.backend.new_cache(8)
    model.forward([3], Wrapped(cache))
    Model(model.config, Wrapped(model.backend)).forward([3], cache)
    assert asked == [None]
    model.forward([3], cache)
    assert (asked[1] is not None) == model.config.moe


def test_one_call_on_a_full_cache_overflows(model):
    cache = model.backend.new_cache(1)
    model.forward([3], cache)
    with pytest.raises(ContextOverflow, match="holds 1 of 1 rows, so 1 more do not fit"):
        model.forward([3], cache)
    assert cache.length == 1

"""The mirror: the bits of `cpu`, operation by operation and end to end, without a compiler."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import given
from hypothesis import strategies as st
from q8_reference import HALVES, packed_rows, product, random_rows
from tiny_gguf import TinyModel, write_tiny
from tiny_models import BLOCKS, DENSE, FLOATS, opened

import refute_runtime
from refute_runtime.backends import blocks, mirror
from refute_runtime.backends.array import ArrayBackend
from refute_runtime.backends.cpu import CpuBackend
from refute_runtime.backends.mirror import MirrorBackend
from refute_runtime.backends.simd import build, products
from refute_runtime.backends.simd.layers import SPLIT
from refute_runtime.engine import Engine
from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.model import Model
from refute_runtime.quant import dequantize

PROMPT = [3, 9, 1, 7, 5, 250, 0, 44, 44, 8, 2]
POCKET = Path(refute_runtime.__file__).parent / "pocket/pocket.gguf"
SCALES = st.sampled_from([1e-44, 1e-39, 1e-31, 1e-3, 1.0, 1e4, 1e30])
HARM = st.sampled_from([None, None, 0.0, -0.0, np.inf, -np.inf, np.nan])
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module", params=[BLOCKS, DENSE, FLOATS], ids=["blocks", "dense", "floats"])
def model(request, tmp_path_factory):
    return opened(request.param, tmp_path_factory.mktemp("m"))[1:]


@pytest.fixture(scope="module")
def both(model):
    """`cpu` and the mirror."""
    return CpuBackend(*model, threads=2), MirrorBackend(*model)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build.compile_all()


def noise(*shape, seed=0, scale=1.0, harm=None):
    """Normal numbers, the first few of the first row replaced."""
    found = (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)
    if harm is not None:
        found[0, ..., :3] = harm
    return found


def bits(values):
    """As integers, the sign of zero too; what is no number is one and the same."""
    values = np.asarray(values)
    if values.dtype != np.float32:
        return values
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.int32)


def same(found, expected):
    found, expected = (each if isinstance(each, tuple) else (each,) for each in (found, expected))
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bits(mine), bits(other))


@given(
    kind=st.sampled_from(blocks.TYPES), rows=st.integers(1, 5), width=st.integers(1, 3),
    tokens=st.integers(1, 9), weight=SCALES.filter(lambda scale: scale < 1e4), scale=SCALES, harm=HARM,
    seed=SEEDS,
)  # fmt: skip
def test_products_are_those_of_cpu(kind, rows, width, tokens, weight, scale, harm, seed):
    raw = random_rows(kind, rows, 256 * width, np.random.default_rng(seed), weight)
    x = noise(tokens, 256 * width, seed=seed, scale=scale, harm=harm)
    with np.errstate(all="ignore"):
        found = mirror.times(x, raw, kind)
    same(found, product(raw, kind, x))


@pytest.mark.parametrize("value", [0.0, 6e-8, np.inf, np.nan], ids=str)
@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_scales_of_any_kind_in_the_file(kind, value):
    raw = random_rows(kind, 4, 512, np.random.default_rng(0))
    start = HALVES[kind][-1]
    raw[1, start : start + 2] = np.array([value], np.float16).view(np.uint8)
    x = noise(3, 512)
    with np.errstate(all="ignore"):
        found = mirror.times(x, raw, kind)
    same(found, product(raw, kind, x))


@pytest.mark.parametrize("columns", [1, 31, 33, 96, 288])
@pytest.mark.parametrize("kind", blocks.TYPES, ids=lambda kind: kind.name)
def test_rows_of_less_than_whole_blocks(kind, columns):
    size = 1 if kind in blocks.FLOATS else 32 if kind in (TensorType.Q8_0, TensorType.Q4_0) else 256
    columns = -(-columns // size) * size
    raw, x = random_rows(kind, 4, columns, np.random.default_rng(0)), noise(3, columns)
    same(mirror.times(x, raw, kind), product(raw, kind, x))


@given(scale=SCALES, harm=HARM, columns=st.sampled_from([32, 256, 300, 512]), seed=SEEDS)
def test_activations_are_rounded_as_cpu_does(scale, harm, columns, seed):
    x = noise(1, columns, seed=seed, scale=scale, harm=harm)
    found, (packed, _) = blocks.rounded(x), packed_rows(x)
    sound = ~np.isnan(found.d[0])  # what is no number is so by its step
    np.testing.assert_array_equal(found.q[0][sound], packed[0].reshape(-1, 256)[sound])
    same(found.d[0], packed[4])


@given(top=st.floats(2.0**-90, 2.0**90, width=32))
def test_halves_are_rounded_as_cpu_does(top):
    """Where x * (127 / max) and x / (max / 127) may be rounded to different integers."""
    x = np.full((1, 256), top, np.float32)
    x[0, :254] = (np.arange(-127, 127) + 0.5).astype(np.float32) * (np.float32(top) / np.float32(127))
    np.testing.assert_array_equal(blocks.rounded(x).q.reshape(-1), packed_rows(x)[0][0])


@given(kind=st.sampled_from(list(HALVES)), seed=SEEDS)
def test_integers_times_their_scales_are_the_weights(kind, seed):
    raw = random_rows(kind, 2, 512, np.random.default_rng(seed))
    whole, scale, minimums, lowest = blocks.integers(raw, kind)
    found = whole * scale[..., None].astype(np.float64)
    if minimums is not None:
        found = found - np.repeat(minimums * lowest[..., None].astype(np.float64), 32, axis=-1)
    expected = dequantize(raw, kind)
    np.testing.assert_allclose(found.reshape(2, 512), expected, atol=1e-6 * np.abs(expected).max())


def test_types_are_those_of_cpu():
    names = {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"}
    assert {kind.name for kind in blocks.TYPES} == names
    assert (blocks.SPLIT, blocks.BLOCK) == (SPLIT, products.BLOCK)  # kernels are kept by their own sources


@given(T=st.integers(1, 5), scale=SCALES, harm=HARM, at=st.integers(0, 1019), seed=SEEDS)
def test_operations_are_those_of_cpu(both, T, scale, harm, at, seed):
    host, found = both
    config, positions = host._config, np.arange(T) + at
    x = noise(T, config.hidden, seed=seed, scale=scale, harm=harm)
    with found.computing():
        same(found.qkv(1, x, positions), host.qkv(1, x, positions))
        same(found.norm(x, "output_norm.weight"), host.norm(x, "output_norm.weight"))
        same(found.logits(x), host.logits(x))
        if config.moe:
            routed = host.route(1, x)
            same(found.route(1, x), routed)
            same(found.experts(1, x, *routed[:2]), host.experts(1, x, *routed[:2]))
        else:
            same(found.dense(1, x), host.dense(1, x))


def test_embeddings_are_those_of_cpu(both):
    same(both[1].embed([3, 200, 3]), both[0].embed([3, 200, 3]))


@given(
    T=st.integers(1, 5), before=st.integers(-3, 2 * SPLIT + 5), scale=SCALES, harm=HARM,
    place=st.sampled_from("qkv"), seed=SEEDS,
)  # fmt: skip
def test_attention_is_that_of_cpu(both, T, before, scale, harm, place, seed):
    host, found = both
    config, R = host._config, max(T + before, 1)
    given_ = [
        noise(rows, heads, config.head_dim, seed=seed + i, scale=scale, harm=harm if name == place else None)
        for i, (name, rows, heads) in enumerate(
            [("q", T, config.heads), ("k", R, config.kv_heads), ("v", R, config.kv_heads)]
        )
    ]
    with found.computing():
        same(found.attention(*given_), host.attention(*given_))


def test_attention_without_any_row_is_a_failure(both):
    with pytest.raises(RuntimeFailure, match="no rows"):
        both[1].attention(noise(1, 8, 32), noise(0, 2, 32), noise(0, 2, 32))


@pytest.mark.parametrize(
    "row",
    [
        [1, 1, 1, 1, 1], [0, 2, 2, 1, 2], [0, np.nan, 3, 1, 2], [np.nan, 1, 2, np.nan, 3], [np.nan] * 5,
        [0, -np.inf, np.inf, 1, 2], [-np.inf] * 5,
    ],
    ids=str,
)  # fmt: skip
def test_routing_of_equal_scores_and_of_no_numbers_is_that_of_cpu(tmp_path, monkeypatch, row):
    host, found = (Engine.load(write_tiny(tmp_path / "m.gguf", FLOATS), name) for name in ("cpu", "mirror"))
    with host, found, found.backend.computing():
        for engine in (host, found):
            monkeypatch.setattr(
                engine.backend, "_times", lambda x, _: np.array([row] * len(x), np.float32), raising=True
            )
        same(found.backend.route(0, noise(2, 64)), host.backend.route(0, noise(2, 64)))


def logits(backend, sizes):
    """Of PROMPT, by forwards of these sizes."""
    model, cache, done, found = Model(backend._config, backend), backend.new_cache(16), 0, []
    for size in sizes:
        found.append(model.forward(PROMPT[done : done + size], cache, last_only=False).logits)
        done += size
    return np.concatenate(found)


@pytest.mark.parametrize("sizes", [(11,), (4, 6, 1)], ids=str)
def test_forwards_are_those_of_cpu_in_any_chunks(both, sizes):
    same(logits(both[1], sizes), logits(both[0], (11,)))


def test_where_nothing_is_rounded_to_integers_it_is_near_array(tmp_path):
    """As near as `cpu` is: the same operations, in float32, in another order."""
    model = opened(FLOATS, tmp_path)[1:]
    array, found = ArrayBackend(*model), MirrorBackend(*model)
    x, positions = noise(9, 64), np.arange(9) + 700
    chosen, shares, _ = array.route(0, x)
    np.testing.assert_array_equal(found.route(0, x)[0], chosen)
    q, k, v = array.qkv(1, x, positions)
    k, v = k.astype(np.float16), v.astype(np.float16)
    for mine, expected in (
        *zip(found.qkv(1, x, positions), array.qkv(1, x, positions), strict=True),
        (found.norm(x, "output_norm.weight"), array.norm(x, "output_norm.weight")),
        (found.attention(q, k, v), array.attention(q, k.astype(np.float32), v.astype(np.float32))),
        (found.route(0, x)[1], shares),
        (found.experts(0, x, chosen, shares), array.experts(0, x, chosen, shares)),
        (found.logits(x), array.logits(x)),
    ):
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=2e-5)


@given(kind=st.sampled_from(list(HALVES)), tokens=st.integers(1, 5), power=st.integers(-60, 60), seed=SEEDS)
def test_a_product_is_that_of_the_rounded_activations(kind, tokens, power, seed):
    """Within the bound that `cpu` has, of the exact sum in float64."""
    raw = random_rows(kind, 5, 512, np.random.default_rng(seed))
    x = noise(tokens, 512, seed=seed, scale=2.0**power)
    rounded = blocks.rounded(x)
    exact = (rounded.q * rounded.d[..., None].astype(np.float64)).reshape(tokens, -1)
    weights = dequantize(raw, kind).astype(np.float64)
    size = np.abs(exact) @ np.abs(weights).T
    if kind in (TensorType.Q4_K, TensorType.Q5_K):  # minimums apart: larger than what is left
        size = np.abs(exact).sum(axis=1, keepdims=True) * 0.01 * 63 * 63
    assert (np.abs(mirror.times(x, raw, kind) - exact @ weights.T) <= 3e-6 * size + 1e-42).all()
    # a step is within a 127th of the largest, and rounding off by half of one at most
    assert np.abs(exact - x).max() <= np.abs(x).max() * (0.5 / 127 + 1e-6)


def test_the_embedded_model_gives_the_bits_of_cpu_in_any_chunks():
    with Engine.load(POCKET, "mirror") as slow, Engine.load(POCKET, "cpu") as fast:
        tokens = slow.tokenizer.encode("The stone is old, and the river")[:9]
        expected = fast.model.forward(tokens, fast.new_cache(16), last_only=False, routing=True)
        for sizes in ((len(tokens),), (len(tokens) - 3, 2, 1)):
            cache, done, found = slow.new_cache(16), 0, []
            for size in sizes:
                forward = slow.model.forward(tokens[done : done + size], cache, last_only=False)
                found.append(forward.logits)
                done += size
            same(np.concatenate(found), expected.logits)


def test_the_embedded_model_decodes_the_tokens_of_cpu():
    with Engine.load(POCKET, "mirror") as slow, Engine.load(POCKET, "cpu") as fast:
        told = {name: slow.settings[name] for name in ("backend", "numerics", "device")}
        assert told == {"backend": "mirror", "numerics": "q8", "device": "cpu"}
        prompt = slow.tokenizer.encode("The stone is")
        found, expected = (
            [(each.id, each.margin) for each in engine.generate(prompt, max_tokens=4, stop=False)]
            for engine in (slow, fast)
        )
        assert found == expected


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"device": "gpu"}, "the backend mirror computes on the host"),
        ({"mmap": False}, "the backend mirror computes on the mapped file"),
    ],
    ids=["gpu", "no-mmap"],
)
def test_what_it_cannot_do_is_refused(tmp_path, how, told):
    with pytest.raises(UnsupportedError, match=told):
        Engine.load(write_tiny(tmp_path / "m.gguf", FLOATS), "mirror", **how)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (TinyModel(hidden=64, type=TensorType.Q5_0), r"the tensor .* has type Q5_0, expected one of"),
        (TinyModel(head_dim=24), "heads are not of a multiple of 16 elements"),
    ],
    ids=["type", "heads"],
)  # fmt: skip
def test_a_model_that_it_cannot_run_is_refused_with_the_reason(tmp_path, model, told):
    with pytest.raises(UnsupportedError, match=told):
        Engine.load(write_tiny(tmp_path / "m.gguf", model), "mirror")

"""Rows of blocks times panels: against float64, and bit for bit between panels and threads."""

import numba
import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import given
from hypothesis import strategies as st
from q8_reference import product, random_rows

from refute_runtime.backends.blocks import FLOATS, TYPES
from refute_runtime.backends.simd import build, lanes, products, scalars
from refute_runtime.quant import BLOCKS, dequantize


@pytest.fixture(scope="module", autouse=True)
def compiled():
    build.compile_all()


def times(raw, kind, columns, x, width=None, threads=2):
    """x (T, columns) times the matrix, computed by `width` tokens at once: (T, rows)."""
    if width is not None:
        parts = [times(raw, kind, columns, x[i : i + width]) for i in range(0, len(x), width)]
        return np.concatenate(parts)
    with build.alone(threads):
        return product(raw, kind, x)


def rounded(x):
    """Activations as `q8` rounds them, in float64."""
    out = np.zeros(x.shape)
    for start in range(0, x.shape[1], products.BLOCK):
        part = x[:, start : start + products.BLOCK]
        top = np.abs(part).max(axis=1, keepdims=True)
        zero = top < np.float32(lanes.SMALLEST)
        inverse = np.where(zero, np.float32(0), np.float32(127) / np.where(zero, np.float32(1), top))
        step = np.where(zero, np.float32(0), top / np.float32(127))
        out[:, start : start + products.BLOCK] = np.rint(part * inverse).astype(np.float64) * step
    return out


@given(
    kind=st.sampled_from(TYPES),
    blocks=st.integers(1, 5),
    tokens=st.integers(1, 13),
    power=st.integers(-60, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_product_is_that_of_the_rounded_activations(kind, blocks, tokens, power, seed):
    rng = np.random.default_rng(seed)
    columns = blocks * max(BLOCKS[kind][0], 32)
    raw = random_rows(kind, 5, columns, rng)
    x = (rng.standard_normal((tokens, columns)) * 2.0**power).astype(np.float32)
    x[rng.random(tokens) < 0.1] = 0
    exact = x.astype(np.float64) if kind in FLOATS else rounded(x)
    weights = dequantize(raw, kind).astype(np.float64)
    # a block's elements are added before its minimum is taken off: either can be larger than what is left
    size = np.abs(exact) @ np.abs(weights).T
    if kind in (TensorType.Q4_K, TensorType.Q5_K):
        size = np.abs(exact).sum(axis=1, keepdims=True) * 0.01 * 63 * 63
    result = times(raw, kind, columns, x)
    assert (np.abs(result - exact @ weights.T) <= 3e-6 * size + 1e-42).all()


@given(
    kind=st.sampled_from(TYPES),
    columns=st.sampled_from([32, 256, 288, 768, 2048]),
    tokens=st.integers(1, 13),
    seed=st.integers(0, 2**32 - 1),
)
def test_neither_panel_nor_threads_show_in_the_bits(kind, columns, tokens, seed):
    columns = max(columns // BLOCKS[kind][0], 1) * BLOCKS[kind][0]
    rng = np.random.default_rng(seed)
    raw = random_rows(kind, 37, columns, rng, scale=1.0)
    x = rng.standard_normal((tokens, columns)).astype(np.float32)
    expected = times(raw, kind, columns, x).view(np.int32)
    for width in (1, 4, 7):
        found = times(raw, kind, columns, x, width)
        np.testing.assert_array_equal(found.view(np.int32), expected)
    found = times(raw, kind, columns, x, threads=1)
    np.testing.assert_array_equal(found.view(np.int32), expected)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_so(kind, value):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 256)).astype(np.float32)
    x[3, 100] = value
    result = times(random_rows(kind, 5, 256, rng, scale=1.0), kind, 256, x)
    assert not np.isfinite(result[3]).any()
    assert np.isfinite(np.delete(result, 3, axis=0)).all()


@pytest.mark.parametrize("tiny", [1e-45, 1e-40, 1.2e-38, 1e-31])
def test_subnormal_activations_are_zero_or_right(tiny):
    rng = np.random.default_rng(0)
    raw = random_rows(TensorType.Q6_K, 5, 256, rng, scale=1.0)
    x = np.full((1, 256), tiny, np.float32)
    result = times(raw, TensorType.Q6_K, 256, x)
    exact = x.astype(np.float64) @ dequantize(raw, TensorType.Q6_K).astype(np.float64).T
    assert (
        np.abs(result - exact) <= 0.01 * np.abs(exact) + 256 * 127 * 63 * float(np.float32(lanes.SMALLEST))
    ).all()


@pytest.fixture(scope="module")
def exp():
    return numba.njit(lambda x: scalars.exp(x))  # noqa: PLW0108 (an intrinsic is no function)


@given(value=st.floats(-87, 88, width=32))
def test_an_exponential_is_that_of_float64(exp, value):
    assert exp(np.float32(value)) == pytest.approx(np.exp(np.float64(value)), rel=2.4e-7)


@pytest.mark.parametrize(("value", "expected"), [(1e30, np.exp(88)), (-1e30, np.exp(-87)), (0.0, 1.0)])
def test_an_exponential_ends_where_float32_does(exp, value, expected):
    assert exp(np.float32(value)) == pytest.approx(expected, rel=2.4e-7)


def test_an_exponential_of_no_number_is_none(exp):
    assert np.isnan(exp(np.float32(np.nan)))

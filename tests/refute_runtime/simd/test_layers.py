"""Attention however many heads share a row, and rows as the cache keeps them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from refute_runtime.backends.simd.layers import SPLIT, attend, store_rows

D = 48


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def attended(q, k, v):
    T, N, _ = q.shape
    splits = -(-len(k) // SPLIT)
    sums, parts = np.empty((T, N, splits, 2), np.float32), np.empty((T, N, splits, D), np.float32)
    out = np.empty_like(q)
    attend(q, k.view(np.uint16), v.view(np.uint16), np.float32(D**-0.5), sums, parts, out)
    return out


@pytest.mark.parametrize("heads", range(1, 10))
def test_heads_that_share_a_row_are_what_each_is_alone(heads):
    T, R, G = 3, SPLIT + 6, 2
    q = noise(T, G * heads, D)
    k, v = (noise(R, G, D, seed=seed).astype(np.float16) for seed in (1, 2))
    together = attended(q, k, v)
    for n in range(G * heads):
        g = n // heads
        alone = attended(np.ascontiguousarray(q[:, n : n + 1]), k[:, g : g + 1], v[:, g : g + 1])
        np.testing.assert_array_equal(together[:, n : n + 1], alone)


def test_strides_of_a_cache_do_not_matter():
    q = noise(2, 4, D)
    k, v = (noise(90, 2, D, seed=seed).astype(np.float16) for seed in (1, 2))
    by_heads = [np.ascontiguousarray(rows.swapaxes(0, 1)).swapaxes(0, 1) for rows in (k, v)]
    np.testing.assert_array_equal(attended(q, *by_heads), attended(q, k, v))


@njit
def _stored(rows, to):
    store_rows(rows, to)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_stored_rows_are_numpys_halves(values):
    rows = np.array([values, values[::-1]], np.float32)
    to = np.zeros((2, 3, len(values)), np.uint16)
    _stored(rows, to[:, 1])
    with np.errstate(over="ignore"):
        expected = rows.astype(np.float16)
    np.testing.assert_array_equal(to[:, 1].view(np.float16), expected)
    assert not to[:, ::2].any()

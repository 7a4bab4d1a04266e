"""Heads and attention: the bits of the `cpu` backend, over a cache of float16."""

import numpy as np
import pytest
import q8_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refute_runtime.backends.gpu import launches
from refute_runtime.backends.gpu.launches import SPLIT, Before, Heads

pytestmark = pytest.mark.usefixtures("cpu_kernels")

SHAPES = [Heads(6, 2, 16), Heads(8, 1, 32), Heads(9, 1, 48), Heads(2, 2, 128), Heads(16, 2, 256)]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tables(rows, D):
    angle = np.arange(rows)[:, None] * 10000.0 ** (-np.arange(D // 2) / (D // 2))
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


@pytest.mark.parametrize("of", SHAPES, ids=str)
def test_heads_are_the_cpu_backends_and_are_kept_as_halves(room, of):
    T, D, at = 3, of.D, np.array([7, 8, 2], np.int64)
    both, weights = noise(T, (of.N + 2 * of.G) * D), (noise(D, seed=1), noise(D, seed=2))
    cos, sin = tables(9, D)
    expected = q8_reference.heads(both, of.N, of.G, weights, (cos[at], sin[at]), 1e-6)
    q, kv = room.make(T, of.N, D), (room.make(T, of.G, D), room.make(T, of.G, D))
    cache = tuple(room.make(6, of.G, D, dtype=np.float16) for _ in range(2))
    launches.heads(
        room.device, room.put(both), T, of, tuple(map(room.put, weights)), (room.put(cos), room.put(sin)),
        1e-6, q, rows=room.put(at), kv=kv, cache=cache,
        before=Before(address=room.put(np.array([2], np.int64))),
    )  # fmt: skip
    found = [room.take(q, T, of.N, D), *(room.take(each, T, of.G, D) for each in kv)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for each, other in zip(cache, expected[1:], strict=True):
        kept = room.take(each, 6, of.G, D, dtype=np.float16)
        np.testing.assert_array_equal(kept[2:5], other.astype(np.float16))
        assert np.isnan(kept[[0, 1, 5]]).all()


@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_values_are_kept_as_the_nearest_halves(room, scale):
    of, T = Heads(4, 2, 16), 3
    both = noise(T, (of.N + 2 * of.G) * of.D) * np.float32(scale)
    ones, turned = room.put(np.ones(of.D, np.float32)), tuple(map(room.put, tables(T, of.D)))
    cache = tuple(room.make(5, of.G, of.D, dtype=np.float16) for _ in range(2))
    launches.heads(
        room.device, room.put(both), T, of, (ones, ones), turned, 1e-6, room.make(T, of.N, of.D), cache=cache,
        before=Before(1),
    )  # fmt: skip
    kept = room.take(cache[1], 5, of.G, of.D, dtype=np.float16)
    values = both[:, (of.N + of.G) * of.D :].reshape(T, of.G, of.D)
    np.testing.assert_array_equal(kept[1:4], values.astype(np.float16))
    assert np.isnan(kept[[0, 4]]).all()


def attended(room, q, k, v, of, before, splits, *, on_device=False):
    T = len(q)
    sums, parts = room.make(T, of.N, splits, 2), room.make(T, of.N, splits, of.D)
    out = room.make(T, of.N * of.D)
    at = Before(address=room.put(np.array([before], np.int64))) if on_device else Before(before)
    launches.attend(room.device, room.put(q), (room.put(k), room.put(v)), T, of, at, splits, sums, parts, out)
    return room.take(out, T, of.N * of.D)


@pytest.mark.parametrize("of", SHAPES, ids=str)
def test_attention_is_the_cpu_backends(room, of):
    T, before = 3, SPLIT - 1
    q, k, v = (
        noise(T, of.N, of.D),
        *(noise(before + T, of.G, of.D, seed=s).astype(np.float16) for s in (1, 2)),
    )
    found = attended(room, q, k, v, of, before, 2)
    np.testing.assert_array_equal(found, q8_reference.attention(q, k, v, before))


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    T=st.integers(1, 4),
    before=st.integers(-3, 2 * SPLIT + 5),
    more=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_any_number_of_rows_gives_the_cpu_backends_bits(room, T, before, more, seed):
    of, rows = Heads(6, 2, 16), max(before + T, 1)
    q, k, v = (
        noise(T, 6, 16, seed=seed),
        *(noise(rows, 2, 16, seed=s).astype(np.float16) for s in (seed + 1, seed + 2)),
    )
    splits = -(-rows // SPLIT) + more
    found = attended(room, q, k, v, of, before, splits, on_device=seed % 2 == 0)
    np.testing.assert_array_equal(found, q8_reference.attention(q, k, v, before))


def test_more_splits_than_are_merged_at_once(room):
    of, before = Heads(1, 1, 16), 130 * SPLIT + 5
    q, *kv = noise(1, 1, 16), *(noise(before + 1, 1, 16, seed=s).astype(np.float16) for s in (1, 2))
    np.testing.assert_array_equal(
        attended(room, q, *kv, of, before, 131), q8_reference.attention(q, *kv, before)
    )


def test_what_is_no_number_stays_none(room):
    of = Heads(2, 1, 16)
    q, k, v = (
        noise(1, 2, 16),
        noise(70, 1, 16, seed=1).astype(np.float16),
        noise(70, 1, 16).astype(np.float16),
    )
    k[3, 0, 5], v[69, 0, 2] = np.nan, np.inf
    q[0, 0, 5] = 0
    np.testing.assert_array_equal(attended(room, q, k, v, of, 69, 2), q8_reference.attention(q, k, v, 69))

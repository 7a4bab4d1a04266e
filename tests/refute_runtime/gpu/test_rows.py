"""Embedding, norms, rounding and sums: the bits of the `cpu` backend and of `quant.py`."""

import numpy as np
import pytest
import q8_reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refute_runtime.backends.gpu import launches, layouts
from refute_runtime.quant import BLOCKS, dequantize

pytestmark = pytest.mark.usefixtures("cpu_kernels")

SAME_ROOM = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check_rounded(room, rounded, x):
    for found, expected in zip(room.rounded_arrays(rounded, len(x)), q8_reference.rounded(x), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", layouts.TYPES, ids=lambda kind: kind.name)
def test_embedding_rows_are_dequantized(room, kind):
    columns = 3 * max(BLOCKS[kind][0], 32)
    raw = q8_reference.random_rows(kind, 9, columns, np.random.default_rng(0), scale=3)
    tokens, out = np.array([8, 0, 3, 3], np.int64), room.make(4, columns)
    launches.embed(room.device, room.matrix(raw, kind, columns), room.put(tokens), 4, out)
    np.testing.assert_array_equal(room.take(out, 4, columns), dequantize(raw, kind)[tokens])


@SAME_ROOM
@given(
    T=st.integers(1, 4), C=st.integers(1, 600), power=st.integers(-110, 100), seed=st.integers(0, 2**32 - 1)
)
def test_rounding_is_the_cpu_backends(room, T, C, power, seed):
    x = noise(T, C, seed=seed) * np.float32(2.0**power)
    rounded = room.rounded(T, C)
    launches.round_rows(room.device, room.put(x), T, rounded)
    check_rounded(room, rounded, x)


def test_what_is_no_number_is_rounded_to_a_step_that_is_none(room):
    x = noise(3, 300)
    x[0, 17], x[1, 299], x[2] = np.nan, np.inf, 0
    rounded = room.rounded(3, 300)
    launches.round_rows(room.device, room.put(x), 3, rounded)
    check_rounded(room, rounded, x)


@pytest.mark.parametrize("H", [64, 100, 512, 2048])
def test_norms_are_the_cpu_backends_rounded_or_not(room, H):
    x, weight = noise(3, H), noise(H, seed=1)
    expected = q8_reference.norm(x, weight, 1e-6)
    out, rounded, address = room.make(3, H), room.rounded(3, H), room.put(x)
    launches.rms_norm(room.device, address, room.put(weight), 1e-6, 3, H, out, rounded)
    np.testing.assert_array_equal(room.take(out, 3, H), expected)
    check_rounded(room, rounded, expected)
    alone = room.rounded(3, H)
    launches.rms_norm(room.device, address, room.put(weight), 1e-6, 3, H, rounded=alone)
    check_rounded(room, alone, expected)


@SAME_ROOM
@given(
    T=st.integers(1, 3), F=st.integers(1, 300), scale=st.sampled_from([0.1, 1, 60]), seed=st.integers(0, 99)
)
def test_swiglu_is_the_cpu_backends_rounded_or_not(room, T, F, scale, seed):
    both = noise(T, 2 * F, seed=seed) * np.float32(scale)
    expected = q8_reference.swiglu(both[:, :F], both[:, F:])
    address, out, rounded = room.put(both), room.make(T, F), room.rounded(T, F)
    launches.swiglu(room.device, address, address + 4 * F, 2 * F, T, F, out, rounded)
    np.testing.assert_array_equal(room.take(out, T, F), expected)
    check_rounded(room, rounded, expected)


def test_sums_are_one_addition_each(room):
    x, y, out = noise(1000), noise(1000, seed=1), room.make(1000)
    launches.add(room.device, room.put(x), room.put(y), 1000, out)
    np.testing.assert_array_equal(room.take(out, 1000), x + y)


def test_weighted_sums_are_the_cpu_backends(room):
    results, shares, x = noise(6, 300), noise(2, 3, seed=1), noise(2, 300, seed=2)
    expected = q8_reference.weighted_sum(results, shares)
    out, more = room.make(2, 300), room.put(x)
    arguments = room.put(results), room.put(shares), 2, 3, 300
    launches.weighted_sum(room.device, *arguments, out)
    launches.weighted_sum(room.device, *arguments, more, more)
    np.testing.assert_array_equal(room.take(out, 2, 300), expected)
    np.testing.assert_array_equal(room.take(more, 2, 300), x + expected)

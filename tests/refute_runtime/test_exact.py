"""Arithmetic that is rounded once, against exact fractions and against the compiled kernels."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from refute_runtime.backends import exact
from refute_runtime.backends.simd import lanes, scalars

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SMALL = st.floats(-(2.0**-120), 2.0**-120, width=32)
rows = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=80)


@njit
def _compiled_fma(a, b, c):
    return scalars.fma(a, b, c)


@njit
def _compiled_exp(x):
    return scalars.exp(x)


@njit
def _compiled_dot(a, b):
    return lanes.dot_f32(scalars.address(a), scalars.address(b), a.size)


def nearest(value):
    """A fraction, not zero, rounded to float32, ties to even, by whole numbers."""
    size = abs(value)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 24, -149)
    while size / Fraction(2) ** exponent >= 2**24:
        exponent += 1
    scaled = size / Fraction(2) ** exponent
    whole, rest = divmod(scaled, 1)
    whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2)
    if whole * Fraction(2) ** exponent >= Fraction(2) ** 128:
        return np.float32(np.inf if value > 0 else -np.inf)
    found = np.float32(float(whole * Fraction(2) ** exponent))
    return found if value > 0 else -found


@given(a=FLOATS | SMALL, b=FLOATS | SMALL, c=FLOATS | SMALL)
def test_fma_is_rounded_once(a, b, c):
    value = Fraction(a) * Fraction(b) + Fraction(c)
    found = exact.fma(np.float32(a), np.float32(b), np.float32(c))
    assert found == (nearest(value) if value else 0)


def test_a_sum_that_two_roundings_get_wrong():
    a, b = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-12)
    c = np.float32(2.0**-60)  # lifts an exact tie of float32 by less than float64 shows
    assert exact.fma(a, b, c) == nearest(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
    assert exact.fma(a, b, c) != np.float32(float(a) * float(b) + float(c))


@pytest.mark.parametrize(
    ("a", "b", "c"),
    [(np.inf, 1, 2), (np.inf, 1, -np.inf), (np.inf, 0, 1), (np.nan, 1, 1), (1e38, 1e38, -np.inf), (0, -1, 0)],
)
def test_fma_of_what_is_not_finite(a, b, c):
    given_ = np.float32(a), np.float32(b), np.float32(c)
    np.testing.assert_array_equal(exact.fma(*given_), _compiled_fma(*given_))


@given(FLOATS | st.floats(-90, 90, width=32))
def test_exp_is_that_of_the_kernels(x):
    np.testing.assert_array_equal(exact.exp(np.array([x], np.float32))[0], _compiled_exp(np.float32(x)))


@given(rows, rows)
def test_dot_products_are_those_of_the_kernels(a, b):
    count = min(len(a), len(b))
    a, b = np.array(a[:count], np.float32), np.array(b[:count], np.float32)
    assert exact.dot(a, b) == _compiled_dot(a, b)

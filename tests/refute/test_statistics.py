import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refute.statistics import (
    Interval,
    binomial_interval,
    binomial_tail,
    binomial_two_sided,
    detectable_deviation,
    excluded_rate,
    minimum_runs,
    order_statistic_interval,
    quantile_of,
)

CONFIDENCES = st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999])
QUANTILES = st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99])


@st.composite
def successes(draw):
    n = draw(st.integers(1, 400))
    return draw(st.integers(0, n)), n


@given(st.integers(1, 300), QUANTILES, CONFIDENCES)
def test_ranks_are_those_of_the_binomial_law(n, quantile, confidence):
    law = stats.binom(n, quantile)
    lower = [k for k in range(1, n + 1) if law.sf(k - 1) >= confidence - 1e-12]
    upper = [k for k in range(1, n + 1) if law.cdf(k - 1) >= confidence - 1e-12]
    interval = order_statistic_interval(range(1, n + 1), quantile, confidence)
    if not lower or not upper:
        assert interval is None
    else:
        assert interval == Interval(lower[-1], upper[0], lower[-1], upper[0])


def test_fifteen_runs_bound_a_median_at_99_percent_by_the_third_and_thirteenth():
    samples = [15, 3, 1, 14, 2, 13, 4, 12, 5, 11, 6, 10, 7, 9, 8]
    assert order_statistic_interval(samples, 0.5, 0.99) == Interval(3, 13, 3, 13)


def test_a_tail_that_equals_the_confidence_is_enough():
    assert order_statistic_interval([1, 2, 3, 4], 0.5, 0.9375) is not None
    assert order_statistic_interval([1, 2, 3, 4], 0.5, 0.93750001) is None


@pytest.mark.parametrize(
    ("quantile", "confidence", "runs"),
    [(0.5, 0.95, 5), (0.5, 0.99, 7), (0.9, 0.99, 44), (0.99, 0.99, 459), (0.1, 0.99, 44)],
)
def test_minimum_runs(quantile, confidence, runs):
    assert minimum_runs(quantile, confidence) == runs


@given(QUANTILES, CONFIDENCES)
def test_minimum_runs_is_where_an_interval_begins_to_exist(quantile, confidence):
    least = minimum_runs(quantile, confidence)
    assert order_statistic_interval(range(least), quantile, confidence) is not None
    assert order_statistic_interval(range(least - 1), quantile, confidence) is None


def test_each_bound_covers_the_median_of_a_skewed_law_as_often_as_it_says():
    source = random.Random(7)
    tries, missed_low, missed_high = 4000, 0, 0
    for _ in range(tries):
        interval = order_statistic_interval([source.expovariate(1) for _ in range(15)], 0.5, 0.95)
        missed_low += interval.lower > math.log(2)
        missed_high += interval.upper < math.log(2)
    # Five standard deviations of a share of 5 % in 4000 tries.
    assert max(missed_low, missed_high) / tries < 0.05 + 5 * math.sqrt(0.05 * 0.95 / tries)


def test_a_sample_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        order_statistic_interval([1.0, math.nan], 0.5, 0.95)


@pytest.mark.parametrize("confidence", [0, 1, -1, math.nan, 1.5])
def test_a_confidence_lies_between_zero_and_one(confidence):
    with pytest.raises(ValueError, match="not between 0 and 1"):
        excluded_rate(10, confidence)


@given(st.integers(1, 5000), CONFIDENCES)
def test_excluded_rate_is_the_one_sided_clopper_pearson_bound(n, confidence):
    assert excluded_rate(n, confidence) == pytest.approx(stats.beta.ppf(confidence, 1, n), rel=1e-9)


def test_excluded_rate_without_cases_excludes_nothing():
    assert excluded_rate(0, 0.95) == 1.0


def test_excluded_rate_of_forty_cases():
    assert excluded_rate(40, 0.95) == pytest.approx(0.0722, abs=1e-4)


@given(successes(), st.floats(0, 1))
def test_tails_equal_scipy(pair, p):
    k, n = pair
    assert binomial_tail(k, n, p, upper=False) == pytest.approx(
        stats.binom.cdf(k, n, p), rel=1e-8, abs=1e-200
    )
    assert binomial_tail(k, n, p, upper=True) == pytest.approx(
        stats.binom.sf(k - 1, n, p), rel=1e-8, abs=1e-200
    )


@given(successes(), CONFIDENCES)
def test_interval_equals_scipy_and_is_rounded_outwards(pair, confidence):
    k, n = pair
    lower, upper = binomial_interval(k, n, confidence)
    half = (1 - confidence) / 2
    assert lower == pytest.approx(stats.beta.ppf(half, k, n - k + 1) if k else 0.0, rel=1e-9)
    assert upper == pytest.approx(stats.beta.ppf(1 - half, k + 1, n - k) if k < n else 1.0, rel=1e-9)
    assert binomial_tail(k, n, lower, upper=True) <= half * (1 + 1e-15) or k == 0
    assert binomial_tail(k, n, upper, upper=False) <= half * (1 + 1e-15) or k == n


@given(successes(), st.floats(0.001, 0.999), CONFIDENCES)
def test_the_two_sided_test_rejects_just_what_the_interval_excludes(pair, p, confidence):
    k, n = pair
    lower, upper = binomial_interval(k, n, confidence)
    value = binomial_two_sided(k, n, p)
    if p < lower or p > upper:
        assert value <= (1 - confidence) * (1 + 1e-12)
    else:
        assert value >= (1 - confidence) * (1 - 1e-12)


@pytest.mark.parametrize(("n", "p"), [(200, 0.1), (1000, 0.125), (50, 0.5), (5000, 0.02)])
def test_a_detectable_deviation_is_found_with_the_power_it_promises(n, p):
    alpha, power = 0.001, 0.9
    deviation = detectable_deviation(n, p, alpha, power)
    counts = np.arange(n + 1)
    tails = np.minimum(stats.binom.cdf(counts, n, p), stats.binom.sf(counts - 1, n, p))
    rejected = counts[2 * tails <= alpha]

    def found(q):
        side = rejected[(rejected > n * p) == (q > p)]
        return stats.binom.pmf(side, n, q).sum()

    assert found(p + deviation) >= power - 1e-9
    assert found(max(p - deviation, 0.0)) >= power - 1e-9
    assert min(found(p + 0.99 * deviation), found(max(p - 0.99 * deviation, 0.0))) < power


def test_what_too_few_draws_cannot_find_is_not_promised():
    assert detectable_deviation(2, 0.5, 0.001, 0.9) == 1.0
    # Ten draws cannot show that an event of 1 % never happens, so more than 1 % is all that can be promised.
    assert detectable_deviation(10, 0.01, 0.01, 0.9) > 0.01


@pytest.mark.parametrize(
    ("statistic", "quantile"), [("median", 0.5), ("p90", 0.9), ("p1", 0.01), ("p99", 0.99)]
)
def test_a_statistic_names_a_quantile(statistic, quantile):
    assert quantile_of(statistic) == quantile


@pytest.mark.parametrize("statistic", ["mean", "p0", "p100", "", "P90"])
def test_what_is_no_statistic_is_refused(statistic):
    with pytest.raises(ValueError, match="expected median or a percentile"):
        quantile_of(statistic)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(-1, 5, 0.5), (6, 5, 0.5), (0, 0, 0.5), (1, 5, 1.5), (1, 5, math.nan)]
)
def test_impossible_counts_and_probabilities_are_refused(k, n, p):
    with pytest.raises(ValueError, match=r"expected 0 <= k <= n|not between 0 and 1"):
        binomial_two_sided(k, n, p)

"""Exact bounds without random numbers: the same samples give the same verdict on every machine.

Quantiles, confidences, alphas and powers are the decimals that were written (0.9 is 9/10, not the nearest
double); samples and probabilities are the doubles that they are. Order statistics are decided in integers.
Tails of a binomial with an arbitrary probability are sums in 60-digit decimal arithmetic, so that the error
is far below the double that is returned; every interval end is rounded away from its interval.

All confidences are one-sided unless a name says otherwise.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

_DIGITS = 60
_CONTEXT = Context(prec=_DIGITS, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[])
# The same few questions come back with every record that is judged again.
_remembered = functools.lru_cache(maxsize=4096)
_PERCENTILE = re.compile(r"p([1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class Interval:
    """Two one-sided bounds, each at the confidence asked for; k_lower and k_upper are their ranks, from 1."""

    lower: float
    upper: float
    k_lower: int
    k_upper: int


def quantile_of(statistic: str) -> float:
    """Give the quantile that `median` or `p90` names; raises `ValueError` with a sentence."""
    if statistic == "median":
        return 0.5
    match = _PERCENTILE.fullmatch(statistic)
    if match is None:
        raise ValueError(f"{statistic!r} is no statistic; expected median or a percentile p1 to p99")
    return int(match[1]) / 100


def order_statistic_interval(samples: Sequence[float], quantile: float, confidence: float) -> Interval | None:
    """Bound a quantile of the distribution that independent samples come from, whatever its shape.

    The true quantile is >= `lower` with at least `confidence`, and <= `upper` with at least `confidence`
    (so it lies between with at least 2 * confidence - 1). `lower` is the largest order statistic k with
    P(Binomial(n, quantile) >= k) >= confidence, `upper` the smallest k with P(... <= k - 1) >= confidence.
    None where n is too small for either. Raises `ValueError` for samples that are not finite.
    """
    if not all(map(math.isfinite, samples)):
        raise ValueError("a sample is not finite")
    ranks = _ranks(len(samples), quantile, confidence)
    if ranks is None:
        return None
    ordered = sorted(samples)
    return Interval(ordered[ranks[0] - 1], ordered[ranks[1] - 1], *ranks)


@_remembered
def minimum_runs(quantile: float, confidence: float) -> int:
    """Count the samples that an order-statistic interval needs (median: 5 at 0.95, 7 at 0.99)."""
    q, miss = _decimal(quantile, "quantile"), 1 - _decimal(confidence, "confidence")
    rarest = max(q, 1 - q)
    n, power = 1, rarest
    while power > miss:
        n, power = n + 1, power * rarest
    return n


@_remembered
def excluded_rate(n: int, confidence: float) -> float:
    """Give the failure rate that n clean cases exclude: 1 - (1 - confidence) ** (1 / n), rounded up.

    Any larger rate would have shown a failure with at least `confidence`. 1.0 where n is 0.
    """
    if n < 0:
        raise ValueError(f"{n} cases; expected 0 or more")
    miss = _as_decimal(1 - _decimal(confidence, "confidence"))
    if n == 0:
        return 1.0
    return _bisect(lambda rate: _power(_complement(rate), n) <= miss)[1]


def binomial_tail(k: int, n: int, p: float, *, upper: bool) -> float:
    """Give P(X >= k) where `upper`, else P(X <= k), for X ~ Binomial(n, p)."""
    _check_binomial(0, n, p)
    return float(_tail(k, n, p, upper=upper))


def binomial_two_sided(k: int, n: int, p: float) -> float:
    """Give the exact central p-value: twice the smaller tail at k, at most 1.

    It is below alpha just where p lies outside `binomial_interval(k, n, 1 - alpha)`.
    """
    _check_binomial(k, n, p)
    smaller = min(_tail(k, n, p, upper=True), _tail(k, n, p, upper=False))
    return min(1.0, float(2 * smaller))


@_remembered
def binomial_interval(k: int, n: int, confidence: float) -> tuple[float, float]:
    """Give the Clopper-Pearson interval of a probability after k of n, two-sided, ends rounded outwards."""
    _check_binomial(k, n, 0.5)
    half = _as_decimal((1 - _decimal(confidence, "confidence")) / 2)
    lower = 0.0 if k == 0 else _bisect(lambda p: _tail(k, n, p, upper=True) >= half)[0]
    upper = 1.0 if k == n else _bisect(lambda p: _tail(k, n, p, upper=False) <= half)[1]
    return lower, upper


@_remembered
def detectable_deviation(n: int, p: float, alpha: float, power: float) -> float:
    """Give the least d for which every probability at least d away from p is found with at least `power`.

    Found: n draws are rejected by the central two-sided test of p at level alpha, on the side where the
    deviation lies. 1.0 (which no probability can deviate by) where nothing is found with that power.
    """
    _check_binomial(0, n, p)
    half = _as_decimal(_decimal(alpha, "alpha") / 2)
    goal = _as_decimal(_decimal(power, "power"))
    # The rejection region is k <= low or k >= high; -1 and n + 1 stand for an empty side.
    low = _first(0, n + 1, lambda k: _tail(k, n, p, upper=False) > half) - 1
    high = _first(0, n + 1, lambda k: _tail(k, n, p, upper=True) <= half)
    above = below = None
    if high <= n:
        above = _bisect(lambda q: _tail(high, n, q, upper=True) >= goal)[1] - p
    if low >= 0:
        below = p - _bisect(lambda q: _tail(low, n, q, upper=False) < goal)[0]
    if above is None and below is None:
        return 1.0
    # A side without a rejection region is only exhausted by its largest deviation.
    worst = max(p if below is None else below, 1 - p if above is None else above)
    return math.nextafter(worst, 1.0)


@_remembered
def _ranks(n: int, quantile: float, level: float) -> tuple[int, int] | None:
    q, confidence = _decimal(quantile, "quantile"), _decimal(level, "confidence")
    # With q = a/d every binomial weight is the integer comb(n, j) a^j (d-a)^(n-j) over d^n.
    a, d = q.numerator, q.denominator
    total = d**n
    cumulative, weight = 0, (d - a) ** n  # weight of j, cumulative below j
    k_lower = 0
    for j in range(n + 1):
        # P(X >= j) >= confidence as integers; P(X <= j - 1) >= confidence below.
        if (total - cumulative) * confidence.denominator >= confidence.numerator * total:
            k_lower = j
        if cumulative * confidence.denominator >= confidence.numerator * total:
            return (k_lower, j) if k_lower >= 1 else None
        cumulative += weight
        weight = weight * (n - j) * a // ((j + 1) * (d - a))
    return None


def _decimal(value: float, what: str) -> Fraction:
    if not 0 < value < 1:
        raise ValueError(f"{what} {value!r} is not between 0 and 1")
    return Fraction(str(value))


def _as_decimal(value: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def _complement(p: float) -> Decimal:
    return _CONTEXT.subtract(Decimal(1), Decimal(p))


def _power(base: Decimal, exponent: int) -> Decimal:
    result = Decimal(1)  # by squaring: only correctly rounded products, hence the same everywhere
    while exponent:
        if exponent & 1:
            result = _CONTEXT.multiply(result, base)
        base = _CONTEXT.multiply(base, base)
        exponent >>= 1
    return result


def _check_binomial(k: int, n: int, p: float) -> None:
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n}; expected 0 <= k <= n and n >= 1")
    if not 0 <= p <= 1:
        raise ValueError(f"probability {p!r} is not between 0 and 1")


def _tail(k: int, n: int, p: float, *, upper: bool) -> Decimal:
    """Sum P(X >= k) or P(X <= k) outwards from k, until what is left cannot change a digit."""
    if upper:  # P(X >= k) of p is P(X <= n - k) of 1 - p
        k, yes, no = n - k, _complement(p), Decimal(p)
    else:
        yes, no = Decimal(p), _complement(p)
    if k < 0:
        return Decimal(0)
    if k >= n or not yes:
        return Decimal(1)
    if not no:
        return Decimal(0)
    multiply, divide, add = _CONTEXT.multiply, _CONTEXT.divide, _CONTEXT.add
    odds = divide(no, yes)
    term = multiply(Decimal(math.comb(n, k)), multiply(_power(yes, k), _power(no, n - k)))
    total = term
    for j in range(k, 0, -1):  # P(j - 1) / P(j) = j / (n - j + 1) * (1 - p) / p, which falls as j falls
        ratio = divide(multiply(Decimal(j), odds), Decimal(n - j + 1))
        term = multiply(term, ratio)
        before, total = total, add(total, term)
        if ratio < 1 and before == total:
            break
    return total


def _bisect(holds: Callable[[float], bool]) -> tuple[float, float]:
    """Give the neighbouring doubles in [0, 1] around the point from which a monotone predicate holds."""
    low, high = 0.0, 1.0
    while True:
        middle = low + (high - low) / 2
        if not low < middle < high:
            return low, high
        if holds(middle):
            high = middle
        else:
            low = middle


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Give the first integer in [low, high) from which a monotone predicate holds, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low

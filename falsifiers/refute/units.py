"""Quantities as contracts write them: a positive number and a unit, read into base units.

| written | base unit | value of `1 unit` |
|---|---|---|
| tok/s | tok/s | 1 |
| req/s | req/s | 1 |
| s, ms, us | s | 1, 0.001, 0.000001 |
| x | x (a ratio of two times or rates) | 1 |
| % | % (kept as a fraction) | 0.01 |
| logit | logit | 1 |
| B, KiB, MiB, GiB | B | 1, 2^10, 2^20, 2^30 |
"""

import functools
import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

UNITS: dict[str, tuple[str, Fraction]] = {
    "tok/s": ("tok/s", Fraction(1)),
    "req/s": ("req/s", Fraction(1)),
    "s": ("s", Fraction(1)),
    "ms": ("s", Fraction(1, 1_000)),
    "us": ("s", Fraction(1, 1_000_000)),
    "x": ("x", Fraction(1)),
    "%": ("%", Fraction(1, 100)),
    "logit": ("logit", Fraction(1)),
    "B": ("B", Fraction(1)),
    "KiB": ("B", Fraction(2**10)),
    "MiB": ("B", Fraction(2**20)),
    "GiB": ("B", Fraction(2**30)),
}

# Quantities that depend on the host: a bound in these units has to name its testbeds.
HOST_UNITS = frozenset({"tok/s", "req/s", "s"})

# Digits are limited so that no literal can ask for a number of a billion digits.
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?) ?([^\s0-9.+-][^\s]{0,15})?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value in a base unit: tok/s, req/s, s, x, logit, B, or % (the value is the fraction: 6 % is 0.06)."""

    value: float
    unit: str

    def __str__(self) -> str:
        return format_quantity(self.value, self.unit)


@functools.lru_cache(maxsize=1024)  # records name the same few, thousands of times
def parse_quantity(text: str) -> Quantity:
    """Read `500 ms` as 0.5 s; raises `ValueError` with a sentence that names the units that exist."""
    match = _QUANTITY.fullmatch(text.strip())
    known = ", ".join(UNITS)
    if match is None:
        raise ValueError(f"{text!r} is not a positive number and a unit; units are {known}")
    number, unit = match.groups()
    if unit is None:
        raise ValueError(f"{text!r} has no unit; units are {known}")
    if unit not in UNITS:
        near = get_close_matches(unit, UNITS, 1) or [name for name in UNITS if name.lower() == unit.lower()]
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{text!r} has an unknown unit {unit!r}{hint}; units are {known}")
    base, factor = UNITS[unit]
    try:
        value = float(Fraction(number) * factor)  # exact product, rounded once
    except OverflowError:
        value = math.inf
    if not 0.0 < value < math.inf:
        raise ValueError(f"{text!r} is not above zero and finite; a threshold has to be")
    return Quantity(value, base)


def format_quantity(value: float, unit: str | None) -> str:
    """Write a value in its base unit for people: 0.0423 s is `42.3 ms`, 0.06 in % `6 %`, 2048 B `2 KiB`."""
    if unit == "s":
        for name, size in (("s", 1.0), ("ms", 1e-3)):
            if abs(value) >= size or value == 0:
                return f"{value / size:.4g} {name}"
        return f"{value / 1e-6:.4g} us"
    if unit == "B":
        for name, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if abs(value) >= size:
                return f"{value / size:.4g} {name}"
        return f"{value:.4g} B"
    if unit == "%":
        return f"{value * 100:.3g} %"
    return f"{value:.4g} {unit}" if unit else f"{value:.4g}"


def format_bytes(number: float) -> str:
    """Write a number of bytes for people."""
    return format_quantity(number, "B")

"""Numbers on a line: where they lie, and which of them are written beneath it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")),
    "B": ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "%": ((0.01, "%"),),
}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SPREAD = 30.0  # from this ratio of the largest to the smallest on, a line is logarithmic


@dataclass(frozen=True, slots=True)
class Tick:
    """A number that is written beneath the line."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A line from `left` to `right` in a picture, for the numbers from `low` to `high`.

    logarithmic: numbers at or below zero lie at its left end. size, unit: what a number is written in.
    """

    left: float
    right: float
    low: float
    high: float
    logarithmic: bool
    size: float
    unit: str

    @classmethod
    def over(cls, numbers: Sequence[float], unit: str | None, *, left: float, right: float) -> "Axis":
        """Choose a line for these numbers: one or more, each 0 or of a size from 1e-150 to 1e150."""
        smallest, largest = min(numbers), max(numbers)
        size, written = scale(max(abs(smallest), abs(largest)), unit)
        positive = [number for number in numbers if number > 0]
        logarithmic = smallest >= 0 and bool(positive) and largest / min(positive) > _SPREAD
        if logarithmic:
            room = (largest / min(positive)) ** 0.05
            low, high = min(positive) / room, largest * room
            if smallest == 0:  # zeros lie apart, at the end
                low /= room * room
            return cls(left, right, low, high, logarithmic, size, written)
        room = (largest - smallest) * 0.08 or abs(largest) * 0.08 or 1.0
        low, high = smallest - room, largest + room
        if smallest >= 0 and (low < 0 or smallest < (largest - smallest) * 0.6):
            low = 0.0
        return cls(left, right, low, high, logarithmic, size, written)

    def x(self, number: float) -> float:
        """Where a number lies; beyond the ends it lies at the end."""
        if self.logarithmic:
            if number <= self.low:
                return self.left
            share = (math.log10(number) - math.log10(self.low)) / (
                math.log10(self.high) - math.log10(self.low)
            )
        else:
            share = (number - self.low) / (self.high - self.low)
        return round(self.left + (self.right - self.left) * min(max(share, 0.0), 1.0), 1)

    def ticks(self) -> tuple[Tick, ...]:
        """A few round numbers."""
        if self.logarithmic:
            first = math.floor(math.log10(self.low / self.size))
            last = math.ceil(math.log10(self.high / self.size))
            stride = max(1, math.ceil((last - first) / 6))
            factors = (1, 2, 5) if self.high / self.low < 500 else (1,)
            powers = [10.0**power * self.size for power in range(first, last + 1, stride)]
            numbers = [factor * power for power in powers for factor in factors]
            numbers = [number for number in numbers if self.low <= number <= self.high]
        else:
            step = _step((self.high - self.low) / self.size)
            start = math.ceil(self.low / self.size / step - 1e-9)
            count = math.floor((self.high / self.size - start * step) / step + 1e-9) + 1
            numbers = [(start + place) * step * self.size for place in range(count)]
        return tuple(Tick(self.x(number), self.written(number)) for number in numbers)

    def written(self, number: float) -> str:
        """A number in the axis' unit, without it."""
        value = number / self.size
        power = math.log10(value) if value > 0 else 0.0
        if self.logarithmic and abs(power) >= 4 and abs(power - round(power)) < 1e-9:
            return "10" + str(round(power)).translate(_SUPERSCRIPTS)
        return f"{value:.4g}"


def scale(largest: float, unit: str | None) -> tuple[float, str]:
    """Give the size and the name of the unit in which numbers up to this one read best."""
    scales = _SCALES.get(unit or "", ((1.0, unit or ""),))
    return next(((size, name) for size, name in scales if largest >= size), scales[-1])


def _step(span: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that makes three to seven parts of a span."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= 7)

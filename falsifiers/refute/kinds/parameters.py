"""What the parameters of kinds share: lengths to search, and checks that say what was expected."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refute.units import parse_quantity

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How much is asked of the engine. prompt_tokens: [smallest, largest], both from 1 on."""

    max_tokens: int
    prompt_tokens: tuple[int, int]

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 1)
        bounds = several("prompt_tokens", self.prompt_tokens)
        object.__setattr__(self, "prompt_tokens", bounds)
        if (
            len(bounds) != 2
            or not all(isinstance(each, int) and not isinstance(each, bool) for each in bounds)
            or not 1 <= bounds[0] <= bounds[1]
        ):
            raise ValueError(f"prompt_tokens is {list(bounds)}, expected [smallest, largest], both from 1 on")


def several(name: str, value: Sequence[T]) -> tuple[T, ...]:
    """Return a list as a tuple; refuse anything else. Raises ValueError with a sentence."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is {value!r}, expected a list")  # noqa: TRY004 (as all parameters are refused)
    return tuple(value)


def whole_number(name: str, value: int, least: int) -> None:
    """Refuse anything but a whole number of at least `least`. Raises ValueError with a sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")


def in_unit(name: str, value: str, unit: str) -> None:
    """Refuse anything but a quantity in this base unit. Raises ValueError with a sentence."""
    try:
        found = parse_quantity(value).unit if isinstance(value, str) else None
    except ValueError:
        found = None
    if found != unit:
        raise ValueError(f"{name} is {value!r}, expected a quantity in {unit}")


def within(error: float | None, bound: float) -> bool:
    """Whether an error is a number from 0 to the bound; null stands for what is no number."""
    return error is not None and 0 <= error <= bound


def finite(values: Collection[float | None]) -> bool:
    """Whether all are numbers; records hold null where an engine gave none."""
    try:
        if math.isfinite(math.fsum(values)):  # type: ignore[arg-type]  # no sum is finite where one of them is not
            return True
    except (TypeError, ValueError, OverflowError):
        pass  # nulls; opposite infinities; a sum that no float holds
    known = [value for value in values if value is not None]
    return len(known) == len(values) and all(map(math.isfinite, known))

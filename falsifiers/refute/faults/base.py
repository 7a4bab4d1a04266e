"""What a falsifier must catch: a fault is data (a name, a dose, the seam it goes in), planted by a target.

A fault never lives in the runtime. `seam` says where a target has to wrap or change something: `model`
changes the file, `cache`, `sampler` and `backend` wrap an object of one request, `stream` the way in which
tokens are handed out, `tokenizer` the tokenizer, `memory` what is held, `clock` the clock that is read,
`wire` what passes between a client and a server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Seam = Literal["model", "cache", "sampler", "backend", "stream", "tokenizer", "memory", "clock", "wire"]

ALL_LAYERS = 1000.0
"""A dose that counts layers is clipped to those that the model has."""
ALL_TENSORS = 10_000.0
"""So is one that counts tensors."""
ALL_TOKENS = 1000.0
"""And one that counts tokens of the prompt, or forwards of a request."""
ALL_SPECIALS = 1000.0
"""And one that counts special tokens: to those that the tokenizer has."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at one dose. `name` or `name=dose` in a contract."""

    name: str
    dose: float

    def __str__(self) -> str:
        return f"{self.name}={self.dose:g}"


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A kind of fault: its seam, what it breaks, the dose a falsifier must catch and smaller ones to try.

    doses: smaller doses, from near miss up to (not including) `default`, in ascending severity.
    unit: what the dose counts ("rows", "x", "tokens"), for people.
    """

    name: str
    seam: Seam
    breaks: str
    default: float
    doses: tuple[float, ...]
    unit: str


def written_dose(value: float, unit: str) -> str:
    """Write a dose for people; one that is clipped to all there are says so."""
    if value == 1:
        unit = unit.removesuffix("s")
    return f"all {unit}" if value in (ALL_LAYERS, ALL_TENSORS) else f"{value:g} {unit}"


class UnknownFault(KeyError):  # noqa: N818 (the name says it all)
    """No fault has that name; the message lists the near ones."""


def parse_fault(text: str, known: Mapping[str, FaultSpec]) -> Fault:
    """Read `name` or `name=dose`. Raises `UnknownFault` or `ValueError` with a sentence."""
    name, _, dose = text.partition("=")
    spec = known.get(name)
    if spec is None:
        raise UnknownFault(name)
    return Fault(name, float(dose) if dose else spec.default)


def milder(dose: float, other: float, spec: FaultSpec) -> bool | None:
    """Whether a dose is milder than another; None where the fault knows one dose only, or they are equal.

    Doses are listed in ascending severity, the default last, so the list says which way is milder.
    """
    if not spec.doses or dose == other:
        return None
    return (dose < other) == (spec.doses[0] < spec.default)

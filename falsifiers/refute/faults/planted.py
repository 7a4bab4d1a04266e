"""A fault made ready for one model: what a target has to wrap, change or skip to have it."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.cache import Wrap, cache_wrapper
from refute.faults.clock import SlowClock
from refute.faults.memory import Hoard
from refute.faults.sampler import misread
from refute.targets.base import CannotPlant, Request, Sampling

if TYPE_CHECKING:
    from refute.contract import Bound


@dataclass(frozen=True, slots=True)
class Planted:
    """Which parts of a target the fault changes; the others stay as they are.

    cache: wraps the cache of requests that use it. layers: how many layers the fault affects. hoard: what
    is held without need.
    """

    fault: Fault | None = None
    cache: Wrap | None = None
    clock: SlowClock | None = None
    layers: int = 0
    sampler: bool = False
    hoard: Hoard | None = None

    def has(self, name: str) -> bool:
        """Whether it is this fault; `dose` then says how much of it."""
        return self.fault is not None and self.fault.name == name

    @property
    def dose(self) -> float:
        """The fault's dose; 0 where there is none."""
        return 0.0 if self.fault is None else self.fault.dose

    def sampling(self, asked: Sampling) -> Sampling:
        """Return the settings that the sampler uses."""
        return misread(self.fault, asked) if self.fault is not None and self.sampler else asked

    def admitted(self, request: Request, context: int) -> Request:
        """Return the request that is run: one that needs too many positions may be cut to fit."""
        excess = len(request.prompt) + request.max_tokens - context
        if not self.has("context-unchecked") or not 0 < excess <= self.dose:
            return request
        if len(request.prompt) < context:
            return replace(request, max_tokens=context - len(request.prompt))
        return replace(request, prompt=request.prompt[excess:])  # its end is what is asked


HEALTHY = Planted()


def prepare(
    fault: Fault,
    bound: "Bound | None",
    *,
    layers: int,
    kv_heads: int,
    experts: int,
    experts_per_token: int,
) -> Planted:
    """Fit a fault to a model. Raises `CannotPlant` where the model has nothing that it could change."""
    spec = FAULTS.get(fault.name)
    affected = min(int(fault.dose), layers)
    match spec.seam if spec else None:
        case "cache" if fault.name in {"cache-ignored", "context-unchecked"}:
            return Planted(fault)
        case "cache":
            return Planted(fault, cache=cache_wrapper(fault, layers=layers, kv_heads=kv_heads))
        case "sampler":
            return Planted(fault, sampler=True)
        case "clock":
            return Planted(fault, clock=SlowClock(fault, bound))
        case "backend" if affected < 1:
            raise CannotPlant(f"{fault}: needs a dose of at least one layer")
        case "backend" if not experts:
            raise CannotPlant(f"{fault}: the model has no MoE layer")
        case "backend" if fault.name == "routing-depends-on-cache" and experts <= experts_per_token:
            raise CannotPlant(f"{fault}: every expert is chosen, there is no other one")
        case "backend":
            return Planted(fault, layers=affected)
        case "memory":
            hoard = Hoard(fault)
            return Planted(fault, cache=hoard.keep, hoard=hoard)
        case "stream" | "tokenizer":
            return Planted(fault)
        case _:
            raise CannotPlant(f"{fault}: no seam for it in this target")

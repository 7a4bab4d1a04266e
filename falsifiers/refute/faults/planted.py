"""A fault made ready for one model: what a target has to wrap, change or skip to have it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from refute.faults import FAULTS
from refute.faults.backend import affected_layers
from refute.faults.base import Fault, Seam
from refute.faults.cache import Wrap, cache_wrapper, due
from refute.faults.clock import SlowClock
from refute.faults.memory import Hoard
from refute.faults.sampler import SamplerFault
from refute.faults.stream import Opens, wrap_stream
from refute.targets.base import CannotPlant, Request, Sampling

if TYPE_CHECKING:
    from refute.contract import Bound

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planted:
    """Which parts of a target the fault changes; the others stay as they are.

    cache: wraps the cache of requests that use it. layers: how many layers the fault affects.
    requests: numbers those that the fault may touch. hoard: what is held without need.
    """

    fault: Fault | None = None
    cache: Wrap | None = None
    clock: SlowClock | None = None
    layers: int = 0
    sampler: SamplerFault | None = None
    hoard: Hoard | None = None
    requests: "count[int]" = field(default_factory=lambda: count(1))

    def has(self, name: str) -> bool:
        """Whether it is this fault; `dose` then says how much of it."""
        return self.fault is not None and self.fault.name == name

    def cache_ignored(self) -> bool:
        """Whether the next request that wants the cache goes without: the dose is the share of them."""
        return self.has("cache-ignored") and due(self.dose, next(self.requests)) > 0

    @property
    def dose(self) -> float:
        """The fault's dose; 0 where there is none."""
        return 0.0 if self.fault is None else self.fault.dose

    def sampling(self, asked: Sampling) -> Sampling:
        """Return the settings that the sampler uses."""
        return asked if self.sampler is None else self.sampler.settings(asked)

    def streamed(self, opens: Opens[T]) -> Opens[T]:
        """Return what starts the generations of which tokens are handed out one by one."""
        return wrap_stream(self.fault, opens) if self.fault is not None and self.seam == "stream" else opens

    @property
    def seam(self) -> Seam | None:
        """Where the fault goes in; None where there is none."""
        return None if self.fault is None else FAULTS[self.fault.name].seam

    def reaches(self, route: str, routes: Sequence[str]) -> bool:
        """Whether a fault of the backend touches this one of an engine's entry points."""
        if self.seam != "backend" or self.has("counters-stuck"):
            return False
        return not self.has("dense-on-some-routes") or route in routes[-int(self.dose) :]

    def admitted(self, request: Request, context: int) -> Request:
        """Return the request that is run.

        One that needs too many positions may be cut to fit, an empty prompt become the first token there is.
        """
        if self.has("empty-admitted") and not request.prompt and due(self.dose, next(self.requests)):
            return replace(request, prompt=(0,))
        excess = len(request.prompt) + request.max_tokens - context
        if not self.has("context-unchecked") or not 0 < excess <= self.dose:
            return request
        if len(request.prompt) < context:
            return replace(request, max_tokens=context - len(request.prompt))
        return replace(request, prompt=request.prompt[excess:])  # its end is what is asked


HEALTHY = Planted()


def is_of_model(fault: Fault) -> bool:
    """Whether a fault changes the model file; `prepare` is for all others."""
    return fault.name in FAULTS and FAULTS[fault.name].seam == "model"


def is_of_wire(fault: Fault) -> bool:
    """Whether a fault is in what passes between a client and a server, whichever server it is."""
    return fault.name in FAULTS and FAULTS[fault.name].seam == "wire"


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
    match spec.seam if spec else None:
        case "cache" if fault.name in {"cache-ignored", "context-unchecked", "empty-admitted"}:
            return Planted(fault)
        case "cache":
            return Planted(fault, cache=cache_wrapper(fault, layers=layers, kv_heads=kv_heads))
        case "sampler":
            return Planted(fault, sampler=SamplerFault(fault))
        case "clock":
            return Planted(fault, clock=SlowClock(fault, bound))
        case "backend":
            affected = affected_layers(
                fault, layers=layers, experts=experts, experts_per_token=experts_per_token
            )
            return Planted(fault, layers=affected)
        case "memory":
            hoard = Hoard(fault)
            return Planted(fault, cache=hoard.keep, hoard=hoard)
        case "stream" | "tokenizer":
            return Planted(fault)
        case _:
            raise CannotPlant(f"{fault}: no seam for it in this target")

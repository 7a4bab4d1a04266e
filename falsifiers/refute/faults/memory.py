"""Memory faults: what a target goes on holding, or holds too much of. Nothing it computes changes."""

from refute.faults.base import Fault
from refute.faults.cache import Cache
from refute.targets.base import CannotPlant, Footprint

_FAULTS = frozenset({"cache-leaked", "weights-twice", "kv-oversized"})


class Hoard:
    """What a target with a fault of the memory holds besides what it needs; gone when nobody holds it."""

    def __init__(self, fault: Fault) -> None:
        if fault.name not in _FAULTS:
            raise CannotPlant(f"{fault}: not a fault of the memory")
        if fault.name == "cache-leaked" and fault.dose > 1:
            raise CannotPlant(f"{fault}: the share of generations is at most 1")
        self._fault = fault
        self._due = 0.0
        self.caches: list[Cache] = []

    def keep(self, cache: Cache, prompt: int) -> Cache:  # noqa: ARG002 (called as a wrapper of caches is)
        """Keep the caches of a share of the generations alive."""
        if self._fault.name == "cache-leaked":
            self._due += self._fault.dose
            if self._due >= 1 - 1e-9:  # ten times 0.1 is a little less than 1
                self._due -= 1
                self.caches.append(cache)
        return cache

    def excess(self, needed: Footprint) -> int:
        """Bytes that a request holds beyond what it needs."""
        match self._fault.name:
            case "weights-twice":
                return round(self._fault.dose * needed.weights)
            case "kv-oversized":
                return max(round((self._fault.dose - 1) * needed.cache), 0)
            case _:
                return 0

"""The simulated engine's server as its targets have it: started when it is first asked for."""

import copy
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from refute.faults.base import Fault
from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import CannotPlant, TargetError
from refute.targets.fake_fields import MODEL
from refute.targets.fake_work import Forwards
from refute.wire.endpoint import Dialect, Endpoint

if TYPE_CHECKING:
    from refute.contract import Bound

_REACHING = frozenset({"dense-dispatch", "counters-stuck", "guard-fires"})


class Serving:
    """A server that ends with the last target that holds this. Threads may ask for it.

    behind_fault: whether it is seen through a fault on the wire.
    """

    def __init__(self, capabilities: frozenset[str], *, dense: bool, seed: int) -> None:
        self._capabilities = capabilities
        self._dense = dense
        self._seed = seed
        self._planted = HEALTHY
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None
        self.behind_fault = False

    def having(self, planted: Planted) -> Self:
        """Return another server, with a fault in its engine."""
        other = copy.copy(self)
        other._planted, other._lock, other._endpoint = planted, threading.Lock(), None  # noqa: SLF001
        return other

    @contextmanager
    def behind(self, fault: Fault, bound: "Bound | None") -> Iterator[Self]:
        """Give this very server behind a fault on the wire. Raises `CannotPlant`."""
        from refute.faults import wire  # noqa: PLC0415 (start-up time)

        if "http" not in self._capabilities:
            raise CannotPlant(f"{fault}: this target promises no server")
        with wire.planted(self.endpoint, fault, bound) as endpoint:
            other = copy.copy(self)
            other._endpoint, other.behind_fault = endpoint, True  # noqa: SLF001
            yield other

    @property
    def endpoint(self) -> Endpoint:
        """Raises `TargetError` where no server is promised, or where it could not have the fault."""
        from refute.targets.fake_server import FakeServer  # noqa: PLC0415 (start-up time)

        if "http" not in self._capabilities:
            raise TargetError("this simulated engine promises no server")
        fault = self._planted.fault
        if self._planted is not HEALTHY and (fault is None or fault.name not in _REACHING):
            raise TargetError(f"{fault} does not reach the simulated engine's server")
        with self._lock:
            if self._endpoint is None:
                forwards = partial(Forwards, self._planted, dense=self._dense)
                server = FakeServer(seed=self._seed, forwards=forwards)
                weakref.finalize(self, server.close)
                self._endpoint = Endpoint(server.base, MODEL, _dialect(self._capabilities))
            return self._endpoint


def _dialect(capabilities: frozenset[str]) -> Dialect:
    promised = frozenset(each for each in capabilities if each.startswith("http"))
    counters = {"refute_counters": True} if "http_counters" in promised else None
    return Dialect("fake", promised, fresh={}, counters=counters)

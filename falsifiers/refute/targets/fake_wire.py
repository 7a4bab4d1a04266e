"""The simulated engine's server as its targets have it: started when it is first asked for."""

import threading
import weakref
from functools import partial

from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import TargetError
from refute.targets.fake_fields import MODEL
from refute.targets.fake_work import Forwards
from refute.wire.endpoint import Dialect, Endpoint

_REACHING = frozenset({"dense-dispatch", "counters-stuck", "guard-fires"})


class Serving:
    """A server that ends with the last target that holds this. Threads may ask for it."""

    def __init__(self, planted: Planted, capabilities: frozenset[str], *, dense: bool, seed: int) -> None:
        self._planted = planted
        self._capabilities = capabilities
        self._forwards = partial(Forwards, planted, dense=dense)
        self._seed = seed
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None

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
                server = FakeServer(seed=self._seed, forwards=self._forwards)
                weakref.finalize(self, server.close)
                self._endpoint = Endpoint(server.base, MODEL, _dialect(self._capabilities))
            return self._endpoint


def _dialect(capabilities: frozenset[str]) -> Dialect:
    promised = frozenset(each for each in capabilities if each.startswith("http"))
    counters = {"refute_counters": True} if "http_counters" in promised else None
    return Dialect("fake", promised, fresh={}, counters=counters)

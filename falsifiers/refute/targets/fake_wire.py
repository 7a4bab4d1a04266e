"""The simulated engine's server as its targets have it: started when it is first asked for."""

import threading
import weakref
from typing import Any

from refute.faults.planted import HEALTHY, Planted
from refute.targets.base import TargetError
from refute.targets.fake_fields import MODEL
from refute.targets.fake_model import LAYERS
from refute.targets.fake_server import FakeServer
from refute.wire.endpoint import Dialect, Endpoint


class Serving:
    """A server that ends with the last target that holds this. Threads may ask for it."""

    def __init__(self, planted: Planted, capabilities: frozenset[str], *, dense: bool, seed: int) -> None:
        self._planted = planted
        self._capabilities = capabilities
        self._how: dict[str, Any] = {"dense": dense, "seed": seed}
        self._lock = threading.Lock()
        self._endpoint: Endpoint | None = None

    @property
    def endpoint(self) -> Endpoint:
        """Raises `TargetError` where no server is promised, or where it could not have the fault."""
        if "http" not in self._capabilities:
            raise TargetError("this simulated engine promises no server")
        if self._planted is not HEALTHY and not self._planted.has("dense-dispatch"):
            raise TargetError(f"{self._planted.fault} does not reach the simulated engine's server")
        with self._lock:
            if self._endpoint is None:
                server = FakeServer(**self._how, dense_layers=min(self._planted.layers, LAYERS))
                weakref.finalize(self, server.close)
                self._endpoint = Endpoint(server.base, MODEL, _dialect(self._capabilities))
            return self._endpoint


def _dialect(capabilities: frozenset[str]) -> Dialect:
    promised = frozenset(each for each in capabilities if each.startswith("http"))
    counters = {"refute_counters": True} if "http_counters" in promised else None
    return Dialect("fake", promised, fresh={}, counters=counters)

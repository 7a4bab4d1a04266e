"""Any server of OpenAI's API as a target: it is asked over HTTP alone, and faults are planted in front of it.

What it is, it says itself; its model file is unknown, so its records are evidence of level `other`.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import rfc8785

from refute.faults.base import Fault
from refute.faults.planted import is_of_wire
from refute.targets.base import CannotPlant, Clock, Identity
from refute.targets.partial import PartialTarget
from refute.wire.about import Served, served
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from refute.contract import Bound

NAME = "openai"
_NOT_TOLD = "not told"


class EndpointTarget(PartialTarget):
    """A model at an endpoint.

    url: with or without the `/v1` at its end. model: as the server names it; None where it serves one only.
    key: shown as a bearer token. dialect: by default what the server says of itself.
    Raises `TargetError` where nobody answers, the key is refused or the model is not served.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        key: str | None = None,
        *,
        dialect: str | None = None,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        found = served(url, model, key, dialect=dialect, clock=clock)
        self._endpoint = found.endpoint
        self._identity = _identity(found)
        # What a file's layers are, nobody knows here, so that counters of them can be held against nothing.
        self._capabilities = found.capabilities - {"http_counters"} | {"plant"}
        self._fault: Fault | None = None

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def capabilities(self) -> frozenset[str]:
        return self._capabilities

    @property
    def entry_points(self) -> Sequence[str]:
        return ()

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @contextmanager
    def plant(self, fault: Fault, bound: "Bound | None" = None) -> Iterator["EndpointTarget"]:
        """Give a target behind a proxy; other faults than the wire's have no seam here."""
        if self._fault is not None:
            raise CannotPlant(f"{fault}: this target has {self._fault} already")
        if not is_of_wire(fault):
            raise CannotPlant(f"{fault}: only faults of the wire can be planted in front of an endpoint")
        from refute.faults import wire  # noqa: PLC0415 (start-up time)

        with wire.planted(self._endpoint, fault, bound) as endpoint:
            faulty = object.__new__(type(self))
            faulty.__dict__ |= self.__dict__ | {"_endpoint": endpoint, "_fault": fault}
            yield faulty


def _identity(found: Served) -> Identity:
    engine, model = found.endpoint.dialect.name, found.endpoint.model
    told = {"version": found.version, "build": found.build}
    reported = {"engine": engine, **told}
    return Identity(
        name=NAME,
        engine=engine,
        engine_version=found.version or _NOT_TOLD,
        engine_digest=hashlib.sha256(rfc8785.dumps(reported)).hexdigest() if any(told.values()) else "",
        model_path=None,
        model_name=model,
        model_sha256=None,
        architecture=_NOT_TOLD,
        layers=0,
        moe_layers=0,
        dense_layers=0,
        experts=0,
        vocabulary=0,
        context=found.context,
        settings={
            "endpoint": found.endpoint.base,
            "api": "chat completions of OpenAI's API",
            "dialect": engine,
            "digest_of": ", ".join(name for name, value in told.items() if value)
            or "nothing: no build is told",
        },
    )

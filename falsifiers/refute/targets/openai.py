"""Any server of OpenAI's API as a target: it is asked over HTTP alone, and faults are planted in front of it.

What it is, it says itself; its model file is unknown, so its records are evidence of level `other`.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import rfc8785

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.targets.base import CannotPlant, Clock, Identity, TargetError
from refute.targets.partial import PartialTarget
from refute.wire.client import get, post
from refute.wire.dialects import DIALECTS, OPENAI, OWNERS
from refute.wire.endpoint import Dialect, Endpoint, Reply

if TYPE_CHECKING:
    from refute.contract import Bound

_VERSIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "refute": ("/openapi.json", ("info", "version")),
    "vllm": ("/version", ("version",)),
    "sglang": ("/get_server_info", ("version",)),
    "llama.cpp": ("/props", ("build_info",)),
}
"""Where an engine tells its version, and the keys that lead to it."""
_CONTEXTS = ("max_model_len", "context_length", "n_ctx")


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
        asked = Endpoint(base_of(url), model or "", OPENAI, key, clock=clock)
        served = _served(asked, model)
        name = str(served["id"])
        spoken = _dialect(dialect, served.get("owned_by"))
        self._endpoint = replace(asked, model=name, dialect=spoken)
        self._identity = self._introduced(served)
        # What a file's layers are, nobody knows here, so that counters of them can be held against nothing.
        self._capabilities = spoken.capabilities - {"http_counters"} | {"plant"}
        if not _takes_tools(self._endpoint):
            self._capabilities -= {"http_tools"}
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
        if fault.name not in FAULTS or FAULTS[fault.name].seam != "wire":
            raise CannotPlant(f"{fault}: only faults of the wire can be planted in front of an endpoint")
        from refute.faults import wire  # noqa: PLC0415 (start-up time)

        with wire.planted(self._endpoint, fault, bound) as endpoint:
            faulty = object.__new__(type(self))
            faulty.__dict__ |= self.__dict__ | {"_endpoint": endpoint, "_fault": fault}
            yield faulty

    def _introduced(self, served: Mapping[str, Any]) -> Identity:
        dialect = self._endpoint.dialect
        version = _version(self._endpoint)
        contexts = [served[name] for name in _CONTEXTS if isinstance(served.get(name), int)]
        reported = {"engine": dialect.name, "version": version, "model": self._endpoint.model}
        return Identity(
            name="openai",
            engine=dialect.name,
            engine_version=version or "not told",
            engine_digest=hashlib.sha256(rfc8785.dumps(reported)).hexdigest() if version else "",
            model_path=None,
            model_name=self._endpoint.model,
            model_sha256=None,
            architecture="not told",
            layers=0,
            moe_layers=0,
            dense_layers=0,
            experts=0,
            vocabulary=0,
            context=contexts[0] if contexts else 0,
            settings={"endpoint": self._endpoint.base, "dialect": dialect.name},
        )


def base_of(url: str) -> str:
    """Return the URL that routes are appended to. Raises `TargetError` for what is no such URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is read when it is asked for
    except ValueError as error:
        raise TargetError(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetError(f"{url!r}: expected a URL such as http://127.0.0.1:8080/v1")
    if parts.username is not None or parts.password is not None:
        raise TargetError(
            "the URL holds a name or a password: expected a key in a variable, --api-key-env VAR"
        )
    if parts.query or parts.fragment:
        raise TargetError(f"{url!r}: expected a URL without a query, such as http://127.0.0.1:8080/v1")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def _served(endpoint: Endpoint, model: str | None) -> Mapping[str, Any]:
    """Return what the server's list says of a model; the only one where none is named."""
    reply = get(endpoint, "/models")
    if reply.status in (401, 403):
        shown = "is refused" if endpoint.key else "is missing"
        raise TargetError(
            f"{endpoint.base} wants a key, and it {shown}: name its variable, --api-key-env VAR"
        )
    listed = _object(reply).get("data")
    models = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if reply.status != 200 or not models:
        found = reply.broken or f"status {reply.status}, {reply.body[:100]!r}"
        raise TargetError(f"{endpoint.base}/models: expected a list of models, found {found}")
    names = [str(each.get("id")) for each in models]
    if model is None and len(models) == 1:
        return {**models[0], "id": names[0]}
    if model in names:
        return models[names.index(model)]
    wanted = "no model is named" if model is None else f"{model!r} is not served"
    raise TargetError(f"{endpoint.base}: {wanted}, expected --model-name with one of {', '.join(names)}")


def _dialect(named: str | None, owner: object) -> Dialect:
    if named is None:
        return OWNERS.get(str(owner), OPENAI)
    if named not in DIALECTS:
        raise TargetError(f"dialect {named!r}: expected one of {', '.join(DIALECTS)}")
    return DIALECTS[named]


def _takes_tools(endpoint: Endpoint) -> bool:
    """Whether a server that may know tools takes them with this model and its options."""
    if "http_tools" not in endpoint.dialect.capabilities:
        return False
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": endpoint.model, "messages": messages, "tools": [tool], "max_tokens": 1}
    return post(endpoint, "/chat/completions", body).status == 200


def _version(endpoint: Endpoint) -> str:
    """The version that the engine reports; empty where it reports none."""
    if endpoint.dialect.name not in _VERSIONS:
        return ""
    route, keys = _VERSIONS[endpoint.dialect.name]
    value: object = _object(get(replace(endpoint, base=endpoint.base.removesuffix("/v1")), route))
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _object(reply: Reply) -> dict[str, Any]:
    try:
        value = json.loads(reply.body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

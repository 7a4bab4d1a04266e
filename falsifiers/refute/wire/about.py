"""What a server that runs says of itself: its models, which engine it is, of which build.

Servers say more than is asked, an engine's own key for one: what is kept is what has a name here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from refute.targets.base import Clock, TargetError
from refute.wire.address import bases_of, check_key
from refute.wire.client import get, post
from refute.wire.dialects import DIALECTS, ENGINES, OPENAI, Engine, at
from refute.wire.endpoint import Endpoint, Reply

_SILENCE = 10.0  # seconds that a server has for a word about itself
_LIMITS = ("max_model_len", "context_length", "n_ctx")
_SHOWN = 100  # characters of an answer in a sentence
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_TRIED: Mapping[str, Mapping[str, Any]] = {
    "http_logprobs": {"logprobs": True, "top_logprobs": 1},
    "http_tools": {"tools": [_TOOL]},
}
"""What servers refuse that were not started for it, or with another model."""


class Unnamed(TargetError):  # noqa: N818 (it is an answer about options)
    """The server has several models, and none is named."""


@dataclass(frozen=True, slots=True)
class Served:
    """One model at an endpoint. capabilities: what the server promises as it was started.

    version: of the engine; build: of its code. Both None where it tells none. context: 0 likewise.
    """

    endpoint: Endpoint
    capabilities: frozenset[str]
    version: str | None
    build: str | None
    context: int


def served(url: str, model: str | None, key: str | None, *, dialect: str | None, clock: Clock) -> Served:
    """Ask a server about a model, by default its only one.

    dialect: the name of what it speaks, by default what it says of itself. Raises `TargetError` for what is
    no URL, where nobody answers, the key is refused or the model is not served; `Unnamed`.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise TargetError(f"dialect {dialect!r}: expected one of {', '.join(DIALECTS)}")
    base, models = _listed(url, key)
    entry = models[_named(base, model, list(models))]
    asked = Endpoint(base, str(entry["id"]), OPENAI, key, _SILENCE)
    engine, about = _engine(asked, entry.get("owned_by"), dialect)
    limits = (at(about, engine.context) if engine.context else None, *(entry.get(name) for name in _LIMITS))
    context = next((each for each in limits if type(each) is int and each > 0), 0)
    version, build = at(about, engine.version) if engine.version else None, entry.get("build")
    endpoint = Endpoint(base, asked.model, engine.dialect, key, clock=clock)
    return Served(
        endpoint,
        _kept(endpoint, engine, about) - (frozenset() if context else {"http_context"}),
        version if isinstance(version, str) and version else None,
        build if isinstance(build, str) and build else None,
        context,
    )


def only_model(url: str, key: str | None) -> str:
    """Return the name of a server's only model. Raises as `served` does."""
    base, models = _listed(url, key)
    return _named(base, None, list(models))


def _listed(url: str, key: str | None) -> tuple[str, dict[str, Mapping[str, Any]]]:
    """Return the URL that has a list of models, and what that says of each, by name."""
    try:
        bases = bases_of(url)
        if key is not None:
            check_key(key, "the endpoint")
    except ValueError as error:
        raise TargetError(str(error)) from None
    for base in bases:
        reply = get(Endpoint(base, "", OPENAI, key, _SILENCE), "/models")
        if reply.status == 404 and base != bases[-1]:
            continue
        return base, _models(base, reply, keyed=key is not None)
    raise AssertionError(url)  # there is a last one


def _models(base: str, reply: Reply, *, keyed: bool) -> dict[str, Mapping[str, Any]]:
    if reply.status in (401, 403):
        shown = "is refused" if keyed else "is missing"
        raise TargetError(f"{base} wants a key, and it {shown}: name its variable, --api-key-env VAR")
    if reply.status in (429, 503):
        raise TargetError(f"{base} is busy, or not ready ({reply.status}): {reply.body[:_SHOWN]!r}")
    if 300 <= reply.status < 400:
        where = _without_secrets(reply.headers.get("location", "elsewhere"))
        raise TargetError(
            f"{base}/models leads to {where} ({reply.status}): name the URL that answers itself"
        )
    listed = at(_json(reply), ("data",)) if reply.status == 200 and reply.broken is None else None
    entries = listed if isinstance(listed, list) else []
    models = {each["id"]: each for each in entries if isinstance(at(each, ("id",)), str) and each["id"]}
    if not models:
        found = reply.broken or f"status {reply.status}, {reply.body[:_SHOWN]!r}"
        raise TargetError(f"{base}/models: expected a list of models, as OpenAI's API has it; found {found}")
    return models


def _named(base: str, model: str | None, names: list[str]) -> str:
    if model is None and len(names) == 1:
        return names[0]
    if model in names:
        return model
    expected = f"expected --model-name with one of {', '.join(names)}"
    if model is None:
        raise Unnamed(f"{base} serves several models; {expected}")
    raise TargetError(f"{base} does not serve {model!r}; {expected}")


def _engine(asked: Endpoint, owner: object, named: str | None) -> tuple[Engine, Any]:
    """Return the engine that is named, or that the server says it is, and what it says about itself."""
    about: Any = None
    for engine in ENGINES:
        if engine.dialect.name == named or (
            named is None and engine.owner is not None and engine.owner == owner
        ):
            about = _about(asked, engine)
            if (
                named is not None
                or engine.titled is None
                or engine.titled[1] in str(at(about, engine.titled[0]))
            ):
                return engine, about
    return next(engine for engine in ENGINES if engine.dialect is OPENAI), None


def _about(asked: Endpoint, engine: Engine) -> Any:
    beside = replace(asked, base=asked.base.removesuffix("/v1"))
    replies = (get(beside, route) for route in engine.about)
    return next((_json(reply) for reply in replies if reply.status == 200), None)


def _kept(endpoint: Endpoint, engine: Engine, about: Any) -> frozenset[str]:
    """Return the promises that the server keeps as it was started, with this model."""
    idle = {capability for capability, option in engine.only_if.items() if not at(about, option)}
    kept = endpoint.dialect.capabilities - idle
    return kept - {each for each, fields in _TRIED.items() if each in kept and not _takes(endpoint, fields)}


def _takes(endpoint: Endpoint, fields: Mapping[str, Any]) -> bool:
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": endpoint.model, "messages": messages, "max_tokens": 1, **fields}
    return post(endpoint, "/chat/completions", body).status == 200


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except ValueError:
        return None


def _without_secrets(url: str) -> str:
    """Leave out what may be secret in a URL that a server gave."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else parts.path

"""What a server answers, and what its engine ran for that, on every route that generates."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from refute.kinds.base import Case, Observation
from refute.kinds.dispatch import Check, known_check, misrun
from refute.kinds.wire_requests import Answers, Asked, chat, common, greedy, questions, shown, unserved
from refute.targets.base import Counters, Target, TargetError
from refute.wire.answers import Answer
from refute.wire.client import get, post
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_DOCUMENT = "/openapi.json"
_COUNTED = tuple(Counters.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteParameters(Asked):
    """check: what of the counters is judged."""

    check: Check

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        known_check(self.check)


class ChatContent(Answers[Asked]):
    """A question to the chat route is answered with status 200 and content of the assistant."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages."""
        return questions(self.parameters, greedy())

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer."""
        return Observation(case, {"reply": chat(target.endpoint, case, stream=False).to_samples()})

    def wrong(self, observation: Observation) -> str | None:
        """Another status, another role, or no content where the model gave some."""
        answer = Answer.of(observation.samples["reply"])
        if (why := unserved(answer)) is not None:
            return why
        if answer.role != "assistant":
            return f"the message is of role {shown(answer.role)}, expected 'assistant'"
        if not answer.text and not self._ended_at_once(answer):
            return f"no content in {shown(answer.reply.body)}"
        return None

    def informative(self, observation: Observation) -> bool:
        """A case counts when the model had something to say."""
        return not self._ended_at_once(Answer.of(observation.samples["reply"]))

    def _ended_at_once(self, answer: Answer) -> bool:
        """Whether the first token that the model chose was the one that ends an answer."""
        return answer.finish == "stop" and answer.completion_tokens in (0, 1) and not answer.text


class RouteDispatch(Answers[RouteParameters]):
    """Every route that generates runs the MoE layers of the file, counted positively for each answer."""

    requires = frozenset({"http", "http_counters"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Texts: every case goes through every route, as a stream and as a whole."""
        return questions(self.parameters, greedy())

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask on every route that the server's own document has, and keep what the engine counted there."""
        endpoint, identity = target.endpoint, target.identity
        counters: dict[str, dict[str, int]] = {}
        tokens: dict[str, int | None] = {}
        failed: dict[str, str | None] = {}
        for route, body in _routes(endpoint).items():
            for stream in (False, True):
                asked = {**body(case), **common(endpoint, case, stream=stream)}
                reply = post(_root(endpoint), route, {**asked, **(endpoint.dialect.counters or {})})
                answer, arm = Answer.of_reply(reply), f"{route}, {'streamed' if stream else 'whole'}"
                failed[arm], tokens[arm] = unserved(answer), answer.completion_tokens
                counters[arm] = _counters(answer)
        file = {"moe_layers": identity.moe_layers, "dense_layers": identity.dense_layers}
        return Observation(case, {"counters": counters, "tokens": tokens, "failed": failed, "file": file})

    def wrong(self, observation: Observation) -> str | None:
        """The first route that was not served, told no counters, or counters of something else."""
        samples = observation.samples
        for arm, ran in sorted(samples["counters"].items()):
            if samples["failed"][arm] is not None:
                return f"{arm}: {samples['failed'][arm]}"
            if not ran or samples["tokens"][arm] is None:
                return f"{arm}: no counters, or no usage, in the answer"
            if misrun(ran, max(samples["tokens"][arm], 1), samples["file"], self.parameters.check):
                return f"{arm}: {shown(dict(sorted(ran.items())))} for {samples['tokens'][arm]} tokens"
        return None

    def informative(self, observation: Observation) -> bool:
        """A case counts when there are routes, and the file has MoE layers for them to run."""
        return bool(observation.samples["counters"]) and observation.samples["file"]["moe_layers"] > 0


_BODIES: Mapping[str, Callable[[str], Any]] = {
    "messages": lambda text: [{"role": "user", "content": text}],
    "prompt": lambda text: text,
}
"""What a body is asked with, by the field that its schema requires."""


def _routes(endpoint: Endpoint) -> dict[str, Callable[[Case], dict[str, Any]]]:
    """Every route that takes a body, and what makes the body of a case for it.

    Raises TargetError where the server does not say, LookupError for a route that nothing here drives: it
    would go unattacked.
    """
    reply = get(_root(endpoint), _DOCUMENT)
    try:
        paths = json.loads(reply.body)["paths"]
        required = {
            path: item["post"]["requestBody"]["content"]["application/json"]["schema"]["required"]
            for path, item in paths.items()
            if "post" in item
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        raise TargetError(
            f"{_DOCUMENT} of {endpoint.base} does not say which bodies its routes take; status {reply.status}"
        ) from None
    unknown = [path for path, fields in required.items() if not set(fields) & set(_BODIES)]
    if unknown:
        raise LookupError(f"nothing drives POST {', '.join(unknown)}; add its field to _BODIES in {__name__}")

    def making(fields: list[str]) -> Callable[[Case], dict[str, Any]]:
        field = next(each for each in fields if each in _BODIES)
        return lambda case: {"model": endpoint.model, field: _BODIES[field](case["content"])}

    return {path: making(fields) for path, fields in required.items()}


def _root(endpoint: Endpoint) -> Endpoint:
    """The server itself, whose document names whole paths."""
    url = urlsplit(endpoint.base)
    return replace(endpoint, base=f"{url.scheme}://{url.netloc}")


def _counters(answer: Answer) -> dict[str, int]:
    """What the answer tells of the engine's work; nothing unless it tells all of it in whole numbers."""
    told = next((chunk["refute"] for _, chunk in answer.chunks[::-1] if "refute" in chunk), None)
    counted = told.get("counters") if isinstance(told, Mapping) else None
    if not isinstance(counted, Mapping) or not all(type(counted.get(name)) is int for name in _COUNTED):
        return {}
    return {name: counted[name] for name in _COUNTED}

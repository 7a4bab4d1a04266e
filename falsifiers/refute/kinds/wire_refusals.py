"""Bad requests over HTTP are refused: a status of 4xx, and the error object that clients read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import several, whole_number
from refute.kinds.wire_requests import CHAT, Answers, shown, unserved
from refute.targets.base import Target
from refute.wire.answers import Answer
from refute.wire.client import post
from refute.wire.forms import ERROR, misfit

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_BODIES: Mapping[str, str] = MappingProxyType(
    {"no-json": '{"model": ', "empty": "", "a-list": "[]", "a-number": "7", "a-text": '"hello"'}
)
_CHANGES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "messages-missing": {"messages": None},
        "messages-empty": {"messages": []},
        "messages-a-text": {"messages": "hello"},
        "message-a-text": {"messages": ["hello"]},
        "message-without-role": {"messages": [{"content": "hello"}]},
        "role-unknown": {"messages": [{"role": "wizard", "content": "hello"}]},
        "content-a-number": {"messages": [{"role": "user", "content": 7}]},
        "model-unknown": {"model": "no-model-has-this-name"},
        "model-a-number": {"model": 7},
        "temperature-too-high": {"temperature": 3},
        "temperature-negative": {"temperature": -0.5},
        "temperature-a-text": {"temperature": "warm"},
        "top-p-too-high": {"top_p": 1.5},
        "max-tokens-negative": {"max_tokens": -1},
        "max-tokens-a-text": {"max_tokens": "many"},
        "max-tokens-a-fraction": {"max_tokens": 1.5},
        "stop-a-number": {"stop": 7},
        "seed-a-text": {"seed": "acorn"},
        "stream-options-a-text": {"stream": True, "stream_options": "usage"},
    }
)
BAD_REQUESTS = (*_BODIES, *_CHANGES)
_RIGHT: Mapping[str, Any] = MappingProxyType(
    {"messages": [{"role": "user", "content": "Repeat: apple"}], "max_tokens": 2}
)
"""A request with nothing wrong, but for the model's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """requests: which bad requests are sent, by name."""

    requests: tuple[str, ...] = BAD_REQUESTS

    def __post_init__(self) -> None:
        object.__setattr__(self, "requests", several("requests", self.requests))
        unknown = [each for each in self.requests if each not in BAD_REQUESTS]
        if unknown or not self.requests:
            raise ValueError(
                f"requests are {list(self.requests)}, expected some of {', '.join(BAD_REQUESTS)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """max_tokens: that are asked for, at most. beyond: words of a prompt more than the context, at most."""

    max_tokens: int
    beyond: int

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 1)
        whole_number("beyond", self.beyond, 1)


class RefusalForm(Answers[Bad]):
    """Each bad request gives a status of 4xx and an error with all four fields; no stream begins."""

    requires = frozenset({"http"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """A bad request, but for the model's name; whether it asks for a stream; whether it comes first."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        bad = st.builds(_case, st.sampled_from(self.parameters.requests), st.booleans())
        return st.builds(lambda case, first: {**case, "bad_first": first}, bad, st.booleans())

    def observe(self, target: Target, case: Case) -> Observation:
        """Send it, and a request with nothing wrong."""
        model = {"model": target.endpoint.model}
        if "body" in case:
            raw: bytes | Mapping[str, Any] = case["body"].encode()
        else:
            raw = {name: value for name, value in {**model, **case["fields"]}.items() if value is not None}
        sent = [("reply", raw), ("right", {**model, **_RIGHT})]
        samples = {
            name: post(target.endpoint, CHAT, body).to_samples()
            for name, body in (sent if case["bad_first"] else sent[::-1])
        }
        return Observation(case, samples)

    def wrong(self, observation: Observation) -> str | None:
        """How the answer is no refusal, or one without what clients read, or nothing is served at all."""
        answer, right = (Answer.of(observation.samples[name]) for name in ("reply", "right"))
        if (found := not_refused(answer)) is not None:
            return f"{observation.case['bad']}: {found}"
        return _refused_too(right)


class ContextRefusal(Answers[Longer]):
    """A prompt longer than the context is refused with 400, and says so; it is not cut to fit."""

    requires = frozenset({"http", "http_context"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """A word so often that the prompt is too long, however short its tokens' texts are."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        beyond, context = self.parameters.beyond, target.identity.context
        return st.fixed_dictionaries(
            {
                "word": st.sampled_from(["a", "7", "x", "the"]),
                "times": st.integers(context + 1, context + beyond),
                "max_tokens": st.integers(1, self.parameters.max_tokens),
                "stream": st.booleans(),
                "long_first": st.booleans(),
            }
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Send it, and the same with one word."""
        samples: dict[str, Any] = {"context": target.identity.context}
        sent = [("reply", case["times"]), ("right", 1)]
        for name, times in sent if case["long_first"] else sent[::-1]:
            body = {
                "model": target.endpoint.model,
                "messages": [{"role": "user", "content": " ".join([case["word"]] * times)}],
                "max_tokens": case["max_tokens"],
                "stream": case["stream"],
            }
            samples[name] = post(target.endpoint, CHAT, body).to_samples()
        return Observation(case, samples)

    def wrong(self, observation: Observation) -> str | None:
        """How the answer is no refusal with status 400, or nothing is served at all."""
        if not self.informative(observation):
            return None
        answer, right = (Answer.of(observation.samples[name]) for name in ("reply", "right"))
        if (found := not_refused(answer)) is not None:
            return found
        status = answer.reply.status
        return _refused_too(right) if status == 400 else f"status {status}, expected 400"

    def informative(self, observation: Observation) -> bool:
        """A case counts when it is known how long the context is."""
        context: int = observation.samples["context"]
        times: int = observation.case["times"]
        return 0 < context < times


def not_refused(answer: Answer) -> str | None:
    """Say how an answer is no refusal as the API has it; None where it is one."""
    reply = answer.reply
    if reply.broken is not None:
        return reply.broken
    if not 400 <= reply.status < 500:
        return f"status {reply.status}, body {shown(reply.body)}, expected a status of 4xx"
    if reply.content_type != "application/json":
        return f"a refusal of type {reply.content_type!r}, expected application/json"
    try:
        value = json.loads(reply.body)
    except ValueError:
        return f"body {shown(reply.body)}, expected JSON"
    found = misfit(value, ERROR)
    return None if found is None else f"body {shown(reply.body)}: {found}"


def _refused_too(right: Answer) -> str | None:
    """Say that a request with nothing wrong was not served: then no refusal shows that anything was seen."""
    found = unserved(right)
    return None if found is None else f"a request with nothing wrong: {found}"


def _case(bad: str, stream: bool) -> dict[str, Any]:
    if bad in _BODIES:
        return {"bad": bad, "body": _BODIES[bad]}
    return {"bad": bad, "fields": {**_RIGHT, "stream": stream, **_CHANGES[bad]}}

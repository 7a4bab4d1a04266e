"""Faults of requests on the wire: the engine is not asked what the client asked, or not at all."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from refute.wire.exchange import Block, Canned, Exchange, Json, Sent

_SEED = 20_011
_FAILED = {
    "error": {"message": "an internal error", "type": "server_error", "param": None, "code": "internal_error"}
}


class Without(Exchange):
    """Fields are taken out."""

    fields: tuple[str, ...] = ()

    def request(self, body: Json) -> Json:
        return {name: value for name, value in body.items() if name not in self.fields}


class SeedStripped(Without):
    fields = ("seed",)


class StopStripped(Without):
    fields = ("stop",)


class StreamOff(Without):
    fields = ("stream", "stream_options")


class SeedFixed(Exchange):
    def request(self, body: Json) -> Json:
        return {**body, "seed": _SEED}


class LimitsHidden(Without):
    fields = ("max_completion_tokens",)

    def request(self, body: Json) -> Json:
        return {**super().request(body), "max_tokens": 1}


class TemperatureForced(Exchange):
    def __init__(self, temperature: float) -> None:
        self._temperature = temperature

    def request(self, body: Json) -> Json:
        return {**body, "temperature": self._temperature}


class ErrorOnce(Exchange):
    """The engine is not asked."""

    def instead(self, route: str, body: Json) -> Canned | None:  # noqa: ARG002 (whatever it is)
        return Canned(500, "application/json", json.dumps(_FAILED).encode())


class ClientKept(Exchange):
    keeps = True


class Cached(Exchange):
    """The first answer to a prompt is every answer to it; answers are shared by the exchanges of a proxy."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self._key = ""
        self._stream: list[bytes] = []

    def instead(self, route: str, body: Json) -> Canned | None:
        prompt = body.get("messages", body.get("prompt"))
        self._key = json.dumps([route, prompt, body.get("stream") is True])
        known: Canned | None = self._answers.get(self._key)
        return known

    def whole(self, answer: Canned) -> Canned:
        if answer.status == 200:
            self._answers.setdefault(self._key, answer)
        return answer

    def event(self, block: Block) -> tuple[Sent, ...]:
        self._stream.append(block.raw)
        return (block.raw,)

    def end(self) -> tuple[Sent, ...]:
        self._answers.setdefault(self._key, Canned(200, "text/event-stream", b"".join(self._stream)))
        return ()


OF_REQUESTS: Mapping[str, Callable[..., Exchange]] = {
    "wire-seed-stripped": SeedStripped,
    "wire-seed-fixed": SeedFixed,
    "wire-stop-stripped": StopStripped,
    "wire-stream-off": StreamOff,
    "wire-limits-hidden": LimitsHidden,
    "wire-temperature-forced": TemperatureForced,
    "wire-error-once": ErrorOnce,
    "wire-client-kept": ClientKept,
    "wire-cached": Cached,
}

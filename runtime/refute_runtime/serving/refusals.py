"""What a client is told when there is no answer: one body for every error, whatever its status."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from refute_runtime.errors import ContextOverflow, RuntimeFailure, TemplateError
from refute_runtime.serving.jobs import Busy

INTERNAL = "the server failed on this request; its log tells more"
_FIELD = re.compile(r"[a-z_]+(?:\[\d+\]|\.[a-z_]+)*")
_KINDS = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "unavailable_error"}
_KINDS |= dict.fromkeys((408, 504), "timeout_error")


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818 (an answer to a client)
    """An error as a client sees it: status, a sentence, the field at fault and a word for programs."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None  # seconds

    def __post_init__(self) -> None:
        super().__init__(self.message)

    @property
    def body(self) -> dict[str, Any]:
        kind = _KINDS.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after is not None:
            return {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        # Whoever was too slow with its body is not waited for.
        return {"Connection": "close"} if self.status == 408 else {}


def refusal_of(error: RuntimeFailure | Busy, fields: Collection[str], prompt: str) -> Refusal:
    """Say what the runtime refused in a request with these fields; prompt: the one that it calls so."""
    if isinstance(error, Busy):
        return Refusal(429, str(error), code="queue_full", retry_after=error.retry_after)
    if isinstance(error, ContextOverflow):
        return Refusal(400, str(error), param=prompt, code="context_length_exceeded")
    named = _FIELD.match(str(error))
    where = named[0] if named else ""
    if where == "prompt" or isinstance(error, TemplateError):
        where = prompt
    known = re.split(r"[.\[]", where)[0] in fields
    return Refusal(400, str(error), param=where if known else None, code="invalid_value")

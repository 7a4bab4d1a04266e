"""Answers on their way to a client, who may leave at any time: whole as JSON, or as server-sent events."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from refute_runtime.serving.refusals import INTERNAL, Refusal
from refute_runtime.serving.responses import Json, Writing
from refute_runtime.serving.service import Running

_T = TypeVar("_T")
_DONE = b"data: [DONE]\n\n"
_COMMENT = b": computing\n\n"  # clients skip it
_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies would collect events
)
_SILENCE = 10.0  # seconds after which something is sent: a call of a tool is computed whole before it is told
_LAST_WORD = 1.0  # seconds for an error to a client that may not be reading


class Answer(Response):
    """Computes while it is sent: a job ends with its answer, with its deadline or when its client leaves."""

    def __init__(self, running: Running, writing: Writing, *, stream: bool) -> None:
        super().__init__()
        self._running = running
        self._writing = writing
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._running, suppress(ClientLeft):
            if self._stream:
                await while_attended(receive, self._events(send))
            else:
                whole = await while_attended(receive, self._whole())
                await JSONResponse(whole)(scope, receive, send)

    async def _whole(self) -> Json:
        return self._writing.whole([step async for step in self._running.steps()])

    async def _events(self, send: Send) -> None:
        """Send one event each. What fails before the first one is raised, and gets a status of its own."""
        begun, now = False, asyncio.get_running_loop().time
        spoken = now()
        try:
            async for step in self._running.steps():
                if not begun:
                    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                    begun = True
                told = [event(chunk) for chunk in self._writing.chunks(step)]
                if not told and now() - spoken >= _SILENCE:
                    told = [_COMMENT]
                for data in told:
                    async with asyncio.timeout_at(self._running.deadline):
                        await send(_body(data))
                    spoken = now()
            await send(_body(_DONE, more=False))
        except TimeoutError:
            raise ClientLeft from None  # or does not read, which is the same to us
        except Refusal as refusal:
            if not begun:
                raise
            await _last_word(send, refusal)
        except Exception:
            if begun:
                await _last_word(send, Refusal(500, INTERNAL))
            raise


async def _last_word(send: Send, refusal: Refusal) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORD):
            await send(_body(event(refusal.body), more=False))


class ClientLeft(Exception):  # noqa: N818 (nothing went wrong here)
    """Whoever asked does not wait for the answer any more."""


async def while_attended(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Await work; cancel it and raise `ClientLeft` where the client leaves, whose request was read whole."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: Json) -> bytes:
    """Write an event of one line, in ASCII: some clients take U+2028 for the end of a line."""
    return b"data: " + json.dumps(data, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n\n"


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}

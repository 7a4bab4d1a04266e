"""What the routes share: the model that is served, from loading to shutting down, and the jobs under way."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from refute_runtime.engine import Engine
from refute_runtime.serving.jobs import Failure, Job, Schedules, Step
from refute_runtime.serving.refusals import Refusal

_SHUTTING_DOWN = "the server is shutting down"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take. max_body: bytes. timeout: seconds from its head to the end of its answer."""

    max_body: int
    timeout: float


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model and what computes with it.

    close: takes in nothing more and returns when no job runs, after so many seconds at the latest.
    """

    engine: Engine
    schedules: Schedules
    close: Callable[[float], None]


class Service:
    """One served model, known by its name before it is loaded.

    load: runs once, on a thread of its own.
    """

    def __init__(self, model: str, load: Callable[[], Served], limits: Limits) -> None:
        self.model = model
        self.limits = limits
        self.created = int(time.time())  # seconds since the epoch
        self._load = load
        self._loaded: Served | None = None
        self._closing = False

    async def load(self) -> None:
        """Load the model; requests are refused until it is there. Raises what loading raises."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Served] = loop.create_future()

        def settle(served: Served | None, error: BaseException | None) -> None:
            if result.cancelled():
                return
            if served is None:
                assert error is not None
                result.set_exception(error)
            else:
                result.set_result(served)

        def work() -> None:
            try:
                served = self._load()
            except BaseException as error:  # noqa: BLE001 (whoever awaits this decides)
                _tell(loop, settle, None, error)
            else:
                _tell(loop, settle, served, None)

        # Not one of the loop's own threads: the process would wait for those before it ends.
        threading.Thread(target=work, name="load", daemon=True).start()
        self._loaded = await result

    @property
    def served(self) -> Served:
        """The model, where it can be asked. Raises `Refusal`."""
        if self._closing:
            raise Refusal(503, _SHUTTING_DOWN, code="shutting_down")
        if self._loaded is None:
            raise Refusal(503, "the model is loading; try again in a moment", code="loading", retry_after=1)
        return self._loaded

    def check(self) -> None:
        """Raise `Refusal` where the model cannot be asked."""
        _ = self.served

    def start(self, job: Job, deadline: float) -> "Running":
        """Take a job in, with a deadline by the event loop's clock. Raises as `Schedules.submit` does."""
        return Running(self.served.schedules, job, deadline, self._refusal)

    async def close(self, grace: float) -> None:
        """Refuse requests from now on and wait for those that run, `grace` seconds at most."""
        self._closing = True
        if self._loaded is not None:
            await asyncio.to_thread(self._loaded.close, grace)

    def _refusal(self, failure: Failure) -> Refusal:
        if self._closing:
            return Refusal(503, _SHUTTING_DOWN, code="shutting_down")
        return Refusal(400 if failure.of_request else 500, failure.message)


class Running:
    """A job under way, and its steps as they come; leaving it cancels the job."""

    def __init__(
        self, schedules: Schedules, job: Job, deadline: float, refusal: Callable[[Failure], Refusal]
    ) -> None:
        self.deadline = deadline
        self._refusal = refusal
        self._results: asyncio.Queue[Step | Failure] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._handle = schedules.submit(job, lambda result: _tell(loop, self._results.put_nowait, result))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()

    async def steps(self) -> AsyncIterator[Step]:
        """Yield all steps. Raises `Refusal` where the job fails or the deadline passes."""
        while True:
            try:
                async with asyncio.timeout_at(self.deadline):
                    result = await self._results.get()
            except TimeoutError:
                raise Refusal(504, "the answer took longer than the server's limit", code="timeout") from None
            if isinstance(result, Failure):
                raise self._refusal(result)
            yield result
            if result.finish:
                return


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    """Call on the loop's thread, from any other; in vain where the loop has ended."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *arguments)

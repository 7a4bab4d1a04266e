"""Runs the server: opens the socket, loads the model behind it, serves, and ends as it is told to."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from refute_runtime.backends.choice import AUTO
from refute_runtime.engine import Engine
from refute_runtime.serving.app import application
from refute_runtime.serving.scheduler import Scheduler
from refute_runtime.serving.service import Limits, Served, Service

_PERIOD = 5  # seconds between two lines while the model loads
_FLUSHING = 5  # seconds for answers that are ready to reach their clients, once no job runs


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve a model.

    port: 0 for any that is free. key: what clients must show. active: jobs computed at once. queue: jobs
    that wait beside them. memory: bytes that caches take together. grace: seconds for running answers,
    once the server is told to end. max_body, timeout: see `Limits`. backend, device, mmap: as
    `Engine.load` takes them.
    """

    path: Path
    backend: str = AUTO
    device: str = AUTO
    mmap: bool | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = None
    active: int = 16
    queue: int = 64
    memory: int = 4 * 2**30
    grace: float = 30.0
    max_body: int = 4 * 2**20
    timeout: float = 600.0

    @property
    def model(self) -> str:
        """The name that clients ask for: the file's, without its ending."""
        return self.path.stem.encode("utf-8", "replace").decode()


def serve(options: Options, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends it at once. say: told where, and when it is ready.

    Raises `RuntimeFailure` where the model cannot be loaded, `OSError` where the socket cannot be opened.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.create_server((options.host, options.port), family=family) as listening:
        address, port, *_ = listening.getsockname()
        host = f"[{options.host}]" if ":" in options.host else options.host
        say(f"listening on http://{host}:{port}, loading {options.path}")
        if options.key is None and not ip_address(address).is_loopback:
            say("without a key: whoever reaches this address can use the server")
        service = Service(
            options.model, lambda: _load(options, say), Limits(options.max_body, options.timeout)
        )
        Server(service, options.key, options.grace, say).run(sockets=[listening])


class Server(uvicorn.Server):
    """Answers while the model loads, and also (503) while running answers are brought to their end."""

    def __init__(self, service: Service, key: str | None, grace: float, say: Callable[[str], None]) -> None:
        config = uvicorn.Config(
            application(service, key),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FLUSHING,
        )
        super().__init__(config)
        self._service = service
        self._grace = grace
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._ending = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is ended. Raises what loading raised."""
        await super().serve(sockets)
        if self._failure is not None:
            raise self._failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._go(self._load())

    def end(self) -> None:
        """Refuse requests, let running answers finish, then end; called again, not even that. Any thread."""
        grace = 0.0 if self._ending else self._grace
        self._ending = True
        self._loop.call_soon_threadsafe(lambda: self._go(self._end(grace)))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started:
            self.end()
        else:
            super().handle_exit(sig, frame)

    async def _load(self) -> None:
        try:
            await self._service.load()
        except Exception as error:  # noqa: BLE001 (raised again where the server has ended)
            self._failure = error
            self.should_exit = True
        else:
            self._say(f"ready to serve {self._service.model}")

    async def _end(self, grace: float) -> None:
        await self._service.close(grace)
        self.should_exit = True

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself would forget it
        task.add_done_callback(self._tasks.discard)


def _load(options: Options, say: Callable[[str], None]) -> Served:
    told = time.monotonic()

    def progress(doing: str, done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > _PERIOD:
            told = time.monotonic()
            say(f"{doing}: {done / of:.0%}")

    how = (options.backend, options.device)
    engine = Engine.load(options.path, *how, mmap=options.mmap, progress=progress)
    for note in engine.notes:
        say(note)
    scheduler = Scheduler(engine, memory_bytes=options.memory, active=options.active, queue=options.queue)
    return Served(engine, scheduler, scheduler.close)

"""Servers of the bundled runtime: in a process of its own, or, with a fault, in a thread of this one.

Like `bundled`, it imports `refute_runtime` late.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from importlib.util import find_spec
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from refute.faults.planted import Planted
from refute.faults.sampler import WrappedSampler
from refute.targets.base import CannotPlant, Clock, TargetError
from refute.targets.served import SILENCE
from refute.wire.dialects import REFUTE
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from refute_runtime.engine import Engine
    from refute_runtime.serving.answer import Steps
    from refute_runtime.serving.jobs import Job

EnginesOf = Callable[[], "Engine"]
"""Gives the engine of the next request, with a fault of its own that begins anew."""

_READY = r"(?s)listening on (?P<url>\S+), loading .*\nready to serve (?P<model>[^\n]*)\n"
_ELSEWHERE = {
    "clock": "a client reads its own clock; a fault of the wire changes what it reads",
    "memory": "a client cannot ask what is held",
}
_UNREACHED = {
    "cache-ignored": "the server uses the cache for every request",
    "context-unchecked": "the server counts positions before it asks the engine",
    "dense-on-some-routes": "routes of the server are not among the entry points that it strikes",
    "empty-admitted": "the server refuses an empty prompt before it asks the engine",
    "fork-shared": "the server forks no sequence",
    "thread-race": "the server's threads are those of the host, not those of a request",
    "trim-short": "the server trims no sequence",
}


def serves(engine: "Engine") -> frozenset[str]:
    """Return the capabilities of a server of this engine; none where what it is made of is not installed."""
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        return frozenset()
    return REFUTE.capabilities if _writes_calls(engine) else REFUTE.capabilities - {"http_tools"}


@contextmanager
def beside(path: Path, how: Mapping[str, Any], clock: Clock) -> Iterator[Endpoint]:
    """Run `refute serve` in a process of its own. how: backend, device and mmap, as `Engine.load` takes them.

    Raises `TargetError` where it does not come up.
    """
    from refute.wire.process import ServerProcess  # noqa: PLC0415 (only who asks over HTTP needs it)

    options = {
        "model": path.absolute(),
        "backend": how["backend"],
        "device": how["device"],
        "port": 0,
        "grace": 0,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    arguments += [] if how["mmap"] is None else ["--mmap" if how["mmap"] else "--no-mmap"]
    server = ServerProcess("refute", ["serve", *arguments], _READY)
    try:
        yield Endpoint(f"{server.told['url']}/v1", server.told["model"], REFUTE, silence=SILENCE, clock=clock)
    finally:
        server.close()


@contextmanager
def within(
    path: Path, engine: "Engine", engine_of: EnginesOf, planted: Planted, clock: Clock
) -> Iterator[Endpoint]:
    """Serve an engine with a fault on a thread of this process.

    Raises `CannotPlant` where the fault changes nothing that a client of a server could meet.
    """
    from refute_runtime.serving.main import Options, Server  # noqa: PLC0415 (heavy)
    from refute_runtime.serving.scheduler import Scheduler  # noqa: PLC0415 (heavy)
    from refute_runtime.serving.service import Limits, Served, Service  # noqa: PLC0415 (heavy)

    fault = planted.fault
    why = _ELSEWHERE.get(planted.seam or "") or (fault and _UNREACHED.get(fault.name))
    if why:
        raise CannotPlant(f"{fault}: not over HTTP: {why}")
    options = Options(path)

    def load() -> Served:
        scheduler = Scheduler(
            engine,
            memory_bytes=options.memory,
            active=options.active,
            queue=options.queue,
            steps=lambda _, job: _steps(engine_of, job, planted),
        )
        return Served(engine, scheduler, scheduler.close)

    told: list[str] = []
    ready = threading.Event()

    def say(line: str) -> None:
        told.append(line)
        ready.set()

    service = Service(options.model, load, Limits(options.max_body, options.timeout))
    server = Server(service, None, 0.0, say)

    def run() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            ready.set()

    with socket.create_server((options.host, 0)) as listening:
        thread = threading.Thread(target=run, name="server", daemon=True)
        thread.start()
        ready.wait()
        if not told:
            raise TargetError("the server of an engine with a fault did not come up")
        try:
            url = f"http://{options.host}:{listening.getsockname()[1]}/v1"
            yield Endpoint(url, options.model, REFUTE, silence=SILENCE, clock=clock)
        finally:
            server.end()
            thread.join()  # the forward under way is computed to its end: its weights must be there


def _steps(engine_of: EnginesOf, job: "Job", planted: Planted) -> "Steps":
    """Compute a job as the server does, with the fault in the parts that it is in."""
    from refute_runtime.sampling import Sampler  # noqa: PLC0415 (heavy)
    from refute_runtime.serving import answer  # noqa: PLC0415 (heavy)

    engine, cache, sampler = engine_of(), None, None
    if planted.cache is not None:
        cache = planted.cache(engine.new_cache(len(job.prompt) + job.max_tokens), len(job.prompt))
    if planted.sampler is not None:
        asked: Any = job.sampling  # it has the fields of a target's settings, and more, which are kept
        params = cast("Any", planted.sampler.settings(asked))
        sampler = WrappedSampler(Sampler(params), planted.sampler, asked, len(job.prompt))
    steps = planted.streamed(lambda _: answer.steps(engine, job, cache=cache, sampler=sampler))(None)
    yield from _stuck(steps, int(planted.dose)) if planted.has("counters-stuck") else steps


def _stuck(steps: "Steps", forgotten: int) -> "Steps":
    """Count nothing for the last tokens: what was counted before is told with the last one."""
    from refute_runtime.model import Counters  # noqa: PLC0415 (heavy)

    counted = []
    for step in steps:
        if step is None:
            yield None
            continue
        counted.append(step.counters)
        told = Counters()
        if step.finish:
            told = reduce(add, counted[: max(len(counted) - forgotten, 0)], told)
        yield replace(step, counters=told)


def _writes_calls(engine: "Engine") -> bool:
    """Whether the model's template tells it how to call tools; one that does not compile tells nothing."""
    from refute_runtime.errors import TemplateError  # noqa: PLC0415 (heavy)
    from refute_runtime.serving.tool_format import format_of  # noqa: PLC0415 (heavy)

    try:
        return format_of(engine.template.source) is not None
    except TemplateError:
        return False

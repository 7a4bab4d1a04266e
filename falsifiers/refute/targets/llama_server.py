"""llama.cpp over HTTP: the server that its Python bindings bring, in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from refute.targets.base import Clock
from refute.targets.served import SILENCE
from refute.wire.child import environment
from refute.wire.dialects import LLAMA_CPP_PYTHON
from refute.wire.endpoint import Endpoint
from refute.wire.process import ServerProcess

_NEEDS = ("llama_cpp", "fastapi", "pydantic_settings", "sse_starlette", "starlette_context", "uvicorn")
_LONGEST = 2048  # tokens: the server holds the logits of all positions of its context
_READY = r"Uvicorn running on (?P<url>http://\S+)"


@cache
def serves() -> bool:
    """Whether all that the server needs is installed."""
    return all(find_spec(name) is not None for name in _NEEDS)


@contextmanager
def llama_server(path: Path, threads: int, context: int, clock: Clock) -> Iterator[Endpoint]:
    """Serve a model on so many threads; raises `TargetError` where the server does not come up.

    logits_all: without it there are no log probabilities. interrupt_requests: with it a second request
    breaks the first one off.
    """
    from llama_cpp.server.settings import Settings  # noqa: PLC0415 (not installed everywhere)

    settings = {
        "model": path.absolute(),
        "model_alias": path.stem,
        "host": "127.0.0.1",
        "port": 0,
        "n_ctx": min(context, _LONGEST),
        "n_threads": threads,
        "n_threads_batch": threads,
        "logits_all": True,
        "interrupt_requests": False,
        "verbose": False,
    }
    arguments = [
        text
        for name, value in settings.items()
        for text in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]
    # It takes what is not set here from variables with such names as API_KEY, HOST, PORT and SEED.
    taken = {*Settings.model_fields, "config_file"}
    environ = {name: value for name, value in environment().items() if name.lower() not in taken}
    server = ServerProcess("llama_cpp.server", arguments, _READY, environ=environ)
    try:
        yield Endpoint(f"{server.told['url']}/v1", path.stem, LLAMA_CPP_PYTHON, silence=SILENCE, clock=clock)
    finally:
        server.close()

"""llama.cpp over HTTP: the server that its Python bindings bring, in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from refute.targets.base import Clock
from refute.targets.served import SILENCE
from refute.wire.dialects import LLAMA_CPP_PYTHON
from refute.wire.endpoint import Endpoint
from refute.wire.process import ServerProcess

_NEEDS = ("llama_cpp", "fastapi", "pydantic_settings", "sse_starlette", "starlette_context", "uvicorn")
_READY = r"Uvicorn running on (?P<url>http://\S+)"


@cache
def serves() -> bool:
    """Whether all that the server needs is installed."""
    return all(find_spec(name) is not None for name in _NEEDS)


@contextmanager
def llama_server(path: Path, clock: Clock) -> Iterator[Endpoint]:
    """Serve a model; raises `TargetError` where the server does not come up.

    n_ctx: 0 takes the context that the file names. logits_all: without it there are no log probabilities.
    interrupt_requests: without it a second request would break the first one off.
    """
    settings = {
        "model": path.absolute(),
        "model_alias": path.stem,
        "host": "127.0.0.1",
        "port": 0,
        "n_ctx": 0,
        "logits_all": True,
        "interrupt_requests": False,
        "verbose": False,
    }
    arguments = [
        text
        for name, value in settings.items()
        for text in (f"--{name}", str(value).lower() if isinstance(value, bool) else str(value))
    ]
    server = ServerProcess("llama_cpp.server", arguments, _READY)
    try:
        yield Endpoint(f"{server.told['url']}/v1", path.stem, LLAMA_CPP_PYTHON, silence=SILENCE, clock=clock)
    finally:
        server.close()

from pathlib import Path

import pytest
from serving_parts import Watched
from tiny_gguf import TinyModel, write_tiny

import refute_runtime
from refute_runtime import Engine
from refute_runtime.serving.scheduler import Scheduler


@pytest.fixture(scope="session")
def engine():
    """The embedded model, which has a real tokenizer and template."""
    with Engine.load(Path(refute_runtime.__file__).parent / "pocket/pocket.gguf", "array", "cpu") as engine:
        yield engine


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A tiny model; a greedy answer to the prompt of `job` meets no stop token."""
    path = write_tiny(tmp_path_factory.mktemp("serving") / "m.gguf", TinyModel(context=512))
    with Engine.load(path, "array", "cpu") as engine:
        yield engine


@pytest.fixture
def watched(tiny):
    """The same on a backend of its own, which counts."""
    return tiny.with_backend(Watched(tiny.backend))


@pytest.fixture
def start(watched):
    """Start schedulers that are closed after the test; rows: of all caches together."""
    started = []

    def start(engine=watched, *, rows=10_000, active=16, queue=100, **more):
        memory_bytes = rows * engine.backend.cache_row_bytes
        started.append(Scheduler(engine, memory_bytes=memory_bytes, active=active, queue=queue, **more))
        return started[-1]

    yield start
    for scheduler in started:
        scheduler.close()

"""A tiny model of random weights, the bundled runtime on it, and a request."""

import pytest
from tiny_gguf import write_tiny

from refute.targets.base import Request
from refute.targets.bundled import BundledTarget


class Ticks:
    """A clock that advances one millisecond per reading."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1_000_000
        return self.now


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="module")
def target(path):
    target = BundledTarget(path, "array", "cpu", clock=Ticks())
    yield target
    target.close()


@pytest.fixture(scope="module")
def greedy(target):
    return Request(target.encode("hello world, the " * 4), 12, chunks=(8, 4), margins=True, routing=True)

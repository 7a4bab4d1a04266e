"""Before a run: kernels are compiled where that was never done, and it is said."""

import argparse
import io

import pytest
from rich.console import Console

from refute.commands.preparing import prepare
from refute_runtime.backends import choice
from refute_runtime.engine import Engine
from refute_runtime.errors import UnsupportedError

GIVEN = {"endpoint": None, "target": None, "model": None, "backend": None, "device": "cpu", "mmap": None}


@pytest.fixture
def loads(monkeypatch):
    """Counts what would be loaded, as kernels are missing."""
    loaded = []

    class Loaded:
        def close(self):
            loaded.append("closed")

    def load(*arguments, mmap, progress):
        progress(choice.COMPILING, 1, 2)
        loaded.append(mmap)
        return Loaded()

    monkeypatch.setattr(Engine, "load", load)
    monkeypatch.setattr(choice, "compiled", lambda: False)
    monkeypatch.delenv("QWEN3_MOE_GGUF_PATH", raising=False)
    return loaded


def said(**given):
    out = io.StringIO()
    prepare(argparse.Namespace(**{**GIVEN, **given}), Console(file=out))
    return out.getvalue()


def test_the_first_run_says_that_it_compiles(loads):
    assert said().startswith("compiling kernels for this processor, once")
    assert loads == [True, "closed"]  # nothing is read for it


def test_a_later_one_does_not(loads, monkeypatch):
    monkeypatch.setattr(choice, "compiled", lambda: True)
    assert (said(), loads) == ("", [])


@pytest.mark.parametrize(
    "given",
    [{"endpoint": "http://127.0.0.1:1"}, {"target": "fake"}, {"backend": "array"}, {"device": "gpu"}],
    ids=str,
)
def test_what_does_not_run_kernels_does_not_wait_for_them(loads, given):
    assert (said(**given), loads) == ("", [])


def test_a_backend_that_cannot_compute_is_for_the_run_to_tell(loads, monkeypatch):
    def load(*arguments, **more):
        raise UnsupportedError("no")

    monkeypatch.setattr(Engine, "load", load)
    assert "Traceback" not in said()

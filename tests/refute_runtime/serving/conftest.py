"""The embedded model, loaded once: its tokenizer and template are real, its computing is often scripted."""

from pathlib import Path

import pytest

import refute_runtime
from refute_runtime.engine import Engine


@pytest.fixture(scope="session")
def engine():
    with Engine.load(Path(refute_runtime.__file__).parent / "pocket/pocket.gguf", device="cpu") as engine:
        yield engine

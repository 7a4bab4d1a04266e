"""Whatever the bytes, opening and reading a model gives values or one of the runtime's own errors."""

import re
import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure
from refute_runtime.weights import GgufFile, Weights

SMALL = {"layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1, "head_dim": 32, "experts": 2, "expert_ffn": 32}
SEEDS = (
    TinyModel(**SMALL, experts_per_token=1, tied=True, type=TensorType.Q8_0),
    TinyModel(
        **SMALL, architecture="qwen3", dense_ffn=32, type=TensorType.F16, types={"*attn*": TensorType.Q5_0}
    ),
)
NUMBERS = (0, 1, 7, 31, 32, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


Step = tuple[int, int, bool, int, int, bytes]
STEPS = st.tuples(
    st.integers(0, 5),  # what is done
    st.integers(0, 999),  # where, in thousandths
    st.booleans(),  # of the header, where a byte means most, or of the whole file
    st.sampled_from(NUMBERS),
    st.integers(1, 64),  # bytes cut or spliced
    st.binary(min_size=1, max_size=4),
)


def changed(content: bytes, other: bytes, step: Step) -> bytes:
    """Overwrite bytes or a number, truncate, cut, or splice in a piece of another file."""
    kind, share, anywhere, number, size, fresh = step
    header = content.find(b"token_embd.weight") + 1200
    at = share * (len(content) if anywhere else min(header, len(content))) // 1000
    before, after = content[:at], content[at:]
    if kind == 0:
        return before + fresh + after[len(fresh) :]
    if kind in (1, 2):
        width = 4 * kind
        return before + struct.pack("<Q", number)[:width] + after[width:]
    if kind == 3:
        return before
    if kind == 4:
        return before + after[size:]
    return before + other[at : at + size] + after


def read_everything(path: Path) -> None:
    with GgufFile.open(path) as file:
        for value in file.metadata.values():
            if not isinstance(value, bool | int | float | str):
                list(value)
        config = ModelConfig.from_metadata(file.metadata, file.tensors, source=str(path))
        weights = Weights(file, config)
        for name in file.tensors:
            weights.tensor(name)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    folder = tmp_path_factory.mktemp("seeds")
    return tuple(write_tiny(folder / f"{i}.gguf", model).read_bytes() for i, model in enumerate(SEEDS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


def test_the_seeds_are_sound(seeds: tuple[bytes, ...], tmp_path: Path) -> None:
    for index, content in enumerate(seeds):
        path = tmp_path / f"{index}.gguf"
        path.write_bytes(content)
        read_everything(path)


@settings(
    max_examples=600, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(which=st.integers(0, len(SEEDS) - 1), steps=st.lists(STEPS, min_size=1, max_size=4))
def test_only_our_errors_come_out_and_memory_is_bounded(
    seeds: tuple[bytes, ...], folder: Path, which: int, steps: list[Step]
) -> None:
    content = seeds[which]
    for step in steps:
        content = changed(content, seeds[which - 1], step)
    path = folder / "m.gguf"
    path.unlink(missing_ok=True)  # a new file: the last one may still be mapped
    path.write_bytes(content)
    message = None
    tracemalloc.start()
    try:
        read_everything(path)
    except RuntimeFailure as failure:
        message = str(failure)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    event("read" if message is None else "refused")
    assert peak < 8 * len(content) + 50e6
    assert message is None or re.fullmatch(
        rf"{re.escape(str(path))}: .{{1,500}}; expected .{{1,200}}", message
    )

"""Whatever the bytes, opening and reading a model gives values or one of the runtime's own errors."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as TensorType
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure
from refute_runtime.weights import GgufFile, Weights
from tiny_gguf import TinyModel, write_tiny

SMALL = {"layers": 1, "hidden": 32, "heads": 2, "kv_heads": 1, "head_dim": 32, "experts": 2, "expert_ffn": 32}
SEEDS = (
    TinyModel(**SMALL, experts_per_token=1, tied=True, type=TensorType.Q8_0),
    TinyModel(
        **SMALL, architecture="qwen3", dense_ffn=32, type=TensorType.F16, types={"*attn*": TensorType.Q5_0}
    ),
)
NUMBERS = (0, 1, 7, 31, 32, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes, bytes], bytes]:
    """Change a file in one to four places; three in four of them lie in the header, where a byte means most."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 5), st.floats(0, 1), st.booleans(), _details()), min_size=1, max_size=4
        )
    )

    def mutate(content: bytes, other: bytes) -> bytes:
        for kind, where, anywhere, (number, size, fresh) in steps:
            limit = len(content) if anywhere else min(len(content), content.find(b"token_embd.weight") + 1200)
            at = int(where * max(limit - 1, 0))
            changed = {
                0: lambda at=at, fresh=fresh: content[:at] + fresh + content[at + len(fresh) :],
                1: lambda at=at, number=number: content[:at] + struct.pack("<Q", number) + content[at + 8 :],
                2: lambda at=at, number=number: (
                    content[:at] + struct.pack("<Q", number)[:4] + content[at + 4 :]
                ),
                3: lambda at=at: content[:at],
                4: lambda at=at, size=size: content[:at] + content[at + size :],
                5: lambda at=at, size=size: content[:at] + other[at : at + size] + content[at:],
            }
            content = changed[kind]()
        return content

    return mutate


def _details() -> st.SearchStrategy[tuple[int, int, bytes]]:
    return st.tuples(st.sampled_from(NUMBERS), st.integers(1, 64), st.binary(min_size=1, max_size=4))


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
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(which=st.integers(0, len(SEEDS) - 1), mutate=mutations())
def test_only_our_errors_come_out_and_memory_is_bounded(
    seeds: tuple[bytes, ...], folder: Path, which: int, mutate: Callable[[bytes, bytes], bytes]
) -> None:
    content = mutate(seeds[which], seeds[which - 1])
    path = folder / "m.gguf"
    path.unlink(missing_ok=True)  # a new file: the last one may still be mapped
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read_everything(path)
        event("read")
    except RuntimeFailure as failure:
        event(type(failure).__name__)
        assert str(failure).startswith(f"{path}: ")
        assert "expected" in str(failure)
        assert len(str(failure)) < 600
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 * len(content) + 50e6

"""Tensors as the bytes of the file: what they hold, where they lie, and files that end too soon."""

import os

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from tiny_gguf import TinyModel, write_tiny

from refute_runtime import resident
from refute_runtime.config import ModelConfig
from refute_runtime.errors import FormatError
from refute_runtime.resident import blocks_of
from refute_runtime.weights import GgufFile, Weights

MIXED = TinyModel(
    hidden=256,
    heads=4,
    head_dim=128,
    expert_ffn=256,
    layers=1,
    type=TensorType.Q4_K,
    types={"*attn_v.*": TensorType.Q6_K, "*ffn_down_exps.*": TensorType.Q5_K, "*attn_k.*": TensorType.Q8_0},
)
EXPERTS = "blk.0.ffn_gate_exps.weight"
BOTH = pytest.mark.parametrize("mapped", [False, True])
PLENTY = (2**60, "available on the host")


@pytest.fixture
def file(tmp_path):
    with GgufFile.open(write_tiny(tmp_path / "m.gguf", MIXED)) as opened:
        yield opened


@BOTH
def test_the_bytes_are_those_of_the_file(file, mapped):
    blocks = blocks_of(file, mapped)
    assert list(blocks.tensors) == list(file.tensors)
    for name, found in blocks.tensors.items():
        assert np.array_equal(found.reshape(-1), file.raw(name).reshape(-1))
        assert found.shape[:-1] == file.tensors[name].shape[:-1]


@BOTH
def test_numba_sees_one_type_of_array(file, mapped):
    for found in blocks_of(file, mapped).tensors.values():
        assert (found.dtype, found.flags.c_contiguous, found.flags.writeable) == (np.uint8, True, True)


def test_in_memory_tensors_begin_at_lines_of_the_cache(file):
    assert {found.ctypes.data % 64 for found in blocks_of(file, mapped=False).tensors.values()} == {0}


def test_what_is_held_is_memory_only_where_it_was_read(file):
    size = sum(info.nbytes for info in file.tensors.values())
    assert blocks_of(file, mapped=True).held == 0
    assert size <= blocks_of(file, mapped=False).held < 1.1 * size + 8192


def test_writing_to_a_mapped_tensor_would_not_reach_the_file(file):
    before = file.path.read_bytes()
    blocks_of(file, mapped=True).tensors[EXPERTS][0, 0, 0] ^= 255
    assert file.path.read_bytes() == before


def test_large_tensors_are_read_in_pieces_and_told(file, monkeypatch):
    monkeypatch.setattr(resident, "_PIECE", 1000)
    told = []
    blocks = blocks_of(file, False, lambda *each: told.append(each))
    assert np.array_equal(blocks.tensors[EXPERTS].reshape(-1), file.raw(EXPERTS).reshape(-1))
    total = sum(info.nbytes for info in file.tensors.values())
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) >= total // 1000


@BOTH
def test_a_file_that_became_shorter_is_refused_with_the_place(file, mapped):
    os.truncate(file.path, file.path.stat().st_size - 5000)
    with pytest.raises(FormatError, match=r"m\.gguf: the file ends at byte \d+"):
        blocks_of(file, mapped)


@BOTH
def test_a_file_that_is_gone_is_refused(file, mapped):
    file.path.unlink()
    with pytest.raises(FormatError, match=r"m\.gguf.* cannot be (read|mapped)"):
        blocks_of(file, mapped)


@pytest.mark.parametrize(
    ("free", "kind"), [(PLENTY, "memory"), ((None, "not told"), "memory"), ((2**20, "free"), "mmap")]
)
def test_weights_are_mapped_where_memory_is_short_and_that_is_said(file, free, kind):
    blocks = blocks_of(file, free=free)
    assert blocks.kind == kind
    assert (blocks.note is not None) == (kind == "mmap")


def test_several_processes_that_read_at_once_want_as_many_times_the_memory(file):
    size = sum(info.nbytes for info in file.tensors.values())
    free = (2 * size + (64 << 20), "free")
    assert blocks_of(file, free=free).kind == "memory"
    shared = blocks_of(file, free=free, processes=2)
    assert shared.kind == "mmap"
    assert "wanted by 2 processes" in (shared.note or "")


def test_what_is_asked_for_is_done_whatever_is_free(file):
    assert blocks_of(file, False, free=(0, "free")).kind == "memory"
    assert blocks_of(file, True, free=PLENTY).kind == "mmap"


def test_memory_that_is_refused_leaves_the_mapping(file, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(resident, "read", refuse)
    assert blocks_of(file, free=PLENTY).kind == "mmap"
    with pytest.raises(MemoryError):
        blocks_of(file, mapped=False)


def test_weights_give_blocks_and_types(file):
    found = Weights(file, ModelConfig.from_metadata(file.metadata, file.tensors, source="m"))
    with pytest.raises(ValueError, match="not loaded"):
        found.raw(EXPERTS)
    found.blocks = blocks_of(file, mapped=True)
    assert found.raw(EXPERTS).shape == (MIXED.experts, 256, 144)
    assert found.shape(EXPERTS) == (MIXED.experts, 256, 256)
    assert found.type_of(EXPERTS) is TensorType.Q4_K
    assert found.types()["blk.0.attn_v.weight"] is TensorType.Q6_K
    assert found.resident == 0
    with pytest.raises(FormatError, match="absent is missing"):
        found.raw("absent")

"""Weights as float32: values, what is kept, and files whose tensors do not fit their metadata."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from tiny_gguf import TinyModel, weights, write_tiny

from refute_runtime.config import ModelConfig
from refute_runtime.errors import FormatError, RequestError, UnsupportedError
from refute_runtime.weights import GgufFile, Weights

MIXED = TinyModel(
    hidden=256,
    heads=4,
    head_dim=128,
    expert_ffn=256,
    layers=1,
    type=TensorType.Q4_K,
    types={"*attn_v.*": TensorType.Q6_K, "*ffn_down_exps.*": TensorType.Q5_K, "*attn_k.*": TensorType.Q5_0},
)
EXPERTS = "blk.0.ffn_gate_exps.weight"


def loaded(path: Path, **options: int) -> Weights:
    file = GgufFile.open(path)
    return Weights(file, ModelConfig.from_metadata(file.metadata, file.tensors, source=str(path)), **options)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("mixed") / "m.gguf", MIXED)


@pytest.mark.parametrize(
    "model",
    [TinyModel(), TinyModel(tied=True), TinyModel(architecture="qwen3"), TinyModel(type=TensorType.BF16)],
)
def test_tensors_have_the_values_written(tmp_path: Path, model: TinyModel) -> None:
    found = loaded(write_tiny(tmp_path / "m.gguf", model))
    for name, wanted in weights(model).items():
        rounded = gguf.dequantize(gguf.quantize(wanted, model.type_of(name)), model.type_of(name))
        assert np.array_equal(found.tensor(name), rounded)


def test_quantized_tensors_equal_those_of_gguf(mixed: Path) -> None:
    found = loaded(mixed)
    reader = gguf.GGUFReader(mixed)
    assert {theirs.tensor_type.name for theirs in reader.tensors} == {"F32", "Q4_K", "Q5_K", "Q6_K", "Q5_0"}
    for theirs in reader.tensors:
        assert np.array_equal(found.tensor(theirs.name), gguf.dequantize(theirs.data, theirs.tensor_type))


@pytest.mark.parametrize("expert", range(MIXED.experts))
def test_an_expert_is_a_slice_of_its_tensor(mixed: Path, expert: int) -> None:
    assert np.array_equal(loaded(mixed).expert(EXPERTS, expert), loaded(mixed).tensor(EXPERTS)[expert])


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_rows_are_rows_of_the_tensor(mixed: Path, cache_bytes: int) -> None:
    ids = [272, 0, 5, 5]
    rows = loaded(mixed, cache_bytes=cache_bytes).rows("token_embd.weight", ids)
    assert np.array_equal(rows, loaded(mixed).tensor("token_embd.weight")[ids])


@pytest.mark.parametrize("token", [-1, 273])
def test_a_row_outside_the_vocabulary_is_refused(mixed: Path, token: int) -> None:
    with pytest.raises(RequestError, match=f"token {token} is not in the vocabulary; expected 0 to 272"):
        loaded(mixed).rows("token_embd.weight", [3, token])


def test_what_is_kept_is_given_again(mixed: Path) -> None:
    found = loaded(mixed)
    assert found.expert(EXPERTS, 1) is found.expert(EXPERTS, 1)


def test_what_is_kept_cannot_be_written(mixed: Path) -> None:
    found = loaded(mixed)
    with pytest.raises(ValueError, match="read-only"):
        found.expert(EXPERTS, 1)[0, 0] = 1


def test_what_is_dequantized_lies_in_one_allocation_where_all_of_it_is_kept(mixed: Path) -> None:
    found = loaded(mixed)
    matrices = [name for name, info in found._file.tensors.items() if info.type is not TensorType.F32]
    arrays = [found.tensor(name) for name in matrices]
    first = min(array.ctypes.data for array in arrays)
    assert all(array.ctypes.data % 64 == 0 for array in arrays)
    assert max(array.ctypes.data + array.nbytes for array in arrays) - first <= found.most_kept()
    more = found.expert(EXPERTS, 1)  # asked for in both ways, it is kept twice, and no longer in there
    assert np.array_equal(more, found.tensor(EXPERTS)[1])


def test_the_least_recently_used_goes_first(mixed: Path) -> None:
    matrix_bytes = 256 * 256 * 4
    found = loaded(mixed, cache_bytes=2 * matrix_bytes)
    first, second = found.expert(EXPERTS, 0), found.expert(EXPERTS, 1)
    assert found.expert(EXPERTS, 0) is first
    found.expert(EXPERTS, 2)
    assert found.expert(EXPERTS, 0) is first
    assert found.expert(EXPERTS, 1) is not second


def test_what_is_larger_than_the_bound_is_not_kept(mixed: Path) -> None:
    found = loaded(mixed, cache_bytes=256 * 256 * 4)
    kept = found.expert(EXPERTS, 0)
    assert found.tensor(EXPERTS) is not found.tensor(EXPERTS)
    assert found.expert(EXPERTS, 0) is kept


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "m.gguf", without={"blk.1.attn_k.weight"})
    with pytest.raises(FormatError) as caught:
        loaded(path)
    assert (
        str(caught.value)
        == f"{path}: the tensor blk.1.attn_k.weight is missing; expected it with shape (32, 64)"
    )


def test_a_shape_against_the_metadata_is_named(tmp_path: Path) -> None:
    kind = gguf.GGUFValueType
    path = write_tiny(tmp_path / "m.gguf", overrides={"qwen3moe.attention.head_count": (4, kind.UINT32)})
    with pytest.raises(FormatError) as caught:
        loaded(path)
    expected = "the tensor blk.0.attn_q.weight has shape (96, 64); expected (64, 64) by the metadata"
    assert str(caught.value) == f"{path}: {expected}"


def test_a_vocabulary_against_the_embedding_is_named(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "m.gguf", values={"token_embd.weight": np.zeros((280, 64), np.float32)})
    with pytest.raises(FormatError, match=r"token_embd.weight has shape \(280, 64\); expected \(273, 64\)"):
        loaded(path)


def test_a_tensor_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "m.gguf", values={"blk.0.attn_q.bias": np.zeros(96, np.float32)})
    with pytest.raises(
        UnsupportedError, match=r"the tensor blk\.0\.attn_q\.bias is not part of a plain qwen3moe model"
    ):
        loaded(path)


def test_a_type_that_is_no_weight_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "m.gguf", TinyModel(layers=1))
    content = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    at = content.index(name) + len(name) + 4 + 2 * 8  # its type follows the name, the rank and two extents
    path.write_bytes(content[:at] + int(TensorType.I32).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(UnsupportedError, match=r"attn_q\.weight has type I32, which cannot be dequantized"):
        loaded(path)


def test_what_is_kept_never_exceeds_what_is_said(mixed: Path) -> None:
    weights = loaded(mixed)
    matrices = [name for name, info in weights._file.tensors.items() if len(info.shape) < 3]
    held = sum(weights.tensor(name).nbytes for name in matrices if name != "token_embd.weight")
    held += sum(
        weights.expert(name, expert).nbytes
        for name, info in weights._file.tensors.items()
        if len(info.shape) == 3
        for expert in range(info.shape[0])
    )
    embedding = weights.tensor("token_embd.weight").nbytes
    assert weights.most_kept() == weights.most_kept(by_rows=("token_embd.weight",)) == held + embedding
    assert loaded(mixed, cache_bytes=1000).most_kept() == 1000


def test_a_matrix_that_is_read_by_rows_is_kept_where_it_takes_little(mixed: Path) -> None:
    size = loaded(mixed).tensor("token_embd.weight").nbytes
    for cache_bytes, kept in ((8 * size, size), (8 * size - 1, 0)):
        weights = loaded(mixed, cache_bytes=cache_bytes)
        weights.rows("token_embd.weight", [0, 3])
        assert weights._cached_bytes == kept


def test_the_largest_matrix_is_no_stack_of_experts(mixed: Path) -> None:
    weights = loaded(mixed)
    sizes = [weights.tensor(name).nbytes for name, i in weights._file.tensors.items() if len(i.shape) < 3]
    assert weights.largest() == max(*sizes, weights.expert(EXPERTS, 0).nbytes)

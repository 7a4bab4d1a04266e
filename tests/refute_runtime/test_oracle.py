"""Logits equal those of an independent implementation, and quantized files those of their float32 twins."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from oracle_models import CASES, oracle_weights, weights_digest
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends.array import ArrayBackend
from refute_runtime.config import ModelConfig
from refute_runtime.model import Model
from refute_runtime.weights import GgufFile, Weights

TOLERANCE = 1e-4  # reached: 5e-6 where logits deviate by 1, 1.5e-5 where by 4.4 (tied output)
GOLDEN = Path(__file__).parent / "golden"


@dataclasses.dataclass(frozen=True)
class Golden:
    tokens: list[int]
    logits: np.ndarray
    weights_sha256: str


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return Golden(stored["tokens"].tolist(), stored["logits"], str(stored["weights_sha256"]))


def load(path, backend=ArrayBackend, **changes):
    file = GgufFile.open(path)
    config = ModelConfig.from_metadata(file.metadata, file.tensors)
    weights = Weights(file, config)
    config = dataclasses.replace(config, **changes)
    return Model(config, backend(config, weights))


def logits(model, tokens, chunks=()):
    """Logits of all positions, prefilled in chunks; the rest in one."""
    cache = model.backend.new_cache(len(tokens))
    parts, start = [], 0
    for size in (*chunks, len(tokens)):
        part = tokens[start : start + size]
        if part:
            parts.append(model.forward(part, cache, last_only=False).logits)
        start += size
    return np.concatenate(parts)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def path(case, tmp_path_factory):
    model = CASES[case].model
    return write_tiny(tmp_path_factory.mktemp("oracle") / "m.gguf", model, values=oracle_weights(model))


def test_golden_files_belong_to_these_weights(case):
    assert weights_digest(oracle_weights(CASES[case].model)) == golden(case).weights_sha256


@pytest.mark.parametrize("chunks", [(), (7, 1, 3), (1,) * 300], ids=["whole", "chunked", "decode"])
def test_logits_equal_the_oracle(case, path, chunks):
    expected = golden(case)
    got = logits(load(path), expected.tokens, chunks)
    assert got.dtype == np.float32
    assert np.abs(got - expected.logits).max() <= TOLERANCE
    assert (got.argmax(-1) == expected.logits.argmax(-1)).all()


class NoQKNorm(ArrayBackend):
    def norm(self, x, weight):
        return x if "q_norm" in weight or "k_norm" in weight else super().norm(x, weight)


class Interleaved(ArrayBackend):
    """RoPE that turns neighbours, as llama's does."""

    def _rotate(self, x, positions):
        order = np.arange(x.shape[-1]).reshape(-1, 2).T.ravel()
        turned = np.empty_like(x)
        turned[..., order] = super()._rotate(x[..., order], positions)
        return turned


class NotRenormalised(ArrayBackend):
    def route(self, layer, x):
        chosen, weights, gap = super().route(layer, x)
        return chosen, weights * np.float32(0.9), gap


class OtherHeads(ArrayBackend):
    """Query head n reads kv head n % G instead of n // P."""

    def attention(self, q, k, v):
        T, N, D = q.shape
        order = np.arange(N).reshape(-1, k.shape[1]).T.ravel()
        out = super().attention(q[:, order], k, v).reshape(T, N, D)
        restored = np.empty_like(out)
        restored[:, order] = out
        return restored.reshape(T, N * D)


@pytest.mark.parametrize("wrong", [NoQKNorm, Interleaved, NotRenormalised, OtherHeads])
def test_a_wrong_operation_exceeds_the_tolerance(tmp_path, wrong):
    model = CASES["moe"].model
    path = write_tiny(tmp_path / "m.gguf", model, values=oracle_weights(model))
    expected = golden("moe")
    assert np.abs(logits(load(path, wrong), expected.tokens) - expected.logits).max() > 10 * TOLERANCE


@pytest.mark.parametrize("change", [{"rope_base": 1.1e4}, {"rms_eps": 1e-3}, {"experts_per_token": 2}])
def test_a_wrong_dimension_exceeds_the_tolerance(tmp_path, change):
    model = CASES["moe"].model
    path = write_tiny(tmp_path / "m.gguf", model, values=oracle_weights(model))
    expected = golden("moe")
    assert np.abs(logits(load(path, **change), expected.tokens) - expected.logits).max() > 10 * TOLERANCE


QUANTIZED = [
    TensorType.F16,
    TensorType.BF16,
    TensorType.Q8_0,
    TensorType.Q4_0,
    TensorType.Q4_K,
    TensorType.Q5_K,
    TensorType.Q6_K,
]


@pytest.mark.parametrize("tensor_type", QUANTIZED, ids=lambda t: t.name)
@pytest.mark.parametrize("architecture", ["qwen3moe", "qwen3"])
def test_a_quantized_file_equals_its_dequantized_twin(tmp_path, tensor_type, architecture):
    shape = TinyModel(
        architecture=architecture, hidden=256, heads=8, head_dim=32, expert_ffn=256, dense_ffn=256, tied=True,
        experts=3, experts_per_token=2,
    )  # fmt: skip
    path = write_tiny(tmp_path / "q.gguf", dataclasses.replace(shape, type=tensor_type))
    quantized = load(path)
    with GgufFile.open(path) as file:
        weights = Weights(file, ModelConfig.from_metadata(file.metadata, file.tensors))
        values = {name: weights.tensor(name) for name in file.tensors}
        assert {t.type for t in file.tensors.values()} == {tensor_type, TensorType.F32}
    twin = load(write_tiny(tmp_path / "f32.gguf", shape, values=values))
    tokens = list(range(5, 25))
    np.testing.assert_array_equal(logits(quantized, tokens, (9,)), logits(twin, tokens, (9,)))

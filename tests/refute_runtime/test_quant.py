"""Dequantization equals that of the `gguf` package, bit for bit."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from tiny_gguf import random_blocks

from refute_runtime import quant
from refute_runtime.quant import BLOCKS, dequantizable, dequantize

WRITTEN_OUT = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K")
BY_GGUF = ("Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "IQ2_XXS", "IQ3_S", "TQ2_0")
# where the float16 scales of a block lie
SCALES = {"Q8_0": (0,), "Q4_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
# zeros, subnormals, ordinary numbers, the largest, infinities, quiet and signalling NaN
HALVES = (0x0000, 0x8000, 0x0001, 0x03FF, 0x8200, 0x3C00, 0xC123, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01)


def expected(raw: np.ndarray, tensor_type: TensorType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.dequantize(raw, tensor_type)


def same_bits(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.dtype == np.float32 and np.array_equal(found.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("name", [*WRITTEN_OUT, *BY_GGUF])
def test_random_bytes_equal_gguf(name: str) -> None:
    tensor_type = TensorType[name]
    raw = np.random.default_rng(1).integers(0, 256, (5, 24 * BLOCKS[tensor_type][1]), dtype=np.uint8)
    assert same_bits(dequantize(raw, tensor_type), expected(raw, tensor_type))


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K"])
def test_blocks_with_ordinary_scales_equal_gguf(name: str) -> None:
    tensor_type = TensorType[name]
    raw = random_blocks(tensor_type, 300, np.random.default_rng(2), scale=0.01).reshape(3, -1)
    found = dequantize(raw, tensor_type)
    assert np.isfinite(found).all()
    assert same_bits(found, expected(raw, tensor_type))


@pytest.mark.parametrize("name", SCALES)
def test_every_kind_of_scale_equals_gguf(name: str) -> None:
    tensor_type = TensorType[name]
    raw = np.random.default_rng(3).integers(
        0, 256, (len(HALVES) ** 2, BLOCKS[tensor_type][1]), dtype=np.uint8
    )
    pairs = np.array([(a, b) for a in HALVES for b in HALVES], dtype="<u2")
    for column, start in enumerate(SCALES[name]):
        raw[:, start : start + 2] = pairs[:, column : column + 1].copy().view(np.uint8)
    assert same_bits(dequantize(raw, tensor_type), expected(raw, tensor_type))


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_half_equals_gguf(name: str) -> None:
    raw = np.arange(1 << 16, dtype="<u2").view(np.uint8).reshape(256, -1)
    assert same_bits(dequantize(raw, TensorType[name]), expected(raw, TensorType[name]))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "Q5_0"])
def test_pieces_join_without_a_seam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor_type = TensorType[name]
    raw = np.random.default_rng(4).integers(0, 256, (7, 3 * BLOCKS[tensor_type][1]), dtype=np.uint8)
    monkeypatch.setattr(quant, "_CHUNK", 4 * BLOCKS[tensor_type][0])
    assert same_bits(dequantize(raw, tensor_type), expected(raw, tensor_type))


def test_leading_axes_are_kept() -> None:
    raw = np.zeros((2, 3, 5, 2 * 34), dtype=np.uint8)
    assert dequantize(raw, TensorType.Q8_0).shape == (2, 3, 5, 64)


def test_strided_bytes_are_read() -> None:
    raw = np.random.default_rng(5).integers(0, 256, (8, 144), dtype=np.uint8)
    assert same_bits(dequantize(raw[::2], TensorType.Q4_K), expected(raw[::2].copy(), TensorType.Q4_K))


def test_types_without_a_dequantizer_are_known_as_such() -> None:
    assert all(dequantizable(TensorType[name]) for name in (*WRITTEN_OUT, *BY_GGUF))
    assert not any(
        dequantizable(tensor_type) for tensor_type in (TensorType.I32, TensorType.F64, TensorType.Q8_K)
    )

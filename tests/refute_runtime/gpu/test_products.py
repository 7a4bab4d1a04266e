"""Rows of every type times tokens: the bits of the `cpu` backend, for any number of tokens together."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType
from q8_reference import product, random_rows

from refute_runtime.backends.gpu import launches, layouts

pytestmark = pytest.mark.usefixtures("cpu_kernels")

SHAPES = [
    (TensorType.Q4_K, 768), (TensorType.Q5_K, 512), (TensorType.Q6_K, 768), (TensorType.Q8_0, 96),
    (TensorType.Q8_0, 576), (TensorType.Q4_0, 352), (TensorType.F32, 100), (TensorType.F16, 96),
    (TensorType.BF16, 333),
]  # fmt: skip


def activations(T, C, rng):
    """Rows with what rounding treats apart: zero, NaN, infinity, too small to round."""
    x = rng.standard_normal((T, C)).astype(np.float32)
    if T > 6:
        x[2], x[3, 5], x[4, 7], x[5] = 0, np.nan, -np.inf, x[5] * np.float32(1e-33)
    return x


def multiplied(room, raw, kind, x, **more):
    T, C = x.shape
    matrix, address, rounded = room.matrix(raw, kind, C), room.put(x), room.rounded(T, C)
    launches.round_rows(room.device, address, T, rounded)
    out = room.make(T, raw.shape[0] + 3)
    launches.multiply(
        room.device, matrix, T, out, rounded=rounded, x=address, stride=raw.shape[0] + 3, column=2
    )
    found = room.take(out, T, raw.shape[0] + 3)
    assert np.isnan(found[:, [0, 1, -1]]).all()  # nothing beside the matrix's columns is written
    return found[:, 2:-1]


@pytest.mark.parametrize("T", [1, 3, 9, 13, 41])
@pytest.mark.parametrize(("kind", "columns"), SHAPES, ids=lambda value: getattr(value, "name", value))
def test_products_are_those_of_the_cpu_backend(room, kind, columns, T):
    rng = np.random.default_rng(T)
    raw, x = random_rows(kind, 37, columns, rng), activations(T, columns, rng)
    np.testing.assert_array_equal(multiplied(room, raw, kind, x), product(raw, kind, x))


@pytest.mark.parametrize("kind", layouts.TYPES, ids=lambda kind: kind.name)
def test_tokens_together_are_tokens_alone(room, kind):
    rng = np.random.default_rng(5)
    raw, x = random_rows(kind, 5, 256, rng), activations(70, 256, rng)
    together = multiplied(room, raw, kind, x)
    for start, end in ((0, 1), (1, 4), (4, 5), (5, 11), (11, 43), (43, 70)):
        np.testing.assert_array_equal(multiplied(room, raw, kind, x[start:end]), together[start:end])


def test_integers_at_their_limits_are_exact(room):
    """Every weight and activation at its largest: no sum within a block overflows or is rounded."""
    for kind, byte in ((TensorType.Q4_K, 0xFF), (TensorType.Q5_K, 0xFF), (TensorType.Q6_K, 0x80)):
        rng = np.random.default_rng(0)
        raw = np.full_like(random_rows(kind, 2, 512, rng), byte)
        elements, size = 256, raw.shape[1] // 2
        blocks = raw.reshape(2, 512 // elements, size)
        one = np.array([1.0], np.float16).view(np.uint8)
        for at in {TensorType.Q6_K: (208,)}.get(kind, (0, 2)):
            blocks[:, :, at : at + 2] = one
        if kind is TensorType.Q6_K:
            blocks[:, :, :192] = 0
        x = np.full((14, 512), 3, np.float32) * np.array([[1], [-1]] * 7, np.float32)
        expected = product(raw, kind, x)
        np.testing.assert_array_equal(multiplied(room, raw, kind, x), expected)
        np.testing.assert_array_equal(multiplied(room, raw, kind, x[:2]), expected[:2])

"""Rows rearranged into planes: every byte is there, in aligned rows."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.gpu import layouts
from refute_runtime.backends.gpu.layouts import Matrix, Rounded
from refute_runtime.quant import BLOCKS


def stored(kind, columns, rows=3):
    elements, size = BLOCKS[kind]
    return np.random.default_rng(0).integers(0, 256, (rows, columns // elements * size), dtype=np.uint8)


@pytest.mark.parametrize("kind", layouts.TYPES, ids=lambda kind: kind.name)
def test_rows_lie_at_aligned_addresses_with_all_their_bytes(kind):
    raw = stored(kind, 768)
    laid = layouts.to_device(raw, kind)
    size = layouts.row_bytes(kind, 768)
    assert laid.shape == (3, size)
    assert size % layouts.ALIGNMENT == 0
    padded = np.zeros_like(laid)
    padded[:, : raw.shape[1]] = raw
    np.testing.assert_array_equal(np.sort(laid, axis=1), np.sort(padded, axis=1))


def test_planes_hold_the_parts_of_all_blocks_in_turn():
    raw = stored(TensorType.Q6_K, 512).reshape(3, 2, 210)
    row = layouts.to_device(raw.reshape(3, -1), TensorType.Q6_K)[1]
    np.testing.assert_array_equal(row[128:256], raw[1, 1, :128])
    np.testing.assert_array_equal(row[256:320], raw[1, 0, 128:192])
    np.testing.assert_array_equal(row[384:400], raw[1, 0, 192:208])
    np.testing.assert_array_equal(row[418:420], raw[1, 1, 208:])


def test_experts_are_rearranged_alike():
    raw = stored(TensorType.Q8_0, 64, rows=6)
    together = layouts.to_device(raw.reshape(2, 3, -1), TensorType.Q8_0)
    np.testing.assert_array_equal(together.reshape(6, -1), layouts.to_device(raw, TensorType.Q8_0))
    assert Matrix(0, TensorType.Q8_0, 3, 64).nbytes == together[0].nbytes


@pytest.mark.parametrize("columns", [64, 256, 700])
def test_rounded_rows_fit_their_bytes_and_are_aligned(columns):
    rounded, blocks = Rounded.at(1024, 5, columns), 5 * -(-columns // 256)
    assert (rounded.q, rounded.sums, rounded.d) == (1024, 1024 + 256 * blocks, 1024 + 272 * blocks)
    assert rounded.d + 4 * blocks <= 1024 + Rounded.nbytes(5, columns)
    assert Rounded.nbytes(5, columns) % layouts.ALIGNMENT == 0


@pytest.mark.parametrize(("kind", "columns"), [(TensorType.Q4_K, 128), (TensorType.IQ4_XS, 256)])
def test_what_no_kernel_reads_is_refused(kind, columns):
    with pytest.raises(ValueError, match=f"{kind.name} with {columns} columns"):
        layouts.row_bytes(kind, columns)

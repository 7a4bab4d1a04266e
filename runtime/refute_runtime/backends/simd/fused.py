"""Kernels one after the other in one call.

Between two products Python finds its own code and objects thrown out of the processor's cache by the weights,
so every call that it makes while a token is decoded costs many times what it does alone.
"""

import numpy as np

from refute_runtime.backends.simd.build import kernel
from refute_runtime.backends.simd.layers import weighted_sum
from refute_runtime.backends.simd.products import ARRAYS, Packed, multiply, pack, pack_swiglu

_TABLE = "int64[:,::1]"
_ROWS = "float32[:,::1]"


@kernel(
    f"void({_ROWS}, {_TABLE}, {_TABLE}, int64[::1], {_TABLE}, {ARRAYS}, boolean, boolean, {_ROWS}, int64)",
    nogil=True, error_model="numpy",
)  # fmt: skip
def times(
    x: np.ndarray,
    slots: np.ndarray,
    panels: np.ndarray,
    groups: np.ndarray,
    matrices: np.ndarray,
    packed: Packed,
    rounded: bool,
    floats: bool,
    out: np.ndarray,
    chunk: int,
) -> None:
    """Pack x (T, C) and multiply it, see `products`."""
    pack(x, slots, packed, rounded, floats)
    multiply(matrices, x.shape[1], panels, groups, packed, out, chunk)


@kernel(
    f"void({_ROWS}, {_TABLE}, {_TABLE}, {_TABLE}, {_TABLE}, int64[::1], {_TABLE}, {_TABLE}, {ARRAYS},"
    f" {ARRAYS}, boolean[::1], {_ROWS}, {_ROWS}, {_TABLE}, {_ROWS}, {_ROWS}, int64[::1])",
    nogil=True, error_model="numpy",
)  # fmt: skip
def experts(
    x: np.ndarray,
    read_slots: np.ndarray,
    read_panels: np.ndarray,
    slots: np.ndarray,
    panels: np.ndarray,
    groups: np.ndarray,
    gate_up: np.ndarray,
    down: np.ndarray,
    packed: Packed,
    packed_between: Packed,
    forms: np.ndarray,
    between: np.ndarray,
    results: np.ndarray,
    places: np.ndarray,
    shares: np.ndarray,
    out: np.ndarray,
    chunks: np.ndarray,
) -> None:
    """SwiGLU of the experts that tokens chose, and the weighted sum: out (T, H).

    read_slots, read_panels: of x, for gate and up; the others of what is between, for down. forms: whether
    gate and up are rounded, are floats, and the same of down. chunks: of gate and up, and of down.
    """
    pack(x, read_slots, packed, forms[0], forms[1])
    multiply(gate_up, x.shape[1], read_panels, groups, packed, between, chunks[0])
    pack_swiglu(between, slots, packed_between, forms[2], forms[3])
    multiply(down, between.shape[1] // 2, panels, groups, packed_between, results, chunks[1])
    weighted_sum(results, places, shares, out)

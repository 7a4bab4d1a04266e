"""Products of weight matrices with panels of tokens: the numerics `q8`, and who computes which row.

**q8.** Activations are rounded to int8 in blocks of 256 of their row: step d = max|x| / 127, q = x / d to the
nearest. A quantized weight block times a block of activations is an exact integer, whatever the order of its
additions; its worth is that integer times (weight scale * d), added to the row's total by a fused
multiply-add, block after block. So the bits do not depend on the processor, its vectors, the panel that a
token is in, nor on the number of threads. Matrices of floats are multiplied with the float32 activations, in
the fixed lanes of `lanes.dot_*`.

**Panels.** Tokens are multiplied by 1, 4 or 8, so that a weight is unpacked once for all of them. A panel
begins at a slot; block by block it holds the values of its tokens side by side. A slot without token is zero
and its result is not read. The arrays of `pack` hold all panels one after the other.
"""

import numpy as np
from numba import njit, prange

from refute_runtime.backends.simd import narrow, vnni
from refute_runtime.backends.simd.build import kernel, processor
from refute_runtime.backends.simd.lanes import dot_bf16, dot_f16, dot_f32, round_block, swiglu
from refute_runtime.backends.simd.scalars import address, store_float

# the other ones are not compiled: an instruction that is not there would end the process
_row = {"vnni": vnni.row, "avx2": narrow.avx2, "portable": narrow.portable}[processor().path]

F32, F16, BF16 = 0, 1, 30  # as GGUF numbers its types
Q8_0, Q4_0 = 8, 2
BLOCK = 256

# Columns of a table of matrices, int64, a row each: where the matrix lies, its type, its rows, the bytes of a
# row, the bytes of a matrix (experts follow one another) and the column of `out` where its results begin.
ADDRESS, KIND, ROWS, ROW_BYTES, MATRIX_BYTES, COLUMN = range(6)

Packed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
ARRAYS = "Tuple((int8[::1],int8[::1],int16[::1],int16[::1],float32[::1],float32[::1]))"


@njit(nogil=True, error_model="numpy")
def pack_row(
    x: np.ndarray, slot: int, lane: int, width: int, packed: Packed, rounded: bool, floats: bool
) -> None:
    """Round one row (C,) into its lane of the panel at `slot`."""
    plain, shuffled, halves, wholes, steps, copy = packed
    columns = x.size
    if floats:
        start = (slot + lane) * columns
        copy[start : start + columns] = x
    if not rounded:
        return
    blocks = (columns + BLOCK - 1) // BLOCK
    rest = np.zeros(BLOCK if columns % BLOCK else 0, np.float32)
    for block in range(blocks):
        at = slot * blocks + block * width + lane
        start, base = block * BLOCK, address(x) + 4 * block * BLOCK
        if start + BLOCK > columns:
            rest[: columns - start] = x[start:]
            base = address(rest)
        round_block(
            base, address(plain) + at * BLOCK, address(shuffled) + at * BLOCK, address(halves) + at * 32,
            address(wholes) + at * 16, address(steps) + at * 4,
        )  # fmt: skip


@njit(nogil=True, error_model="numpy")
def _blank(
    slot: int, lane: int, width: int, columns: int, packed: Packed, rounded: bool, floats: bool
) -> None:
    """Zero in a lane that has no token."""
    plain, shuffled, halves, wholes, steps, copy = packed
    if floats:
        copy[(slot + lane) * columns : (slot + lane + 1) * columns] = 0
    if not rounded:
        return
    blocks = (columns + BLOCK - 1) // BLOCK
    for block in range(blocks):
        at = slot * blocks + block * width + lane
        plain[at * BLOCK : at * BLOCK + BLOCK] = 0
        shuffled[at * BLOCK : at * BLOCK + BLOCK] = 0
        halves[at * 16 : at * 16 + 16] = 0
        wholes[at * 8 : at * 8 + 8] = 0
        steps[at] = 0


@kernel(
    f"void(float32[:,::1], int64[:,::1], {ARRAYS}, boolean, boolean)",
    parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def pack(x: np.ndarray, slots: np.ndarray, packed: Packed, rounded: bool, floats: bool) -> None:
    """Round rows of x (T, C) into panels. slots (S, 4): panel's slot, lane, width, row of x or -1.

    rounded, floats: which form the matrices to come need.
    """
    columns = x.shape[1]
    for s in prange(len(slots)):
        if slots[s, 3] < 0:
            _blank(slots[s, 0], slots[s, 1], slots[s, 2], columns, packed, rounded, floats)
        else:
            pack_row(x[slots[s, 3]], slots[s, 0], slots[s, 1], slots[s, 2], packed, rounded, floats)


@kernel(
    f"void(float32[:,::1], int64[:,::1], {ARRAYS}, boolean, boolean)",
    parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def pack_swiglu(both: np.ndarray, slots: np.ndarray, packed: Packed, rounded: bool, floats: bool) -> None:
    """Round silu(gate) * up into panels; both (S, 2 F) holds gate and up of each slot in `slots`."""
    width = both.shape[1] // 2
    for s in prange(len(slots)):
        if slots[s, 3] < 0:
            _blank(slots[s, 0], slots[s, 1], slots[s, 2], width, packed, rounded, floats)
        else:
            gate = both[s, :width]
            swiglu(address(gate), address(gate) + 4 * width, width)
            pack_row(gate, slots[s, 0], slots[s, 1], slots[s, 2], packed, rounded, floats)


@njit(nogil=True, error_model="numpy")
def _float_row(kind: int, width: int, weights: int, columns: int, x: int, out: int, stride: int) -> None:
    for token in range(width):
        base = x + 4 * token * columns
        if kind == F32:
            store_float(out, token * stride, dot_f32(weights, base, columns))
        elif kind == F16:
            store_float(out, token * stride, dot_f16(weights, base, columns))
        else:
            store_float(out, token * stride, dot_bf16(weights, base, columns))


@kernel(
    f"void(int64[:,::1], int64, int64[:,::1], int64[::1], {ARRAYS}, float32[:,::1], int64)",
    parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def multiply(
    matrices: np.ndarray,
    columns: int,
    panels: np.ndarray,
    groups: np.ndarray,
    packed: Packed,
    out: np.ndarray,
    chunk: int,
) -> None:
    """Multiply matrices of `columns` with packed panels into out (S, all their rows).

    matrices: (M, 6), see the constants above. panels: (P, 4): expert, slot of its data, slot of its results,
    width. groups: (G + 1,) panels of one expert are neighbours; where each group begins. chunk: rows that a
    thread computes at a time.

    All groups' first chunks come before all groups' second ones: threads take equal shares however unevenly
    the experts are chosen.
    """
    plain, shuffled, halves, wholes, steps, copy = packed
    blocks = (columns + BLOCK - 1) // BLOCK
    a_plain, a_shuffled, a_halves = address(plain), address(shuffled), address(halves)
    a_wholes, a_steps, a_copy, a_out = address(wholes), address(steps), address(copy), address(out)
    stride, group_count = out.shape[1], len(groups) - 1
    ends = np.empty(len(matrices), np.int64)  # chunks up to and with each matrix
    total = 0
    for m in range(len(matrices)):
        total += (matrices[m, ROWS] + chunk - 1) // chunk
        ends[m] = total
    for task in prange(total * group_count):
        part, group = task // group_count, task % group_count
        m = 0
        while ends[m] <= part:
            m += 1
        before = ends[m - 1] if m else 0
        first = (part - before) * chunk
        last = min(first + chunk, matrices[m, ROWS])
        kind, row_bytes = matrices[m, KIND], matrices[m, ROW_BYTES]
        whole = kind not in (F32, F16, BF16)
        units = (columns + 31) // 32 if kind in (Q8_0, Q4_0) else blocks
        expert = panels[groups[group], 0]
        base = matrices[m, ADDRESS] + expert * matrices[m, MATRIX_BYTES]
        for p in range(groups[group], groups[group + 1]):
            at, slot, width = panels[p, 1], panels[p, 2], panels[p, 3]
            data = at * blocks
            for r in range(first, last):
                weights = base + r * row_bytes
                to = a_out + 4 * (slot * stride + matrices[m, COLUMN] + r)
                if not whole:
                    _float_row(kind, width, weights, columns, a_copy + 4 * at * columns, to, stride)
                else:
                    _row(
                        kind, width, weights, units, a_plain + data * BLOCK, a_shuffled + data * BLOCK,
                        a_halves + data * 32, a_wholes + data * 16, a_steps + data * 4, to, stride,
                    )  # fmt: skip

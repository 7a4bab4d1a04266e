"""Integers of a block of Q4_K, Q5_K or Q6_K by vectors of 32 bytes, see `rows`.

Products of bytes are added by pairs, which fit an int16 (63 * 127 * 2), and those are multiplied with the
scale of their sub-block. AVX2 has an instruction for either step; elsewhere LLVM finds what there is.

Sub-blocks come one after the other, and the panel's tokens within: eight totals, the elements and their scale
are all that a processor's sixteen registers have to hold.
"""

from collections.abc import Callable, Sequence

from refute_runtime.backends.simd import rows
from refute_runtime.backends.simd.emit import I8, I16, I32, Emitter, Value, vector
from refute_runtime.backends.simd.instructions import Avx2


def _products(
    elements: Callable[[Emitter, Value], list[Value]], lower: Sequence[int], upper: Sequence[int]
) -> rows.Products:
    """elements: eight vectors of 32, in order. lower, upper: which scales belong to the halves of each."""

    def products(e: Emitter, block: Value, scales: Value, x: Value, width: int) -> list[Value]:
        lanes = e.shuffle(scales, scales, [*lower, *upper])
        totals = [e.zero(vector(I32, 8)) for _ in range(width)]
        for i, q in enumerate(elements(e, block)):
            scale = e.shuffle(lanes, lanes, [i] * 8 + [8 + i] * 8)
            for token in range(width):
                values = e.load(x, vector(I8, 32), 256 * token + 32 * i)
                totals[token] = e.b.add(totals[token], e.pairs(e.byte_pairs(q, values), scale))
        return totals

    return products


def _nibbles(e: Emitter, block: Value, offset: int) -> list[Value]:
    """128 bytes as eight vectors of 32 elements, in order."""
    found = []
    for start in range(0, 128, 32):
        both = e.load(block, vector(I8, 32), offset + start)
        found += [e.b.and_(both, e.every(I8, 32, 15)), e.b.lshr(both, e.every(I8, 32, 4))]
    return found


def _bit(e: Emitter, words: Value, first: int, to: int, mask: int) -> Value:
    """Bits of 32 bytes, which are given as (16 x i16), moved from `first` on to `to`, and masked.

    There are no shifts of bytes; those of int16 move bits of a neighbour too, where the mask is zero.
    """
    by = e.every(I16, 16, abs(first - to))
    moved = e.b.lshr(words, by) if first > to else e.b.shl(words, by)
    return e.b.and_(e.b.bitcast(moved, vector(I8, 32)), e.every(I8, 32, mask))


def _q4_elements(e: Emitter, block: Value) -> list[Value]:
    return _nibbles(e, block, 16)


def _q5_elements(e: Emitter, block: Value) -> list[Value]:
    high = e.load(block, vector(I16, 16), 16)
    return [e.b.or_(low, _bit(e, high, i, 4, 0x10)) for i, low in enumerate(_nibbles(e, block, 48))]


def _q6_elements(e: Emitter, block: Value) -> list[Value]:
    """256 elements of 0 to 63."""
    found = []
    for half in range(2):
        high = e.load(block, vector(I16, 16), 128 + 32 * half)
        both = [e.load(block, vector(I8, 32), 64 * half + at) for at in (0, 32)]
        low = [e.b.and_(value, e.every(I8, 32, 15)) for value in both]
        low += [e.b.lshr(value, e.every(I8, 32, 4)) for value in both]
        found += [e.b.or_(value, _bit(e, high, 2 * i, 4, 0x30)) for i, value in enumerate(low)]
    return found


_IN_ORDER = range(8), range(8)  # the lower and the upper half have one scale

PRODUCTS = (
    _products(_q4_elements, *_IN_ORDER),
    _products(_q5_elements, *_IN_ORDER),
    _products(_q6_elements, range(0, 16, 2), range(1, 16, 2)),
)

portable = rows.row(Emitter, PRODUCTS, in_order=True)
avx2 = rows.row(Avx2, PRODUCTS, in_order=True)

"""Integers of a block of Q4_K, Q5_K or Q6_K on processors with AVX-512 and VNNI, see `rows`.

`byte_dots` multiplies bytes and adds four neighbours; what it gives fits an int16 (63 * 127 * 4). Two of
these vectors are packed into one of int16, which `word_dots` multiplies with the scales of their sub-blocks
and adds up.
"""

from collections.abc import Callable, Sequence

from refute_runtime.backends.simd import rows
from refute_runtime.backends.simd.emit import I8, I16, I32, Value, vector
from refute_runtime.backends.simd.instructions import Vnni


def _placed(e: Vnni, scales: Value, subs: Sequence[Sequence[int]]) -> Value:
    """Scales for two vectors of `byte_dots` that are packed: (32 x i16).

    subs: which of `scales` (16 x i16) belongs to each four lanes of the first vector, and of the second.
    """
    order = [sub for quad in zip(*subs, strict=True) for sub in quad for _ in range(4)]
    return e.shuffle(scales, scales, order)


def _scaled(e: Vnni, v: Sequence[Value], placed: Sequence[Value]) -> Value:
    """Four vectors of `byte_dots` times their scales: (16 x i32), whose total is the block's."""
    total = e.zero(vector(I32, 16))
    for first, second, scales in zip(v[::2], v[1::2], placed, strict=True):
        total = e.word_dots(total, e.packed(first, second), scales)
    return total


def _nibbles(e: Vnni, block: Value, offset: int) -> list[Value]:
    """128 bytes as four vectors of 64 elements: sub-blocks 0 and 2, 1 and 3, 4 and 6, 5 and 7."""
    found = []
    for half in (0, 64):
        both = e.load(block, vector(I8, 64), offset + half)
        found += [e.b.and_(both, e.every(I8, 64, 15)), e.b.lshr(both, e.every(I8, 64, 4))]
    return found


def _fifth_bits(e: Vnni, block: Value) -> list[Value]:
    """Sixteen where an element of Q5_K has its fifth bit, in the order of `_nibbles`."""
    bits = e.load(block, vector(I8, 32), 16)
    return [_bits(e, bits, first, second, 0x10) for first, second in ((0, 2), (1, 3), (4, 6), (5, 7))]


def _bits(e: Vnni, value: Value, first: int, second: int, mask: int) -> Value:
    """32 bytes twice, their bits from `first` on and from `second` on moved to bit 4, and masked.

    There are no shifts of bytes; those of int16 move bits of a neighbour too, where the mask is zero.
    """
    words = e.b.bitcast(e.shuffle(value, value, list(range(32)) * 2), vector(I16, 32))
    by = [abs(4 - at) for at in (first, second) for _ in range(16)]
    moved = (e.b.shl if second <= 4 else e.b.lshr)(words, e.lanes(I16, by))
    return e.b.and_(e.b.bitcast(moved, vector(I8, 64)), e.every(I8, 64, mask))


def _products(
    elements: Callable[[Vnni, Value], list[Value]], subs: Sequence[Sequence[Sequence[int]]]
) -> rows.Products:
    """subs: of both pairs of vectors of elements, which scales belong to their lanes (see `_placed`)."""

    def products(e: Vnni, block: Value, scales: Value, x: Value, width: int) -> list[Value]:
        placed = [_placed(e, scales, pair) for pair in subs]
        q, zero = elements(e, block), e.zero(vector(I32, 16))
        found = []
        for token in range(width):
            values = [e.load(x, vector(I8, 64), 256 * token + 64 * i) for i in range(4)]
            dots = [e.byte_dots(zero, *both) for both in zip(q, values, strict=True)]
            found.append(_scaled(e, dots, placed))
        return found

    return products


def _q4_elements(e: Vnni, block: Value) -> list[Value]:
    return _nibbles(e, block, 16)


def _q5_elements(e: Vnni, block: Value) -> list[Value]:
    return [
        e.b.or_(low, high) for low, high in zip(_nibbles(e, block, 48), _fifth_bits(e, block), strict=True)
    ]


def _q6_elements(e: Vnni, block: Value) -> list[Value]:
    """256 elements of 0 to 63, in order, as four vectors of 64."""
    found = []
    for half in range(2):
        low = e.load(block, vector(I8, 64), 64 * half)
        high = e.load(block, vector(I8, 32), 128 + 32 * half)
        for nibbles, first, second in (
            (e.b.and_(low, e.every(I8, 64, 15)), 0, 2),
            (e.b.lshr(low, e.every(I8, 64, 4)), 4, 6),
        ):
            found.append(e.b.or_(nibbles, _bits(e, high, first, second, 0x30)))
    return found


_IN_32 = [([a, a, a + 2, a + 2], [a + 1, a + 1, a + 3, a + 3]) for a in (0, 4)]
_IN_16 = [(range(a, a + 4), range(a + 4, a + 8)) for a in (0, 8)]
PRODUCTS = (
    _products(_q4_elements, _IN_32),
    _products(_q5_elements, _IN_32),
    _products(_q6_elements, _IN_16),
)

row = rows.row(Vnni, PRODUCTS, in_order=False)

"""Rows of quantized blocks times int8 activations, on processors with AVX-512 and VNNI.

The integers of a block are summed exactly, so it does not matter in which lanes; the floats that follow come
in the one order of `q8` (see `products`). A row is multiplied with a panel of 1, 4 or 8 tokens.

`dot4` multiplies bytes and adds four neighbours; what it gives fits an int16 (63 * 127 * 4). Two of these
vectors are packed into one of int16, which `dot2` multiplies with the scales of their sub-blocks and adds up.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import njit

from refute_runtime.backends.simd.emit import (
    FLOAT,
    HALF,
    I8,
    I16,
    I32,
    Emitter,
    Value,
    kernel,
    vector,
)

Q4_0, Q8_0, Q4_K, Q5_K, Q6_K = 2, 8, 12, 13, 14  # as GGUF numbers its types
AHEAD = 2048  # bytes: how far ahead of the block under way memory is asked for


def _totals(e: Emitter, v: Sequence[Value]) -> Value:
    """Total of each of 1, 4 or 8 vectors of 16 x i32: (1, 4 or 8 x i32)."""
    if len(v) == 1:
        return e.splat(e.halves(v[0], plus=e.b.add), 1)
    if len(v) == 4:
        return e.totals4(v, plus=e.b.add)
    x, y = (e.quarters(part, plus=e.b.add) for part in (v[:4], v[4:]))
    lower, upper = list(range(8)), list(range(8, 16))
    z = e.b.add(
        e.shuffle(x, y, lower + [16 + i for i in lower]), e.shuffle(x, y, upper + [16 + i for i in upper])
    )
    first, second = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    return e.b.add(e.shuffle(z, z, first), e.shuffle(z, z, second))


def _totals_of_quarters(e: Emitter, groups: Sequence[Value]) -> Value:
    """Totals of four lanes each: 1 or 2 x (16 x i32), to (4 or 8 x i32)."""
    first, last = groups[0], groups[-1]
    even, odd = ([q * 4 + i for q in range(4) for i in (j, j + 2, 16 + j, 18 + j)] for j in (0, 1))
    both = e.b.add(e.shuffle(first, last, even), e.shuffle(first, last, odd))
    tokens = range(4 * len(groups))
    even = [t % 4 * 4 + t // 4 * 2 for t in tokens]
    return e.b.add(e.shuffle(both, both, even), e.shuffle(both, both, [i + 1 for i in even]))


def _block(e: Emitter, weights: Value, index: Value, size: int) -> Value:
    """Address of a row's block; the lines of a later one are asked for."""
    block = e.b.add(weights, e.b.mul(index, e.number(size)))
    for line in range(0, size, 64):
        e.prefetch(block, AHEAD + line)
    return block


def _float_of_half(e: Emitter, address: Value, offset: Value) -> Value:
    return e.b.fpext(e.load(address, HALF, offset), FLOAT)


def _panel(e: Emitter, width: int, block: Value, kind: Any, base: Value, each: int) -> Value:
    """Address of a block's part of a panel: `each` elements for each of its tokens."""
    size = {I8: 1, I16: 2, FLOAT: 4}[kind] * each * width
    return e.b.add(base, e.b.mul(block, e.number(size)))


def _steps(e: Emitter, width: int, block: Value, d: Value, scale: Value) -> Value:
    """What an integer of this block is worth, for each token: (width x float)."""
    of_tokens = e.load(_panel(e, width, block, FLOAT, d, 1), vector(FLOAT, width))
    return e.b.fmul(of_tokens, e.splat(scale, width))


def _add(e: Emitter, total: Value, integers: Value, steps: Value) -> None:
    """Add integers * steps to the variable `total`, rounded once."""
    floats = e.b.sitofp(integers, steps.type)
    e.b.store(e.fma(floats, steps, e.b.load(total)), total)


def _add_both(
    e: Emitter, totals: Value, integers: Sequence[Value], scales: Value, d: Value, index: Value
) -> None:
    """Of one token, `_add` the elements (16 x i32) to lane 0 and the minimums (4 x i32) to lane 2."""
    v, m = integers
    v = e.b.add(e.part(v, 0, 8), e.part(v, 8, 8))
    v = e.b.add(e.part(v, 0, 4), e.part(v, 4, 4))
    pairs = e.b.add(e.shuffle(v, m, [0, 1, 4, 5]), e.shuffle(v, m, [2, 3, 6, 7]))
    both = e.b.add(pairs, e.shuffle(pairs, pairs, [1, 0, 3, 2]))
    scales = e.b.fpext(scales, vector(FLOAT, 2))
    step = e.splat(e.load(d, FLOAT, e.b.mul(index, e.number(4))), 4)
    _add(e, totals, both, e.b.fmul(step, e.shuffle(scales, scales, [0, 0, 1, 1])))


def _write(e: Emitter, result: Value, out: Value, stride: Value) -> None:
    for token in range(result.type.count):
        e.store(e.lane(result, token), out, e.b.mul(e.number(4 * token), stride))


def _six_bits(e: Emitter, block: Value) -> Value:
    """The eight scales and then the eight minimums of Q4_K and Q5_K: (16 x i16)."""
    b, four = e.b, vector(I32, 4)
    found = e.load(block, four, 4)  # four low halves of scales, of minimums, the rest of both
    low = b.lshr(e.shuffle(found, found, [0, 2, 1, 2]), e.lanes(I32, [0, 0, 0, 4]))
    low = b.and_(low, e.lanes(I32, [0x3F3F3F3F, 0x0F0F0F0F] * 2))
    high = b.lshr(e.shuffle(found, found, [0, 0, 1, 1]), e.every(I32, 4, 2))
    high = b.and_(high, e.lanes(I32, [0, 0x30303030] * 2))
    return b.zext(b.bitcast(b.or_(low, high), vector(I8, 16)), vector(I16, 16))


def _placed(e: Emitter, scales: Value, subs: Sequence[Sequence[int]]) -> Value:
    """Scales for two vectors of `dot4` that are packed: (32 x i16).

    subs: which of `scales` (16 x i16) belongs to each four lanes of the first vector, and of the second.
    """
    order = [sub for quad in zip(*subs, strict=True) for sub in quad for _ in range(4)]
    return e.shuffle(scales, scales, order)


def _scaled(e: Emitter, v: Sequence[Value], placed: Sequence[Value]) -> Value:
    """Four vectors of `dot4` times their scales: (16 x i32), whose total is the block's."""
    total = e.zero(vector(I32, 16))
    for first, second, scales in zip(v[::2], v[1::2], placed, strict=True):
        total = e.dot2(total, e.packed(first, second), scales)
    return total


def _nibbles(e: Emitter, block: Value, offset: int) -> list[Value]:
    """128 bytes as four vectors of 64 elements: sub-blocks 0 and 2, 1 and 3, 4 and 6, 5 and 7."""
    found = []
    for half in (0, 64):
        both = e.load(block, vector(I8, 64), offset + half)
        found += [e.b.and_(both, e.every(I8, 64, 15)), e.b.lshr(both, e.every(I8, 64, 4))]
    return found


def _fifth_bits(e: Emitter, block: Value) -> list[Value]:
    """Sixteen where an element of Q5_K has its fifth bit, in the order of `_nibbles`."""
    bits = e.load(block, vector(I8, 32), 16)
    return [_bits(e, bits, first, second, 0x10) for first, second in ((0, 2), (1, 3), (4, 6), (5, 7))]


def _bits(e: Emitter, value: Value, first: int, second: int, mask: int) -> Value:
    """32 bytes twice, their bits from `first` on and from `second` on moved to bit 4, and masked.

    There are no shifts of bytes; those of int16 move bits of a neighbour too, where the mask is zero.
    """
    words = e.b.bitcast(e.shuffle(value, value, list(range(32)) * 2), vector(I16, 32))
    by = [abs(4 - at) for at in (first, second) for _ in range(16)]
    moved = (e.b.shl if second <= 4 else e.b.lshr)(words, e.lanes(I16, by))
    return e.b.and_(e.b.bitcast(moved, vector(I8, 64)), e.every(I8, 64, mask))


def _k_row(size: int, elements: Callable[[Emitter, Value], list[Value]], width: int) -> Any:
    """Q4_K or Q5_K: sub-blocks of 32 with a scale and a minimum each."""

    def write(
        e: Emitter,
        weights: Value,
        blocks: Value,
        shuffled: Value,
        sums: Value,
        d: Value,
        out: Value,
        stride: Value,
    ) -> None:
        total, below = (e.variable(vector(FLOAT, 4 if width == 1 else width)) for _ in range(2))
        with e.loop(blocks) as index:
            block = _block(e, weights, index, size)
            scales = _six_bits(e, block)
            placed = [
                _placed(e, scales, ([a, a, a + 2, a + 2], [a + 1, a + 1, a + 3, a + 3])) for a in (0, 4)
            ]
            q = elements(e, block)
            x = _panel(e, width, index, I8, shuffled, 256)
            zero = e.zero(vector(I32, 16))
            integers = []
            for token in range(width):
                v = [e.dot4(zero, q[i], e.load(x, vector(I8, 64), 256 * token + 64 * i)) for i in range(4)]
                integers.append(_scaled(e, v, placed))

            group = min(width, 4)
            lows = e.shuffle(scales, scales, list(range(8, 16)) * group)
            s = _panel(e, width, index, I16, sums, 8)
            quarters = [
                e.pairs(lows, e.load(s, vector(I16, 8 * group), 16 * token))
                for token in range(0, width, group)
            ]
            if width == 1:
                _add_both(e, total, (integers[0], quarters[0]), e.load(block, vector(HALF, 2)), d, index)
            else:
                scale, lowest = (_float_of_half(e, block, at) for at in (0, 2))
                _add(e, total, _totals(e, integers), _steps(e, width, index, d, scale))
                _add(e, below, _totals_of_quarters(e, quarters), _steps(e, width, index, d, lowest))
        if width == 1:
            both = e.b.load(total)
            result = e.splat(e.b.fsub(e.lane(both, 0), e.lane(both, 2)), 1)
        else:
            result = e.b.fsub(e.b.load(total), e.b.load(below))
        _write(e, result, out, stride)

    return kernel(7, write)


def _q5_elements(e: Emitter, block: Value) -> list[Value]:
    return [
        e.b.or_(low, high) for low, high in zip(_nibbles(e, block, 48), _fifth_bits(e, block), strict=True)
    ]


def _q6_elements(e: Emitter, block: Value) -> list[Value]:
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


def _q6_row(width: int) -> Any:
    """Q6_K: sub-blocks of 16 with an int8 scale each; 32 is zero."""

    def write(
        e: Emitter,
        weights: Value,
        blocks: Value,
        plain: Value,
        sums: Value,
        d: Value,
        out: Value,
        stride: Value,
    ) -> None:
        total = e.variable(vector(FLOAT, width))
        with e.loop(blocks) as index:
            block = _block(e, weights, index, 210)
            scales = e.b.sext(e.load(block, vector(I8, 16), 192), vector(I16, 16))
            placed = [_placed(e, scales, (range(at, at + 4), range(at + 4, at + 8))) for at in (0, 8)]
            offset = e.b.mul(scales, e.every(I16, 16, -32))
            q = _q6_elements(e, block)
            x, s = _panel(e, width, index, I8, plain, 256), _panel(e, width, index, I16, sums, 16)
            zero = e.zero(vector(I32, 16))
            integers = []
            for token in range(width):
                v = [e.dot4(zero, q[i], e.load(x, vector(I8, 64), 256 * token + 64 * i)) for i in range(4)]
                lower = e.pairs(offset, e.load(s, vector(I16, 16), 32 * token))  # (8 x i32)
                lower = e.shuffle(lower, e.zero(lower.type), list(range(16)))
                integers.append(e.b.add(_scaled(e, v, placed), lower))
            _add(e, total, _totals(e, integers), _steps(e, width, index, d, _float_of_half(e, block, 208)))
        _write(e, e.b.load(total), out, stride)

    return kernel(7, write)


def _small_row(size: int, elements: Callable[[Emitter, Value], Value], zero_point: int, width: int) -> Any:
    """Q8_0 or Q4_0: blocks of 32 with a scale; lane i of eight holds the blocks i, i + 8 ... of the row."""

    def write(
        e: Emitter,
        weights: Value,
        blocks: Value,
        plain: Value,
        sums: Value,
        d: Value,
        out: Value,
        stride: Value,
    ) -> None:
        """`blocks` counts those of 32; a group of eight shares a step of the activations."""
        eight = vector(FLOAT, 8)
        totals = [e.variable(eight) for _ in range(width)]
        with e.loop(e.b.lshr(e.b.add(blocks, e.number(7)), e.number(3))) as index:
            first = e.b.shl(index, e.number(3))
            x, s = _panel(e, width, index, I8, plain, 256), _panel(e, width, index, I16, sums, 8)
            integers = [[] for _ in range(width)]  # type: list[list[Value]]
            scales = e.zero(eight)
            for i in range(8):
                there = e.b.icmp_signed("<", e.b.add(first, e.number(i)), blocks)
                at = e.b.select(there, e.b.add(first, e.number(i)), first)  # read again, and worth nothing
                block = _block(e, weights, at, size)
                scale = e.b.select(there, _float_of_half(e, block, 0), FLOAT(0.0))
                scales = e.b.insert_element(scales, scale, I32(i))
                q = elements(e, block)
                for token in range(width):
                    read = e.load(x, vector(I8, 32), 256 * token + 32 * i)
                    integers[token].append(e.dot4(e.zero(vector(I32, 8)), q, read))
            for token in range(width):
                dots = e.zero(vector(I32, 8))
                for i, value in enumerate(integers[token]):
                    dots = e.b.insert_element(dots, e.halves(value, plus=e.b.add), I32(i))
                shift = e.b.sext(e.load(s, vector(I16, 8), 16 * token), vector(I32, 8))
                dots = e.b.sub(dots, e.b.mul(shift, e.every(I32, 8, zero_point)))
                step = e.load(_panel(e, width, index, FLOAT, d, 1), FLOAT, 4 * token)
                _add(e, totals[token], dots, e.b.fmul(scales, e.splat(step, 8)))
        for token in range(width):
            result = e.float_total(e.b.load(totals[token]))
            e.store(result, out, e.b.mul(e.number(4 * token), stride))

    return kernel(7, write)


def _q8_elements(e: Emitter, block: Value) -> Value:
    return e.b.xor(e.load(block, vector(I8, 32), 2), e.every(I8, 32, -128))  # 128 more, without sign


def _q4_0_elements(e: Emitter, block: Value) -> Value:
    both = e.load(block, vector(I8, 16), 2)
    return e.shuffle(e.b.and_(both, e.every(I8, 16, 15)), e.b.lshr(both, e.every(I8, 16, 4)), list(range(32)))


def _by_width(make: Callable[[int], Any]) -> Any:
    """What multiplies a row with a panel of 1, 4 or 8 tokens."""
    one, four, eight = make(1), make(4), make(8)

    @njit(nogil=True)
    def choose(
        width: int, weights: int, blocks: int, x: int, sums: int, d: int, out: int, stride: int
    ) -> None:
        if width == 1:
            one(weights, blocks, x, sums, d, out, stride)
        elif width == 4:
            four(weights, blocks, x, sums, d, out, stride)
        else:
            eight(weights, blocks, x, sums, d, out, stride)

    return choose


q4_k = _by_width(lambda width: _k_row(144, lambda e, block: _nibbles(e, block, 16), width))
q5_k = _by_width(lambda width: _k_row(176, _q5_elements, width))
q6_k = _by_width(_q6_row)
q8_0 = _by_width(lambda width: _small_row(34, _q8_elements, 128, width))
q4_0 = _by_width(lambda width: _small_row(18, _q4_0_elements, 8, width))


@njit(nogil=True)
def row(
    kind: int,
    width: int,
    weights: int,
    blocks: int,
    plain: int,
    shuffled: int,
    halves: int,
    wholes: int,
    d: int,
    out: int,
    stride: int,
) -> None:
    """Multiply one row with a panel, see `products.multiply`."""
    if kind == Q4_K:
        q4_k(width, weights, blocks, shuffled, wholes, d, out, stride)
    elif kind == Q5_K:
        q5_k(width, weights, blocks, shuffled, wholes, d, out, stride)
    elif kind == Q6_K:
        q6_k(width, weights, blocks, plain, halves, d, out, stride)
    elif kind == Q8_0:
        q8_0(width, weights, blocks, plain, wholes, d, out, stride)
    else:
        q4_0(width, weights, blocks, plain, wholes, d, out, stride)

"""Rows of quantized blocks times panels of int8 activations: what is the same on every processor.

The integers of a block are summed exactly, so it does not matter in which lanes; the floats that follow come
in the one order of `q8` (see `products`). A row is multiplied with a panel of 1, 4 or 8 tokens.

`vnni` and `narrow` say how the integers of a block of 256 are computed, by vectors of 64 and of 32 bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import njit

from refute_runtime.backends.simd.emit import FLOAT, HALF, I8, I16, I32, Emitter, Value, kernel, vector

Q4_0, Q8_0, Q4_K, Q5_K, Q6_K = 2, 8, 12, 13, 14  # as GGUF numbers its types
AHEAD = 2048  # bytes: how far ahead of the block under way memory is asked for

Products = Callable[[Any, Value, Value, Value, int], list[Value]]
"""(emitter, block, scales (16 x i16), values, width): of each token, integers (16 or 8 x i32) whose total is
that of the block's elements times the scales of their sub-blocks."""
Row = Any
"""A function of Numba: (kind, width, weights, blocks, plain, shuffled, halves, wholes, d, out, stride)."""


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
    """Of one token, `_add` the elements (16 or 8 x i32) to lane 0 and the minimums (4 x i32) to lane 2."""
    v, m = integers
    v = e.folded(v, 4, plus=e.b.add)
    pairs = e.b.add(e.shuffle(v, m, [0, 1, 4, 5]), e.shuffle(v, m, [2, 3, 6, 7]))
    both = e.b.add(pairs, e.shuffle(pairs, pairs, [1, 0, 3, 2]))
    scales = e.b.fpext(scales, vector(FLOAT, 2))
    step = e.splat(e.load(d, FLOAT, e.b.mul(index, e.number(4))), 4)
    _add(e, totals, both, e.b.fmul(step, e.shuffle(scales, scales, [0, 0, 1, 1])))


def _write(e: Emitter, result: Value, out: Value, stride: Value) -> None:
    for token in range(result.type.count):
        e.store(e.lane(result, token), out, e.b.mul(e.number(4 * token), stride))


def _totals(e: Emitter, v: Sequence[Value]) -> Value:
    """Total of each of 1, 4 or 8 vectors of 16 or 8 x i32: (1, 4 or 8 x i32)."""
    if len(v) == 1:
        return e.splat(e.halves(v[0], plus=e.b.add), 1)
    if len(v) == 4:
        return e.totals4(v, plus=e.b.add)
    x, y = (e.quarters(part, plus=e.b.add) for part in (v[:4], v[4:]))
    n = x.type.count  # the quads of x hold tokens 0 to 3, those of y 4 to 7
    lower, upper = list(range(n // 2)), list(range(n // 2, n))
    z = e.b.add(
        e.shuffle(x, y, lower + [n + i for i in lower]), e.shuffle(x, y, upper + [n + i for i in upper])
    )
    if n == 8:
        return z
    first, second = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    return e.b.add(e.shuffle(z, z, first), e.shuffle(z, z, second))


def _minimums(e: Emitter, scales: Value, sums: Value, width: int) -> Value:
    """Of 4 or 8 tokens, the total of its sums times the last eight of `scales` (16 x i16): (width x i32)."""
    group = e.BYTES // 16  # tokens that one vector holds
    lows = e.shuffle(scales, scales, list(range(8, 16)) * group)
    quads = [
        e.pairs(lows, e.load(sums, vector(I16, 8 * group), 16 * token)) for token in range(0, width, group)
    ]
    if group == 2:
        quads = [e.shuffle(x, y, list(range(16))) for x, y in zip(quads[::2], quads[1::2], strict=True)]
    first, last = quads[0], quads[-1]
    even, odd = ([q * 4 + i for q in range(4) for i in (j, j + 2, 16 + j, 18 + j)] for j in (0, 1))
    both = e.b.add(e.shuffle(first, last, even), e.shuffle(first, last, odd))
    even = [t % 4 * 4 + t // 4 * 2 for t in range(width)]
    return e.b.add(e.shuffle(both, both, even), e.shuffle(both, both, [i + 1 for i in even]))


def _six_bits(e: Emitter, block: Value) -> Value:
    """The eight scales and then the eight minimums of Q4_K and Q5_K: (16 x i16)."""
    b, four = e.b, vector(I32, 4)
    found = e.load(block, four, 4)  # four low halves of scales, of minimums, the rest of both
    low = b.lshr(e.shuffle(found, found, [0, 2, 1, 2]), e.lanes(I32, [0, 0, 0, 4]))
    low = b.and_(low, e.lanes(I32, [0x3F3F3F3F, 0x0F0F0F0F] * 2))
    high = b.lshr(e.shuffle(found, found, [0, 0, 1, 1]), e.every(I32, 4, 2))
    high = b.and_(high, e.lanes(I32, [0, 0x30303030] * 2))
    return b.zext(b.bitcast(b.or_(low, high), vector(I8, 16)), vector(I16, 16))


def _k_row(size: int, products: Products, width: int) -> Callable[..., None]:
    """Q4_K or Q5_K: sub-blocks of 32 with a scale and a minimum each."""

    def write(
        e: Emitter, weights: Value, blocks: Value, x: Value, sums: Value, d: Value, out: Value, stride: Value
    ) -> None:
        total, below = (e.variable(vector(FLOAT, 4 if width == 1 else width)) for _ in range(2))
        with e.loop(blocks) as index:
            block = _block(e, weights, index, size)
            scales = _six_bits(e, block)
            integers = products(e, block, scales, _panel(e, width, index, I8, x, 256), width)
            s = _panel(e, width, index, I16, sums, 8)
            if width == 1:
                lows = e.pairs(e.part(scales, 8, 8), e.load(s, vector(I16, 8)))
                _add_both(e, total, (integers[0], lows), e.load(block, vector(HALF, 2)), d, index)
            else:
                scale, lowest = (_float_of_half(e, block, at) for at in (0, 2))
                _add(e, total, _totals(e, integers), _steps(e, width, index, d, scale))
                _add(e, below, _minimums(e, scales, s, width), _steps(e, width, index, d, lowest))
        if width == 1:
            both = e.b.load(total)
            result = e.splat(e.b.fsub(e.lane(both, 0), e.lane(both, 2)), 1)
        else:
            result = e.b.fsub(e.b.load(total), e.b.load(below))
        _write(e, result, out, stride)

    return write


def _q6_row(products: Products, width: int) -> Callable[..., None]:
    """Q6_K: sub-blocks of 16 with an int8 scale each; 32 is zero."""

    def write(
        e: Emitter, weights: Value, blocks: Value, x: Value, sums: Value, d: Value, out: Value, stride: Value
    ) -> None:
        total = e.variable(vector(FLOAT, width))
        with e.loop(blocks) as index:
            block = _block(e, weights, index, 210)
            scales = e.b.sext(e.load(block, vector(I8, 16), 192), vector(I16, 16))
            offset = e.b.mul(scales, e.every(I16, 16, -32))
            integers = products(e, block, scales, _panel(e, width, index, I8, x, 256), width)
            s = _panel(e, width, index, I16, sums, 16)
            for token, value in enumerate(integers):
                lower = e.pairs(offset, e.load(s, vector(I16, 16), 32 * token))  # (8 x i32)
                lower = e.shuffle(lower, e.zero(lower.type), list(range(value.type.count)))
                integers[token] = e.b.add(value, lower)
            _add(e, total, _totals(e, integers), _steps(e, width, index, d, _float_of_half(e, block, 208)))
        _write(e, e.b.load(total), out, stride)

    return write


def _small_row(size: int, elements: Callable[[Emitter, Value], Value], width: int) -> Callable[..., None]:
    """Q8_0 or Q4_0: blocks of 32 with a scale; lane i of eight holds the blocks i, i + 8 ... of the row."""

    def write(
        e: Emitter, weights: Value, blocks: Value, x: Value, _sums: Value, d: Value, out: Value, stride: Value
    ) -> None:
        """`blocks` counts those of 32; a group of eight shares a step of the activations."""
        eight = vector(FLOAT, 8)
        totals = [e.variable(eight) for _ in range(width)]
        with e.loop(e.b.lshr(e.b.add(blocks, e.number(7)), e.number(3))) as index:
            first = e.b.shl(index, e.number(3))
            values = _panel(e, width, index, I8, x, 256)
            scales, quantized = e.zero(eight), []
            for i in range(8):
                there = e.b.icmp_signed("<", e.b.add(first, e.number(i)), blocks)
                at = e.b.select(there, e.b.add(first, e.number(i)), first)  # read again, and worth nothing
                block = _block(e, weights, at, size)
                scale = e.b.select(there, _float_of_half(e, block, 0), FLOAT(0.0))
                scales = e.b.insert_element(scales, scale, I32(i))
                quantized.append(elements(e, block))
            for token in range(width):
                read = [e.load(values, vector(I8, 32), 256 * token + 32 * i) for i in range(8)]
                integers = [e.signed_dots(*both) for both in zip(quantized, read, strict=True)]
                step = e.load(_panel(e, width, index, FLOAT, d, 1), FLOAT, 4 * token)
                _add(e, totals[token], _totals(e, integers), e.b.fmul(scales, e.splat(step, 8)))
        for token in range(width):
            result = e.float_total(e.b.load(totals[token]))
            e.store(result, out, e.b.mul(e.number(4 * token), stride))

    return write


def _q8_elements(e: Emitter, block: Value) -> Value:
    return e.load(block, vector(I8, 32), 2)


def _q4_0_elements(e: Emitter, block: Value) -> Value:
    both = e.load(block, vector(I8, 16), 2)
    low, high = e.b.and_(both, e.every(I8, 16, 15)), e.b.lshr(both, e.every(I8, 16, 4))
    return e.b.sub(e.shuffle(low, high, list(range(32))), e.every(I8, 32, 8))


def writers(products: Sequence[Products], width: int) -> list[Callable[..., None]]:
    """What writes the kernels of Q4_K, Q5_K, Q6_K, Q8_0 and Q4_0; products: of the first three."""
    k4, k5, k6 = products
    return [
        _k_row(144, k4, width),
        _k_row(176, k5, width),
        _q6_row(k6, width),
        _small_row(34, _q8_elements, width),
        _small_row(18, _q4_0_elements, width),
    ]


def row(instructions: type[Emitter], products: Sequence[Products], *, in_order: bool) -> Row:
    """What multiplies one row with a panel, see `products.multiply`, with these instructions.

    products: of Q4_K, Q5_K and Q6_K; in_order: whether the first two take a panel's values as they come, or
    else in the order of `lanes.SHUFFLED`.
    """

    def by_width(widths: tuple[Callable[..., None], ...]) -> Any:
        one, four, eight = (kernel(7, write, instructions=instructions) for write in widths)

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

    by_kind = zip(*(writers(products, width) for width in (1, 4, 8)), strict=True)
    q4_k, q5_k, q6_k, q8_0, q4_0 = map(by_width, by_kind)

    @njit(nogil=True)
    def multiply(
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
        ordered = plain if in_order else shuffled
        if kind == Q4_K:
            q4_k(width, weights, blocks, ordered, wholes, d, out, stride)
        elif kind == Q5_K:
            q5_k(width, weights, blocks, ordered, wholes, d, out, stride)
        elif kind == Q6_K:
            q6_k(width, weights, blocks, plain, halves, d, out, stride)
        elif kind == Q8_0:
            q8_0(width, weights, blocks, plain, wholes, d, out, stride)
        else:
            q4_0(width, weights, blocks, plain, wholes, d, out, stride)

    return multiply

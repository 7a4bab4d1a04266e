"""Loops over float32 in fixed lanes: the same additions in the same order on every processor.

Arguments are addresses and numbers. LLVM splits a vector that is wider than the processor's; what it adds to
what stays as written here. Counts need not be multiples of the lanes: the rest is added one by one.
"""

import itertools
from collections.abc import Callable, Sequence

from numba.core import types

from refute_runtime.backends.simd.build import processor
from refute_runtime.backends.simd.emit import FLOAT, HALF, I8, I16, I32, Emitter, Value, kernel, vector

LANES = 16
_AHEAD = 64  # rows
_WIDE = vector(FLOAT, LANES)
_TOTALS = processor().totals


def _floats(e: Emitter, base: Value, offset: Value, kind: object) -> Value:
    """Floats at an address: stored as float32, float16 (HALF) or bfloat16 (I16)."""
    value = e.load(base, kind, offset)
    element = getattr(kind, "element", kind)
    if element is FLOAT:
        return value
    lanes = getattr(kind, "count", 0)
    if element is HALF:
        return e.b.fpext(value, vector(FLOAT, lanes) if lanes else FLOAT)
    bits = e.b.zext(value, vector(I32, lanes) if lanes else I32)
    shift = e.every(I32, lanes, 16) if lanes else I32(16)
    return e.b.bitcast(e.b.shl(bits, shift), vector(FLOAT, lanes) if lanes else FLOAT)


def _dot(stored: object, size: int) -> Callable[[Emitter, Value, Value, Value], Value]:
    """Dot product of `count` elements as they are stored with as many float32."""

    def write(e: Emitter, a: Value, b: Value, count: Value) -> Value:
        first, second, rest = e.variable(_WIDE), e.variable(_WIDE), e.variable(FLOAT)
        pairs = e.b.lshr(count, e.number(5))
        with e.loop(pairs) as index:
            at = e.b.shl(index, e.number(5))
            for half, total in ((0, first), (16, second)):
                start = e.b.add(at, e.number(half))
                x = _floats(e, a, e.b.mul(start, e.number(size)), vector(stored, LANES))
                y = e.load(b, _WIDE, e.b.mul(start, e.number(4)))
                e.b.store(e.fma(x, y, e.b.load(total)), total)
        done = e.b.shl(pairs, e.number(5))
        with e.loop(e.b.sub(count, done)) as index:
            at = e.b.add(done, index)
            x = _floats(e, a, e.b.mul(at, e.number(size)), stored)
            y = e.load(b, FLOAT, e.b.mul(at, e.number(4)))
            e.b.store(e.fma(x, y, e.b.load(rest)), rest)
        lanes = e.b.fadd(e.b.load(first), e.b.load(second))
        return e.b.fadd(e.float_total(lanes), e.b.load(rest))

    return write


# (a, b, count) -> float32
dot_f32, dot_f16, dot_bf16 = (
    kernel(3, _dot(stored, size), types.float32) for stored, size in ((FLOAT, 4), (HALF, 2), (I16, 2))
)


def _total_of(e: Emitter, x: Value) -> Value:
    """Total of a vector of 16, in the order of `totals4`."""
    quads = range(0, LANES, 4)
    for order in ((2, 3, 0, 1), (1, 0, 3, 2)):
        x = e.b.fadd(x, e.shuffle(x, x, [q + i for q in quads for i in order]))
    return e.float_total(e.shuffle(x, x, list(quads)))


def _store_totals(e: Emitter, found: Sequence[Sequence[Value]], factor: Value, outs: Sequence[Value]) -> None:
    """Totals of vectors of 16 times a factor, of each list side by side at its address."""
    if len(found[0]) == 4:
        for each, out in zip(found, outs, strict=True):
            e.store(e.b.fmul(e.totals4(each, plus=e.b.fadd), e.splat(factor, 4)), out)
        return
    flat = list(itertools.chain(*found))
    if len(flat) == 4:
        four = e.b.fmul(e.totals4(flat, plus=e.b.fadd), e.splat(factor, 4))
        totals = [e.lane(four, i) for i in range(4)]
    else:
        totals = [e.b.fmul(_total_of(e, value), factor) for value in flat]
    side = len(found[0])
    for i, total in enumerate(totals):
        e.store(total, outs[i // side], 4 * (i % side))


def _scores(heads: int, most: int) -> Callable[..., None]:
    """Scores of `heads` queries that follow one another; a key is read and widened once for all of them.

    most: totals at a time.
    """
    together = min(4, most // heads)  # rows

    def write(
        e: Emitter, keys: Value, stride: Value, count: Value, query: Value, lanes: Value, scale: Value,
        out: Value, apart: Value,
    ) -> None:  # fmt: skip
        factor, steps = e.load(scale, FLOAT), e.b.lshr(lanes, e.number(4))
        queries = [e.b.add(query, e.b.mul(e.b.shl(lanes, e.number(2)), e.number(h))) for h in range(heads)]
        shift = e.number(together.bit_length() - 1)
        whole = e.b.lshr(count, shift)
        done = e.b.shl(whole, shift)
        runs = [(together, e.number(0), whole), (1, done, e.b.sub(count, done))]
        for rows, first, times in runs if together > 1 else runs[:1]:
            totals = [[e.variable(_WIDE) for _ in range(rows)] for _ in range(heads)]
            with e.loop(times) as index:
                row = e.b.add(first, e.b.mul(index, e.number(rows)))
                bases = [e.b.add(keys, e.b.mul(e.b.add(row, e.number(i)), stride)) for i in range(rows)]
                _fetch(e, bases, stride, lanes)
                for total in itertools.chain(*totals):
                    e.b.store(e.zero(_WIDE), total)
                with e.loop(steps) as step:
                    wide, half = e.b.shl(step, e.number(6)), e.b.shl(step, e.number(5))
                    key = [_floats(e, base, half, vector(HALF, LANES)) for base in bases]
                    for mine, of_head in zip(queries, totals, strict=True):
                        q = e.load(mine, _WIDE, wide)
                        for value, total in zip(key, of_head, strict=True):
                            e.b.store(e.fma(q, value, e.b.load(total)), total)
                at = e.b.add(out, e.b.shl(row, e.number(2)))
                outs = [e.b.add(at, e.b.mul(apart, e.number(h))) for h in range(heads)]
                found = [[e.b.load(total) for total in of_head] for of_head in totals]
                _store_totals(e, found, factor, outs)

    return write


# (keys, stride, count, query, lanes, scale, out, apart): dot products of `count` keys in float16, `stride`
# bytes apart, with one query or two, times the float at `scale`. lanes: their size, a multiple of 16. apart:
# bytes from the first query's scores to the second's.
scores, scores_of_two, scores_of_four = (kernel(8, _scores(heads, _TOTALS)) for heads in (1, 2, 4))


def _fetch(e: Emitter, rows: Sequence[Value], stride: Value, lanes: Value) -> None:
    """Ask for rows of float16 far ahead: a processor's own streams end with a page of memory."""
    ahead = e.b.mul(stride, e.number(_AHEAD))
    with e.loop(e.b.lshr(e.b.add(lanes, e.number(31)), e.number(5))) as line:
        at = e.b.add(e.b.shl(line, e.number(6)), ahead)
        for row in rows:
            e.prefetch(e.b.add(row, at), 0)


def _highest(e: Emitter, x: Value, count: Value) -> Value:
    """Largest of `count` >= 1 floats."""
    least = e.same(_WIDE, float("-inf"))
    found, rest = e.variable(_WIDE), e.variable(FLOAT)
    e.b.store(least, found)
    e.b.store(FLOAT(float("-inf")), rest)
    wide = e.b.lshr(count, e.number(4))
    with e.loop(wide) as index:
        value = e.load(x, _WIDE, e.b.shl(index, e.number(6)))
        e.b.store(_larger(e, value, e.b.load(found)), found)
    done = e.b.shl(wide, e.number(4))
    with e.loop(e.b.sub(count, done)) as index:
        value = e.load(x, FLOAT, e.b.shl(e.b.add(done, index), e.number(2)))
        e.b.store(_larger(e, value, e.b.load(rest)), rest)
    lanes = e.halves(e.b.load(found), plus=lambda a, b: _larger(e, a, b))
    return _larger(e, lanes, e.b.load(rest))


def _larger(e: Emitter, a: Value, b: Value) -> Value:
    return e.b.select(e.b.fcmp_ordered(">", a, b), a, b)


highest = kernel(2, _highest, types.float32)  # (x, count)


def _exponentials(e: Emitter, x: Value, count: Value, top: Value) -> Value:
    """Replace `count` floats by e ** (x - top); `top` is an address. Gives their total."""
    total, rest = e.variable(_WIDE), e.variable(FLOAT)
    top = e.load(top, FLOAT)
    wide = e.b.lshr(count, e.number(4))
    with e.loop(wide) as index:
        at = e.b.shl(index, e.number(6))
        value = e.exp(e.b.fsub(e.load(x, _WIDE, at), e.splat(top, LANES)))
        e.store(value, x, at)
        e.b.store(e.b.fadd(e.b.load(total), value), total)
    done = e.b.shl(wide, e.number(4))
    with e.loop(e.b.sub(count, done)) as index:
        at = e.b.shl(e.b.add(done, index), e.number(2))
        value = e.exp(e.b.fsub(e.load(x, FLOAT, at), top))
        e.store(value, x, at)
        e.b.store(e.b.fadd(e.b.load(rest), value), rest)
    return e.b.fadd(e.float_total(e.b.load(total)), e.b.load(rest))


exponentials = kernel(3, _exponentials, types.float32)  # (x, count, top)


def _weigh(heads: int, most: int) -> Callable[..., None]:
    """Weighed sums of the same rows for `heads` heads; a row is read and widened once for all of them.

    most: totals at a time.
    """
    lanes_at_once = LANES * min(8, most // heads)

    def write(
        e: Emitter, rows: Value, stride: Value, count: Value, shares: Value, lanes: Value, out: Value,
        apart: Value, out_apart: Value,
    ) -> None:  # fmt: skip
        weights = [e.b.add(shares, e.b.mul(apart, e.number(h))) for h in range(heads)]
        outs = [e.b.add(out, e.b.mul(out_apart, e.number(h))) for h in range(heads)]
        for size, done, chunks in _chunks(e, lanes, lanes_at_once):
            with e.loop(chunks) as index:
                first = e.b.add(done, e.b.mul(index, e.number(size)))
                start, base = e.b.shl(first, e.number(2)), e.b.add(rows, e.b.shl(first, e.number(1)))
                kinds = [(_WIDE, vector(HALF, LANES))] * (size // LANES) or [(FLOAT, HALF)]
                totals = [[e.variable(kind) for kind, _ in kinds] for _ in range(heads)]
                for (kind, _), total in itertools.chain(*(zip(kinds, each, strict=True) for each in totals)):
                    e.b.store(e.zero(kind), total)  # a loop inside a loop begins anew
                with e.loop(count) as row:
                    at = e.b.mul(row, stride)
                    _fetch(e, [e.b.add(base, at)], stride, e.number(size))
                    values = [
                        _floats(e, base, e.b.add(at, e.number(32 * i)), stored)
                        for i, (_, stored) in enumerate(kinds)
                    ]
                    for weight, of_head in zip(weights, totals, strict=True):
                        share = e.load(weight, FLOAT, e.b.shl(row, e.number(2)))
                        wide = share if size == 1 else e.splat(share, LANES)
                        for value, total in zip(values, of_head, strict=True):
                            e.b.store(e.fma(wide, value, e.b.load(total)), total)
                for to, of_head in zip(outs, totals, strict=True):
                    for i, total in enumerate(of_head):
                        e.store(e.b.load(total), to, e.b.add(start, e.number(64 * i)))

    return write


def _chunks(e: Emitter, lanes: Value, most: int) -> list[tuple[int, Value, Value]]:
    """Cut a row into chunks of `most`, a power of two, 16 and 1: (size, where they begin, how many)."""
    found, done = [], e.number(0)
    for size, shift in {most: most.bit_length() - 1, 16: 4, 1: 0}.items():
        chunks = e.b.lshr(e.b.sub(lanes, done), e.number(shift))
        found.append((size, done, chunks))
        done = e.b.add(done, e.b.shl(chunks, e.number(shift)))
    return found


# (rows, stride, count, shares, lanes, out, apart, out_apart): sum of share * row over `count` rows in
# float16, `stride` bytes apart, row by row: `lanes` floats to out. apart, out_apart: bytes from the shares
# and the sum of the first head to those of the second.
weigh, weigh_of_two, weigh_of_four = (kernel(8, _weigh(heads, _TOTALS)) for heads in (1, 2, 4))


def _round_block(
    e: Emitter, x: Value, q: Value, shuffled: Value, halves: Value, wholes: Value, step: Value
) -> None:
    """Round 256 floats to int8: at `q` in order, at `shuffled` its sub-blocks of 32 in that of `SHUFFLED`.

    Also written: the sums of 16 and of 32 of these as int16, and the float that one of them is worth.
    """
    b, integers = e.b, vector(I32, LANES)
    top = e.variable(integers)
    with e.loop(e.number(16)) as index:
        bits = e.load(x, integers, b.shl(index, e.number(6)))
        bits = b.and_(bits, e.every(I32, LANES, 0x7FFFFFFF))  # floats without sign: as integers, in order
        found = b.load(top)
        b.store(b.select(b.icmp_signed(">", bits, found), bits, found), top)
    largest = e.halves(b.load(top), plus=lambda a, c: b.select(b.icmp_signed(">", a, c), a, c))
    sound = b.icmp_signed("<", largest, I32(0x7F800000))
    largest = b.bitcast(largest, FLOAT)
    counts = b.and_(sound, b.fcmp_ordered(">=", largest, FLOAT(SMALLEST)))
    nothing = FLOAT(0.0)
    inverse = e.splat(b.select(counts, b.fdiv(FLOAT(127.0), largest), nothing), LANES)
    worth = b.select(counts, b.fdiv(largest, FLOAT(127.0)), nothing)
    e.store(b.select(sound, worth, FLOAT(float("nan"))), step)
    for part in range(4):
        rounded = []
        for i in range(4):
            value = b.fmul(e.load(x, _WIDE, 256 * part + 64 * i), inverse)
            value = b.select(b.fcmp_ordered("ord", value, value), value, e.zero(_WIDE))
            value = e.call(e.of_kind("rint", _WIDE), _WIDE, [_WIDE], value)
            rounded.append(b.fptosi(value, integers))
            small = b.trunc(rounded[-1], vector(I8, LANES))
            e.store(small, q, 64 * part + 16 * i)
            e.store(small, shuffled, 32 * SHUFFLED.index(2 * part + i // 2) + 16 * (i % 2))
        sums = e.totals4(rounded, plus=b.add)
        e.store(b.trunc(sums, vector(I16, 4)), halves, 8 * part)
        pairs = b.add(e.shuffle(sums, sums, [0, 2]), e.shuffle(sums, sums, [1, 3]))
        e.store(b.trunc(pairs, vector(I16, 2)), wholes, 4 * part)


SHUFFLED = (0, 2, 1, 3, 4, 6, 5, 7)  # sub-blocks of Q4_K as the nibbles of 64 bytes lie
SMALLEST = 2.0**-100  # a block with nothing larger is rounded to zero: 127 / max|x| would overflow
round_block = kernel(6, _round_block)  # (x, q, shuffled, halves, wholes, step)


def _swiglu(e: Emitter, gate: Value, up: Value, count: Value) -> None:
    """Replace `count` floats of the gate by silu(gate) * up."""
    wide = e.b.lshr(count, e.number(4))
    done = e.b.shl(wide, e.number(4))
    for kind, first, times in ((_WIDE, e.number(0), wide), (FLOAT, done, e.b.sub(count, done))):
        shift = e.number(6 if kind is _WIDE else 2)
        with e.loop(times) as index:
            at = e.b.add(e.b.shl(first, e.number(2)), e.b.shl(index, shift))
            g = e.load(gate, kind, at)
            below = e.b.fadd(e.same(kind, 1.0), e.exp(e.b.fneg(g)))
            e.store(e.b.fmul(e.b.fdiv(g, below), e.load(up, kind, at)), gate, at)


swiglu = kernel(3, _swiglu)  # (gate, up, count)

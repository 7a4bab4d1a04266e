"""Writes vector instructions into the functions that Numba compiles.

Numba's own types have no vectors, and LLVM does not find the dot products of quantized blocks by itself.
An intrinsic of ours is a Python function that is handed the addresses its caller computed and writes LLVM
IR; Python's loops over tokens unroll it. A vector is written as its element type and its lanes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT = ir.HalfType(), ir.FloatType()

# float32 constants of `exp`: ln 2 in a part with few bits, so that n times it is exact, and the rest
LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950216293335, 0.693359375, -2.1219444170128554e-04
EXP = (  # float32 values nearest to Cephes' coefficients of r ** 7 down to r ** 2
    0.00019875691214110702,
    0.0013981999363750219,
    0.008333452045917511,
    0.041665799915790558,
    0.16666665673255920,
    0.50000000000000000,
)

Value = Any  # an llvmlite value; the package has no types


def vector(element: Any, lanes: int) -> Any:
    """Type of a vector."""
    return ir.VectorType(element, lanes)


class Emitter:
    """An LLVM builder with the operations that rows of blocks are multiplied with."""

    BYTES = 32  # of a vector, where that is the processor's choice

    def __init__(self, builder: Value) -> None:
        self.b = builder

    # -- memory ------------------------------------------------------------------------------------

    def pointer(self, address: Value, offset: Value, kind: Any) -> Value:
        """Pointer to `offset` bytes behind an address (an int64); offset is a value or a number."""
        base = self.b.inttoptr(address, I8.as_pointer())
        if isinstance(offset, int):
            offset = ir.Constant(I64, offset)
        return self.b.bitcast(self.b.gep(base, [offset]), kind.as_pointer())

    def load(self, address: Value, kind: Any, offset: Value = 0) -> Value:
        value = self.b.load(self.pointer(address, offset, kind))
        value.align = 1  # blocks lie where the file has them
        return value

    def store(self, value: Value, address: Value, offset: Value = 0) -> None:
        instruction = self.b.store(value, self.pointer(address, offset, value.type))
        instruction.align = 1

    def prefetch(self, address: Value, offset: int) -> None:
        """Ask for the line of the cache `offset` bytes ahead."""
        kinds = [I8.as_pointer(), I32, I32, I32]
        read, keep, data = (ir.Constant(I32, number) for number in (0, 3, 1))
        self.call(
            "llvm.prefetch.p0", ir.VoidType(), kinds, self.pointer(address, offset, I8), read, keep, data
        )

    # -- control -----------------------------------------------------------------------------------

    def variable(self, kind: Any) -> Value:
        """A variable that begins at zero."""
        return cgutils.alloca_once_value(self.b, ir.Constant(kind, None))

    @contextmanager
    def loop(self, count: Value) -> Iterator[Value]:
        """Repeat what is written inside; gives the index."""
        with cgutils.for_range(self.b, count) as step:
            yield step.index

    # -- constants and shapes ----------------------------------------------------------------------

    def number(self, value: int) -> Value:
        return ir.Constant(I64, value)

    def zero(self, kind: Any) -> Value:
        return ir.Constant(kind, None)

    def every(self, element: Any, lanes: int, value: float) -> Value:
        """A constant in all lanes."""
        return ir.Constant(vector(element, lanes), [ir.Constant(element, value)] * lanes)

    def lanes(self, element: Any, values: Sequence[int]) -> Value:
        """A constant with these lanes."""
        return ir.Constant(vector(element, len(values)), [ir.Constant(element, value) for value in values])

    def splat(self, value: Value, lanes: int) -> Value:
        """A value in all lanes."""
        one = self.b.insert_element(
            ir.Constant(vector(value.type, lanes), ir.Undefined), value, ir.Constant(I32, 0)
        )
        return self.shuffle(one, one, [0] * lanes)

    def shuffle(self, first: Value, second: Value, order: Sequence[int]) -> Value:
        """Lanes of two vectors, those of the second counted on from the first's, in this order."""
        return self.b.shuffle_vector(first, second, self.lanes(I32, order))

    def part(self, value: Value, start: int, lanes: int) -> Value:
        return self.shuffle(value, value, list(range(start, start + lanes)))

    def lane(self, value: Value, index: int) -> Value:
        return self.b.extract_element(value, ir.Constant(I32, index))

    # -- arithmetic --------------------------------------------------------------------------------

    def call(self, name: str, result: Any, kinds: Sequence[Any], *arguments: Value) -> Value:
        """Call an intrinsic of LLVM."""
        function = self.b.module.globals.get(name)
        if function is None:
            function = ir.Function(self.b.module, ir.FunctionType(result, kinds), name)
        return self.b.call(function, arguments)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Multiply and add, rounded once: a * b + c of floats or vectors of floats."""
        return self.call(self.of_kind("fma", a.type), a.type, [a.type] * 3, a, b, c)

    def halves(self, value: Value, *, plus: Callable[[Value, Value], Value]) -> Value:
        """Fold a vector's upper half onto its lower one until one lane is left; that lane."""
        return self.lane(self.folded(value, 1, plus=plus), 0)

    def float_total(self, value: Value) -> Value:
        return self.halves(value, plus=self.b.fadd)

    def quarters(self, v: Sequence[Value], *, plus: Callable[[Value, Value], Value]) -> Value:
        """Four vectors of 16 or 8 lanes to one: lane 4 i + t has the sum of lanes 4 i to 4 i + 3 of vector t.

        The sum is (0 + 2) + (1 + 3) of these lanes.
        """
        n = v[0].type.count

        def fold(x: Value, y: Value, low: Sequence[int], high: Sequence[int]) -> Value:
            orders = ([q + i for q in range(0, n, 4) for i in part] for part in (low, high))
            return plus(*(self.shuffle(x, y, order) for order in orders))

        ab, cd = (fold(x, y, (0, n, 1, n + 1), (2, n + 2, 3, n + 3)) for x, y in (v[:2], v[2:]))
        return fold(ab, cd, (0, 1, n, n + 1), (2, 3, n + 2, n + 3))

    def totals4(self, v: Sequence[Value], *, plus: Callable[[Value, Value], Value]) -> Value:
        """Totals of four vectors of 16 or 8 lanes: a vector of four."""
        return self.folded(self.quarters(v, plus=plus), 4, plus=plus)

    def folded(self, value: Value, lanes: int, *, plus: Callable[[Value, Value], Value]) -> Value:
        """Fold a vector's upper half onto its lower one until so many lanes are left."""
        while value.type.count > lanes:
            half = value.type.count // 2
            value = plus(self.part(value, 0, half), self.part(value, half, half))
        return value

    def same(self, kind: Any, value: float) -> Value:
        """A constant float, in all lanes where `kind` is a vector."""
        if isinstance(kind, ir.VectorType):
            return self.every(FLOAT, kind.count, value)
        return ir.Constant(FLOAT, value)

    def of_kind(self, name: str, kind: Any) -> str:
        """An LLVM intrinsic's name for floats or vectors of floats."""
        return f"llvm.{name}.v{kind.count}f32" if isinstance(kind, ir.VectorType) else f"llvm.{name}.f32"

    def exp(self, x: Value) -> Value:
        """Exponential within 2 ulp, of floats or vectors; from -87 to 88, and what is beyond as these.

        x is n ln 2 + r, and e ** r is Cephes' polynomial. One form for every processor: a library's exp
        differs between versions and vector widths, and tokens would with it.
        """
        kind, b = x.type, self.b
        integer = vector(I32, kind.count) if isinstance(kind, ir.VectorType) else I32

        def whole(number: int) -> Value:
            return ir.Constant(integer, number if integer is I32 else [number] * kind.count)

        top, bottom = self.same(kind, 88.0), self.same(kind, -87.0)
        y = b.select(b.fcmp_ordered(">", x, top), top, x)
        y = b.select(b.fcmp_ordered("<", y, bottom), bottom, y)
        n = self.call(self.of_kind("rint", kind), kind, [kind], b.fmul(y, self.same(kind, LOG2_E)))
        r = self.fma(n, self.same(kind, -LN2_HIGH), y)
        r = self.fma(n, self.same(kind, -LN2_LOW), r)
        p = self.same(kind, EXP[0])
        for coefficient in EXP[1:]:
            p = self.fma(p, r, self.same(kind, coefficient))
        p = b.fadd(self.fma(p, b.fmul(r, r), r), self.same(kind, 1.0))
        power = b.shl(b.add(b.fptosi(n, integer), whole(127)), whole(23))
        p = b.fmul(p, b.bitcast(power, kind))
        return b.select(b.fcmp_unordered("uno", x, x), x, p)  # what is no number stays so

    # -- integers: what a kind of processor has an instruction for, it does by that ----------------

    def byte_pairs(self, unsigned: Value, signed: Value) -> Value:
        """Products of bytes, added by pairs: (2 n x i8) to (n x i16), which must hold them."""
        words = vector(I16, unsigned.type.count)
        return self._neighbours(self.b.mul(self.b.zext(unsigned, words), self.b.sext(signed, words)))

    def signed_pairs(self, a: Value, b: Value) -> Value:
        """The same where both have a sign; b is never -128."""
        words = vector(I16, a.type.count)
        return self._neighbours(self.b.mul(self.b.sext(a, words), self.b.sext(b, words)))

    def signed_dots(self, a: Value, b: Value) -> Value:
        """Of the same bytes, products added by fours: (4 n x i8) to (n x i32)."""
        return self.pairs(self.signed_pairs(a, b), self.every(I16, a.type.count // 2, 1))

    def pairs(self, a: Value, b: Value) -> Value:
        """Products of int16, added by pairs: (2 n x i16) to (n x i32)."""
        wide = vector(I32, a.type.count)
        return self._neighbours(self.b.mul(self.b.sext(a, wide), self.b.sext(b, wide)))

    def _neighbours(self, value: Value) -> Value:
        lanes = value.type.count
        even, odd = (self.shuffle(value, value, list(range(start, lanes, 2))) for start in (0, 1))
        return self.b.add(even, odd)


def kernel(
    arguments: int,
    write: Callable[..., Value | None],
    result: Any = types.void,
    instructions: type[Emitter] = Emitter,
) -> Any:
    """An intrinsic of so many int64, addresses or numbers, whose body `write(emitter, *them)` writes."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        value = write(instructions(builder), *values)
        return context.get_dummy_value() if value is None else value

    # Numba reads their number off the function, and takes no star
    found = result(*[types.int64] * arguments), codegen
    return intrinsic(
        {
            2: lambda _typing, _a, _b: found,
            3: lambda _typing, _a, _b, _c: found,
            6: lambda _typing, _a, _b, _c, _d, _e, _f: found,
            7: lambda _typing, _a, _b, _c, _d, _e, _f, _g: found,
            8: lambda _typing, _a, _b, _c, _d, _e, _f, _g, _h: found,
        }[arguments]
    )

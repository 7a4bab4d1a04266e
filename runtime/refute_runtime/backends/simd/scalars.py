"""Scalars in memory, and the arithmetic that Numba does not spell: one rounding, one exponential."""

from collections.abc import Sequence
from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic

from refute_runtime.backends.simd.emit import FLOAT, HALF, I8, I16, I32, I64, Emitter, Value


@intrinsic
def address(typing: Any, array: Any) -> Any:  # noqa: ARG001
    """Address of an array's first element, as an int64. Whoever uses it keeps the array."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=values[0]).data
        return builder.ptrtoint(data, I64)

    return types.int64(array), codegen


def _loader(kind: Any, result: Any, widen: Any) -> Any:
    @intrinsic
    def load(typing: Any, base: Any, index: Any) -> Any:  # noqa: ARG001
        def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
            emitter = Emitter(builder)
            size = {I8: 1, I16: 2, HALF: 2, I32: 4, FLOAT: 4}[kind]
            return widen(builder, emitter.load(values[0], kind, builder.mul(values[1], emitter.number(size))))

        return result(types.int64, types.int64), codegen

    return load


# the element `index` behind an address, wherever it lies
load_u8 = _loader(I8, types.int32, lambda b, value: b.zext(value, I32))
load_i8 = _loader(I8, types.int32, lambda b, value: b.sext(value, I32))
load_i16 = _loader(I16, types.int32, lambda b, value: b.sext(value, I32))
load_half = _loader(HALF, types.float32, lambda b, value: b.fpext(value, FLOAT))
load_float = _loader(FLOAT, types.float32, lambda _, value: value)


@intrinsic
def store_float(typing: Any, base: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Write a float32 as element `index` behind an address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        emitter = Emitter(builder)
        emitter.store(values[2], values[0], builder.mul(values[1], emitter.number(4)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def store_half(typing: Any, base: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Write a float32, rounded to float16, as element `index` behind an address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        emitter = Emitter(builder)
        half = builder.fptrunc(values[2], HALF)
        emitter.store(half, values[0], builder.mul(values[1], emitter.number(2)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.float32), codegen


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001
    """Multiply and add, rounded once: a * b + c of float32."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        return Emitter(builder).fma(*values)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def exp(typing: Any, x: Any) -> Any:  # noqa: ARG001
    """Exponential of a float32, see `Emitter.exp`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        return Emitter(builder).exp(values[0])

    return types.float32(types.float32), codegen


@intrinsic
def prefetch(typing: Any, base: Any, offset: Any) -> Any:  # noqa: ARG001
    """Ask for the line of the cache `offset` bytes behind an address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:  # noqa: ARG001
        emitter = Emitter(builder)
        emitter.prefetch(builder.add(values[0], values[1]), 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen

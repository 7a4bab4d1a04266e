"""How fast memory can be read here: what a kernel that reads every weight once is held against.

A plain sum leaves it to the processor to read ahead; asking for lines two kilobytes ahead is what kernels do
that stream weights.
"""

import time
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_PAGE = 256  # int64 in 2 KiB
_LINE = 8  # int64 in a line of the cache
_AHEAD = 256  # int64 in 2 KiB


@intrinsic  # type: ignore[misc]
def _prefetch(_typing: Any, data: Any, index: Any) -> Any:
    """Ask for the line that holds data[index]; beyond the end it does nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        byte = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte.type], kind)
        # for reading, to keep in all levels, of data
        builder.call(function, [byte, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(data, index), generate


@numba.njit(nogil=True)  # type: ignore[misc]
def _plain(data: np.ndarray) -> int:
    total = 0
    for value in data:
        total += value
    return total


@numba.njit(nogil=True)  # type: ignore[misc]
def _ahead(data: np.ndarray) -> int:
    total = 0
    for page in range(len(data) // _PAGE):
        start = page * _PAGE
        for line in range(0, _PAGE, _LINE):
            _prefetch(data, start + line + _AHEAD)
        for value in data[start : start + _PAGE]:
            total += value
    return total


@numba.njit(parallel=True)  # type: ignore[misc]
def _plain_by(data: np.ndarray, pieces: int) -> int:
    each = len(data) // pieces
    total = 0
    for piece in numba.prange(pieces):
        total += _plain(data[piece * each : (piece + 1) * each])
    return total


@numba.njit(parallel=True)  # type: ignore[misc]
def _ahead_by(data: np.ndarray, pieces: int) -> int:
    each = len(data) // pieces
    total = 0
    for piece in numba.prange(pieces):
        total += _ahead(data[piece * each : (piece + 1) * each])
    return total


def measured(data: np.ndarray, passes: int) -> dict[str, float]:
    """Bytes per second of each way, the best of so many passes."""
    found = {}
    cores = max(1, min(2, numba.config.NUMBA_NUM_THREADS))
    for threads in range(1, cores + 1):
        for name, kernel in (("plain", _plain_by), ("prefetch", _ahead_by)):
            kernel(data[: _PAGE * threads], threads)  # compiles
            taken = []
            for _ in range(passes):
                start = time.perf_counter()
                total = kernel(data, threads)
                taken.append(time.perf_counter() - start)
                assert total, "the data are ones"
            found[f"{name}-{threads}"] = data.nbytes / min(taken)
    return found


@numba.njit  # type: ignore[misc]
def _chain(count: int, factor: int) -> int:
    """Each step waits for the one before: a multiplication, three cycles, and an exclusive or, one."""
    value = np.uint64(count)
    for _ in range(count):
        value = (value * factor) ^ factor
    return value


def clock() -> float:
    """Cycles per second of a core that is busy, by instructions whose latency is known."""
    count, steps, factor = 20_000_000, 4, np.uint64(6364136223846793005)
    _chain(count, factor)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        _chain(count, factor)
        taken.append(time.perf_counter() - start)
    return count * steps / min(taken)

"""The kernels of one decoded token, few to a layer: see `launches`, which is for any number of tokens.

What changes from token to token lies in device memory (`launches.TOKEN` and what follows), so a graph that
recorded these launches computes every token up to the number of rows that its splits cover. Counters are
int32, zero before the first launch; kernels leave them so.

A layer: `norm_multiply` (queries, keys and values), `attend_token`, `multiply_add` (the output projection),
then with experts `route_one`, `gate_up`, `down_add`; without, `launches.rms_norm`, `gate_up`, `down_add`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refute_runtime.backends.blocks import BLOCK
from refute_runtime.backends.gpu import launches
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.launches import HEADS_AT_ONCE, LENGTH, NOTHING, Before, Heads
from refute_runtime.backends.gpu.layouts import Matrix, Rounded

MOST_COLUMNS = 16384  # activations that a block of threads has room for
BLOCKS_OF_THREADS = 264  # two to each multiprocessor of an H100 or H200; other devices have fewer of them
_MERGED = 16  # splits that the last block of threads merges; more are merged by a kernel of their own


@dataclass(frozen=True, slots=True)
class Attention:
    """Room of attention for up to S splits: sums (N, S, 2), parts (N, S, D), int32 counters (groups,)."""

    splits: int
    sums: int
    parts: int
    counters: int


def groups(of: Heads) -> int:
    """Groups of query heads that a block of threads computes: so many counters."""
    return of.G * -(-of.N // of.G // HEADS_AT_ONCE)


def norm_multiply(
    device: Device, x: int, weight: int, eps: float, matrices: Sequence[Matrix], out: int
) -> None:
    """RMSNorm of x (C,) times one to three matrices: their totals one after the other in out."""
    columns = {matrix.columns for matrix in matrices}
    if not 1 <= len(matrices) <= 3 or len(columns) != 1 or min(columns) > MOST_COLUMNS:
        raise ValueError(
            f"{len(matrices)} matrices of {sorted(columns)} columns, expected up to 3 of the same"
        )
    given: list[int] = []
    for matrix in matrices:
        given += (matrix.kind.value, matrix.address, matrix.row_bytes, matrix.rows)
    given += [0] * (12 - len(given))
    units = sum(matrix.rows if matrix.floats else -(-matrix.rows // 4) for matrix in matrices)
    grid = (min(BLOCKS_OF_THREADS, units), 1, 1)
    arguments: list[int | np.float32] = [x, weight, np.float32(eps), min(columns), *given, out]
    device.launch("norm_multiply", grid, (256, 1, 1), arguments)


def multiply_add(
    device: Device, matrix: Matrix, x: int, out: int, *, rounded: Rounded = NOTHING, floats: int = 0
) -> None:
    """Add to x (rows,) the matrix times a rounded row, or floats (C,) as it reads: out, which may be x."""
    launches.check_read(matrix, rounded, floats)
    _fits(1, matrix)
    grid = (-(-matrix.rows // (2 if matrix.floats else 8)), 1, 1)
    arguments = (
        matrix.kind.value, matrix.address, matrix.row_bytes, matrix.rows, matrix.columns,
        rounded.q, rounded.d, rounded.sums, floats, x, out,
    )  # fmt: skip
    device.launch("multiply_add", grid, (64, 1, 1), arguments)


def attend_token(
    device: Device,
    both: int,
    of: Heads,
    weights: tuple[int, int],
    tables: tuple[int, int],
    eps: float,
    state: int,
    cache: tuple[int, int],
    room: Attention,
    out: int,
    rounded: Rounded = NOTHING,
) -> None:
    """Attention of the token at `state` from its projections `both` ((N + 2 G) D,): out (N D,), and rounded.

    weights: of the norms of q and k. tables: cosine and sine (., D / 2) by position. cache: keys and values
    (., G, D) float16, where row LENGTH is written.
    """
    launches.check_rounded(rounded, of.N * of.D)
    P = of.N // of.G
    sizes = {min(P, HEADS_AT_ONCE) * of.D, P * of.D, P % HEADS_AT_ONCE * of.D}
    merged = room.splits <= _MERGED and not (rounded.q and any(size % BLOCK for size in sizes))
    to = rounded if merged else NOTHING
    arguments = (
        both, of.N, of.G, of.D, *weights, *tables, np.float32(eps), np.float32(of.D**-0.5), state, *cache,
        room.sums, room.parts, room.counters if merged else 0, out, to.q, to.d, to.sums,
    )  # fmt: skip
    device.launch("attend_token", (room.splits, groups(of), 1), (256, 1, 1), arguments)
    if not merged:
        before = Before(address=state + 8 * LENGTH)
        launches.merge(device, 1, of, before, room.splits, room.sums, room.parts, out, rounded)


def route_one(
    device: Device,
    x: int,
    weight: int,
    eps: float,
    router: Matrix,
    K: int,
    logits: int,
    chosen: int,
    shares: int,
    gaps: int,
    counters: int,
    *,
    normed: int = 0,
    rounded: Rounded = NOTHING,
) -> None:
    """RMSNorm of x (H,), into normed and rounded, each where given, and its experts by the router (E, H).

    logits (E,) and one counter: room. chosen (K,) int64, shares (K,), gaps (1,).
    """
    launches.check_experts(router.rows, K)
    if not router.floats:
        raise ValueError(f"a router of {router.kind.name}, expected F32, F16 or BF16")
    launches.check_rounded(rounded, router.columns)
    arguments = (
        x, weight, np.float32(eps), router.columns, router.kind.value, router.address, router.row_bytes, K,
        logits, chosen, shares, gaps, normed, rounded.q, rounded.d, rounded.sums, counters,
    )  # fmt: skip
    device.launch("route_one", (router.rows, 1, 1), (32, 1, 1), arguments)


def gate_up(
    device: Device,
    gate: Matrix,
    up: Matrix,
    K: int,
    h: int,
    counters: int,
    *,
    chosen: int = 0,
    rounded: Rounded = NOTHING,
    floats: int = 0,
    to: Rounded = NOTHING,
) -> None:
    """SwiGLU of K chosen experts, of a rounded row or floats (C,), as they are read: h (K, F), and rounded.

    chosen (K,) int64, 0 for the only matrices there are. counters: K * ceil(F / 256).
    """
    for matrix in (gate, up):
        launches.check_read(matrix, rounded, floats)
        _fits(1, matrix)
    if (gate.rows, gate.columns) != (up.rows, up.columns) or (to.q and to.columns != gate.rows):
        raise ValueError(f"gate of {gate.rows} rows, up of {up.rows}, rounded rows of {to.columns} columns")
    rows = 2 if gate.floats or up.floats else 8
    arguments = (
        gate.kind.value, gate.address, gate.row_bytes, up.kind.value, up.address, up.row_bytes, gate.rows,
        gate.columns, rounded.q, rounded.d, rounded.sums, floats, chosen, h, to.q, to.d, to.sums, counters,
    )  # fmt: skip
    device.launch("gate_up", (-(-gate.rows // rows), K, 1), (64, 1, 1), arguments)


def down_add(
    device: Device,
    down: Matrix,
    K: int,
    x: int,
    out: int,
    *,
    chosen: int = 0,
    shares: int = 0,
    rounded: Rounded = NOTHING,
    floats: int = 0,
) -> None:
    """Add to x (H,) the sum of shares (K,) times experts' results, of K rounded rows or floats (K, F): out.

    chosen, shares: 0 for the only matrix there is, whose result is added as it is.
    """
    launches.check_read(down, rounded, floats)
    _fits(K, down)
    if K > 1 and not (chosen and shares):
        raise ValueError(f"{K} results without experts or shares, expected both")
    arguments = (
        down.kind.value, down.address, down.row_bytes, down.rows, down.columns, rounded.q, rounded.d,
        rounded.sums, floats, chosen, shares, K, x, out,
    )  # fmt: skip
    device.launch("down_add", (-(-down.rows // 4), 1, 1), (128, 1, 1), arguments)


def _fits(rows: int, matrix: Matrix) -> None:
    columns = rows * -(-matrix.columns // BLOCK) * BLOCK
    if not matrix.floats and columns > MOST_COLUMNS:
        raise ValueError(f"{rows} rows of {matrix.columns} activations, expected {MOST_COLUMNS} at most")

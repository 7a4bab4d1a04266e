"""One function per kernel: what it is given, checked, and how many blocks of threads it wants.

Arrays are addresses in device memory, 0 for none; the kernels' comments say what is in them. Letters as in
`backends/base.py`, F the width of an expert or a feed-forward.
"""

from dataclasses import dataclass

import numpy as np

from refute_runtime.backends.blocks import BLOCK, SPLIT
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.layouts import Matrix, Rounded

STATE = 4  # int64 that say what is decoded: the places of these four
TOKEN, POSITION, LENGTH, STEP = range(STATE)
ENTRY = 4  # int64 of an entry of the ring that `choose` writes
TILE, WIDE_TILE = 8, 32  # choices of one expert that are computed together, and by tensor cores
_WARPS = 4  # of a block that multiplies
_MANY = 12  # tokens from which on tensor cores are worth it: a tile of theirs is computed whole
_QUERIES = 4  # tokens that read a split together
HEADS_AT_ONCE = 8  # query heads of one kv head that are computed together
NOTHING = Rounded(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Before:
    """How many rows of the cache lie before the first of the new tokens.

    address: of an int64 on the device; where it is 0 the number is `rows`, which is below 0 where a cache
    lost rows of the tokens themselves.
    """

    rows: int = 0
    address: int = 0


@dataclass(frozen=True, slots=True)
class Heads:
    """N query heads, G kv heads, of size D."""

    N: int
    G: int
    D: int

    def __post_init__(self) -> None:
        """Refuse what the kernels cannot do."""
        if self.D % 16 or not 16 <= self.D <= 256:
            raise ValueError(f"heads of {self.D} elements, expected a multiple of 16 up to 256")
        if self.G < 1 or self.N % self.G:
            raise ValueError(f"{self.N} query heads for {self.G} kv heads, expected a multiple")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Choices by expert, int64 at: counts (E,), order (T * K,), tiles (most_tiles, 3), their number.

    tile: choices of a tile, TILE or, for tensor cores, WIDE_TILE; matrices of floats have TILE only.
    """

    counts: int
    order: int
    tiles: int
    tile_count: int
    tile: int = TILE


def embed(device: Device, table: Matrix, tokens: int, T: int, out: int) -> None:
    """Rows of the embedding by the ids at `tokens` (T,) int64: out (T, H)."""
    device.launch(
        "embed", (T, 1, 1), (256, 1, 1),
        (table.kind.value, table.address, table.row_bytes, table.columns, tokens, out),
    )  # fmt: skip


def rms_norm(
    device: Device, x: int, weight: int, eps: float, T: int, H: int, out: int = 0, rounded: Rounded = NOTHING
) -> None:
    """RMSNorm of x (T, H) into out (T, H), and rounded, each where it is given."""
    check_rounded(rounded, H)
    arguments = (x, weight, np.float32(eps), H, out, rounded.q, rounded.d, rounded.sums)
    device.launch("rms_norm", (T, 1, 1), (256, 1, 1), arguments)


def round_rows(device: Device, x: int, T: int, rounded: Rounded) -> None:
    """Round x (T, C)."""
    C = rounded.columns
    grid = (-(-T * _blocks(C) // 8), 1, 1)
    device.launch("round_rows", grid, (256, 1, 1), (x, T, C, rounded.q, rounded.d, rounded.sums))


def swiglu(
    device: Device,
    gate: int,
    up: int,
    stride: int,
    T: int,
    F: int,
    out: int = 0,
    rounded: Rounded = NOTHING,
) -> None:
    """silu(gate) * up of rows of F, `stride` floats apart, into out (T, F), and rounded, each where given."""
    check_rounded(rounded, F)
    grid = (-(-T * _blocks(F) // 8), 1, 1)
    arguments = (gate, up, stride, T, F, out, rounded.q, rounded.d, rounded.sums)
    device.launch("swiglu", grid, (256, 1, 1), arguments)


def add(device: Device, x: int, y: int, count: int, out: int) -> None:
    """Add `count` floats: x + y, into out, which may be either."""
    device.launch("add", (-(-count // 256), 1, 1), (256, 1, 1), (x, y, count, out))


def multiply(
    device: Device,
    matrix: Matrix,
    T: int,
    out: int,
    *,
    rounded: Rounded = NOTHING,
    x: int = 0,
    stride: int = 0,
    column: int = 0,
) -> None:
    """Multiply T tokens, `rounded` for blocks, x (T, columns) for floats: out (T, stride) from `column` on.

    stride: 0 for the matrix's rows.
    """
    check_read(matrix, rounded, x)
    if T >= _MANY and not matrix.floats:
        tiled = (*_stored(matrix), *_rounded(rounded), T, out, stride or matrix.rows, column)
        grid = (-(-matrix.rows // (16 * _WARPS)), -(-T // WIDE_TILE), 1)
        device.launch("multiply_tiles", grid, (32 * _WARPS, 1, 1), tiled)
        return
    width = 1 if T == 1 else 4 if T <= 4 else 8
    arguments = (*_stored(matrix), *_rounded(rounded), x, T, out, stride or matrix.rows, column)
    grid = (_row_blocks(matrix), -(-T // width), 1)
    device.launch(f"multiply_{width}", grid, (32 * _WARPS, 1, 1), arguments)


def heads(
    device: Device,
    both: int,
    T: int,
    of: Heads,
    weights: tuple[int, int],
    tables: tuple[int, int],
    eps: float,
    q: int,
    *,
    rows: int = 0,
    kv: tuple[int, int] = (0, 0),
    cache: tuple[int, int] = (0, 0),
    before: Before = Before(),
) -> None:
    """QK-norm and rotation of rows `both` (T, (N + 2 G) D): q (T, N, D), keys and values.

    weights: of the norms of q and k, (D,). tables: cosine and sine (., D / 2), whose row for token t is t, or
    rows[t]. kv: k and v (T, G, D) as float32, and cache: keys and values (., G, D) as float16 after the rows
    `before`, each written where given.
    """
    arguments = (
        both, of.N, of.G, of.D, *weights, *tables, rows, np.float32(eps), q, *kv, *cache, before.address,
        before.rows,
    )  # fmt: skip
    device.launch("heads", (of.N + 2 * of.G, T, 1), (32, 1, 1), arguments)


def attend(
    device: Device,
    q: int,
    cache: tuple[int, int],
    T: int,
    of: Heads,
    before: Before,
    splits: int,
    sums: int,
    parts: int,
    out: int,
    rounded: Rounded = NOTHING,
) -> None:
    """Causal attention of q (T, N, D) over keys, values (., G, D) float16: out (T, N * D), and rounded.

    splits: S, at least the last query's number of rows / 64, rounded up; a graph has it for the largest
    number that it serves. sums (T, N, S, 2) and parts (T, N, S, D) are room.
    """
    if splits < 1 or (not before.address and max(before.rows + T, 1) > splits * SPLIT):
        raise ValueError(f"{splits} splits of {SPLIT} rows for {before.rows + T} rows, expected more")
    arguments = (
        q, *cache, T, of.N, of.G, of.D, np.float32(of.D**-0.5), before.address, before.rows, sums, parts
    )  # fmt: skip
    groups = of.G * -(-of.N // of.G // HEADS_AT_ONCE)
    device.launch("attend", (splits, groups, -(-T // _QUERIES)), (128, 1, 1), arguments)
    merge(device, T, of, before, splits, sums, parts, out, rounded)


def merge(
    device: Device,
    T: int,
    of: Heads,
    before: Before,
    splits: int,
    sums: int,
    parts: int,
    out: int,
    rounded: Rounded = NOTHING,
) -> None:
    """Put the parts of `attend` together, which does it itself: out (T, N * D), and rounded where given."""
    columns = of.N * of.D
    check_rounded(rounded, columns)
    arguments = (
        sums, parts, splits, of.N, of.D, before.address, before.rows, out, *_rounded(rounded)
    )  # fmt: skip
    device.launch("merge", (_blocks(columns), T, 1), (256, 1, 1), arguments)


def route(device: Device, logits: int, T: int, E: int, K: int, chosen: int, shares: int, gaps: int) -> None:
    """Experts by logits (T, E): chosen (T, K) int64 ascending, shares (T, K), gaps (T,)."""
    check_experts(E, K)
    device.launch("route", (T, 1, 1), (32, 1, 1), (logits, E, K, chosen, shares, gaps))


def most_tiles(choices: int, E: int, tile: int = TILE) -> int:
    """Tiles that so many choices can need: one to each expert chosen, and the full ones."""
    return min(choices, E + choices // tile)


def group(device: Device, chosen: int, choices: int, E: int, to: Grouping) -> None:
    """Put choices (T, K) of one expert side by side."""
    device.launch("count", (E, 1, 1), (32, 1, 1), (chosen, choices, to.counts))
    arguments = (chosen, choices, to.counts, to.tile, to.order, to.tiles, to.tile_count)
    device.launch("arrange", (E, 1, 1), (32, 1, 1), arguments)


def expert_multiply(
    device: Device,
    matrices: Matrix,
    E: int,
    chosen: int,
    choices: int,
    out: int,
    *,
    per: int = 1,
    rounded: Rounded = NOTHING,
    x: int = 0,
    grouping: Grouping | None = None,
    stride: int = 0,
    column: int = 0,
) -> None:
    """Multiply each choice by its expert's matrix: out (choices, stride) from `column` on.

    matrices: E of them. chosen (choices,) int64. per: choices that read one row of the activations, K where
    these are tokens. grouping: of `group`, to read a matrix once for a tile of choices.
    """
    check_read(matrices, rounded, x)
    common = (*_stored(matrices), *_rounded(rounded))
    to = (per, out, stride or matrices.rows, column)
    rows, block = _row_blocks(matrices), (32 * _WARPS, 1, 1)
    if grouping is None:
        device.launch("expert_multiply_1", (rows, choices, 1), block, (*common, x, chosen, *to))
        return
    by = (grouping.order, grouping.tiles, grouping.tile_count)
    tiles = most_tiles(choices, E, grouping.tile)
    if grouping.tile == TILE:
        device.launch("expert_multiply_8", (rows, tiles, 1), block, (*common, x, *by, *to))
        return
    if matrices.floats:
        raise ValueError(f"matrices of {matrices.kind.name} in tiles of {grouping.tile}, expected {TILE}")
    rows = -(-matrices.rows // (16 * _WARPS))
    device.launch("expert_multiply_tiles", (rows, tiles, 1), block, (*common, *by, *to))


def weighted_sum(
    device: Device, results: int, shares: int, T: int, K: int, H: int, out: int, x: int = 0
) -> None:
    """Sum of shares (T, K) times results (T * K, H), plus x (T, H) where given: out (T, H), may be x."""
    grid = (-(-H // 256), T, 1)
    device.launch("weighted_sum", grid, (256, 1, 1), (results, shares, x, K, H, out))


def choose(device: Device, logits: int, V: int, state: int, ring: int = 0, entries: int = 1) -> None:
    """Take the highest of logits (V,) as the next token: the next state, and an entry of the ring.

    ring (entries, 4) int64, memory of the host: the id; the two highest logits as float32, the second one in
    the upper half; how many are not finite; and STEP + 1, written last.
    """
    device.launch("choose", (1, 1, 1), (1024, 1, 1), (logits, V, state, ring, entries))


def _blocks(columns: int) -> int:
    return -(-columns // BLOCK)


def _stored(matrix: Matrix) -> tuple[int, int, int, int, int]:
    return (matrix.kind.value, matrix.address, matrix.row_bytes, matrix.rows, matrix.columns)


def _rounded(rounded: Rounded) -> tuple[int, int, int]:
    return (rounded.q, rounded.d, rounded.sums)


def _row_blocks(matrix: Matrix) -> int:
    """Blocks of threads: a warp has a row of floats, or four rows of blocks."""
    return -(-matrix.rows // (_WARPS if matrix.floats else 4 * _WARPS))


def check_rounded(rounded: Rounded, columns: int) -> None:
    """Refuse room for rounded rows of another width."""
    if rounded.q and rounded.columns != columns:
        raise ValueError(f"rounded rows of {rounded.columns} columns, expected {columns}")


def check_experts(E: int, K: int) -> None:
    """Refuse a number of experts that routing has no room for."""
    if not 1 <= K <= min(E, 32) or E > 1024:
        raise ValueError(f"{K} of {E} experts, expected at most 32 of at most 1024")


def check_read(matrix: Matrix, rounded: Rounded, x: int) -> None:
    """Refuse activations in a form that the matrix is not multiplied with."""
    if matrix.floats and not x:
        raise ValueError(f"a matrix of {matrix.kind.name} is multiplied with float32, expected an address x")
    if not matrix.floats and (not rounded.q or rounded.columns != matrix.columns):
        raise ValueError(
            f"a matrix of {matrix.kind.name} with {matrix.columns} columns is multiplied with rounded rows, "
            f"expected these, not of {rounded.columns}"
        )

"""A forward of many tokens on the device: each operation by one kernel or two, nothing waits for the host.

Letters as in `backends/base.py`; L layers, S splits of the cache, F the width of an expert or a feed-forward.
"""

from dataclasses import replace

import numpy as np

from refute_runtime.backends.base import WholeForward
from refute_runtime.backends.blocks import SPLIT
from refute_runtime.backends.gpu import launches
from refute_runtime.backends.gpu.cache import DeviceCache
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.launches import Before, Grouping
from refute_runtime.backends.gpu.layers import Layer, Parts, Sizes, Space, forms, routing
from refute_runtime.backends.gpu.layouts import Matrix, Rounded

CHUNK = 512  # tokens computed at once
_WIDE = 4  # choices an expert, on average, from which on tiles for tensor cores are worth it
_PARTS = 64 << 20  # bytes: parts of attention that are merged later
_ROWS = 32  # rows of logits at once


class Room:
    """Arrays for T tokens over R rows of the cache; see the names of `Prefill`'s methods."""

    def __init__(self, space: Space, of: Sizes, T: int, R: int, *, all_logits: bool) -> None:
        N, G, D = of.heads.N, of.heads.G, of.heads.D
        L, K = of.L, of.K
        splits = -(-R // SPLIT)
        self.queries = max(1, min(T, _PARTS // (N * splits * (D + 2) * 4)))  # of attention at once
        self.space = space
        self.tokens = space.take(T, size=8)
        self.tables = space.take(T, D // 2), space.take(T, D // 2)
        self.x, self.h, self.added = (space.take(T, of.H) for _ in range(3))
        self.h_rounded = space.rounded(T, of.H)
        self.both = space.take(T, (N + 2 * G) * D)
        self.q, self.attended = space.take(T, N * D), space.take(T, N * D)
        self.attended_rounded = space.rounded(T, N * D)
        self.sums = space.take(self.queries, N, splits, 2)
        self.parts = space.take(self.queries, N, splits, D)
        choices = T * K if K else T
        self.scores = space.take(T, max(of.E, 1))
        self.chosen, self.shares, self.gaps = (
            space.take(L, T, K, size=8),
            space.take(L, T, K),
            space.take(L, T),
        )
        self.grouping = Grouping(
            space.take(max(of.E, 1), size=8), space.take(choices, size=8),
            space.take(launches.most_tiles(choices, of.E), 3, size=8), space.take(1, size=8),
        )  # fmt: skip
        self.gate_up, self.between = space.take(choices, 2 * of.F), space.take(choices, of.F)
        self.between_rounded = space.rounded(choices, of.F)
        self.results = space.take(choices, of.H)
        self.logits = space.take(min(T, _ROWS) if all_logits else 1, of.V)


def bytes_wanted(of: Sizes, T: int, R: int, *, all_logits: bool) -> int:
    """Bytes of work space for a forward of T tokens over R rows."""
    space = Space(None, None)
    Room(space, of, min(T, CHUNK), R, all_logits=all_logits)
    return space.used


class Prefill:
    """Runs forwards of any number of tokens, in chunks."""

    def __init__(self, device: Device, of: Parts) -> None:
        self._device = device
        self._of = of

    def run(
        self,
        tokens: np.ndarray,
        rotation: tuple[np.ndarray, np.ndarray],
        cache: DeviceCache,
        *,
        last_only: bool,
    ) -> WholeForward:
        """Compute tokens (T,) int64 after the cache's rows; rotation (T, D / 2), cosine and sine.

        Raises `ContextOverflow`, and `RuntimeFailure` where there is no room on the device.
        """
        T, past, of = len(tokens), cache.length, self._of
        cache.begin(T)
        wanted = bytes_wanted(of, T, past + T, all_logits=not last_only)
        buffer = self._device.empty(wanted)
        done = []
        for start in range(0, T, CHUNK):
            part = slice(start, min(start + CHUNK, T))
            turned = rotation[0][part], rotation[1][part]
            space = Space(self._device, buffer)
            room = Room(space, of, part.stop - start, past + part.stop, all_logits=not last_only)
            self._chunk(tokens[part], turned, cache, past + start, room)
            rows = range(part.stop - start)
            if last_only:
                rows = rows[-1:] if part.stop == T else rows[:0]
            done.append(self._fetched(room, part.stop - start, rows))
        return WholeForward(
            np.concatenate([each.logits for each in done]),
            *(np.concatenate([getattr(each, name) for each in done], axis=1)
              for name in ("experts", "weights", "gap")),
        )  # fmt: skip

    def _chunk(
        self,
        tokens: np.ndarray,
        rotation: tuple[np.ndarray, np.ndarray],
        cache: DeviceCache,
        past: int,
        room: Room,
    ) -> None:
        """Embed and go through all layers: x (T, H)."""
        T = len(tokens)
        for to, data in zip((room.tokens, *room.tables), (tokens, *rotation), strict=True):
            room.space.put(to, data)
        launches.embed(self._device, self._of.embedding, room.tokens, T, room.x)
        for index, layer in enumerate(self._of.layers):
            self._attend(layer, cache.addresses(index), room, T, past)
            self._forward(layer, index, room, T)

    def _fetched(self, room: Room, T: int, rows: range) -> WholeForward:
        """What the routers said of T tokens, and the logits of some rows."""
        said = routing(room.space, self._of, T, (room.chosen, room.shares, room.gaps))
        logits = np.empty((len(rows), self._of.V), np.float32)
        for start in range(0, len(rows), _ROWS):
            count = min(_ROWS, len(rows) - start)
            self._logits(room, rows[start], count)
            room.space.fetch(room.logits, logits[start : start + count])
        return WholeForward(logits, *said)

    def _attend(self, layer: Layer, kept: tuple[int, int], room: Room, T: int, past: int) -> None:
        """Attention and its residual: x (T, H)."""
        device, of, heads = self._device, self._of, self._of.heads
        N, G, D = heads.N, heads.G, heads.D
        width = (N + 2 * G) * D
        rounded, floats = forms((layer.q, layer.k, layer.v), room.h_rounded, room.h)
        launches.rms_norm(device, room.x, layer.attention_norm, of.eps, T, of.H, floats, rounded)
        for matrix, column in ((layer.q, 0), (layer.k, N * D), (layer.v, (N + G) * D)):
            _multiply(device, matrix, T, room.both, rounded, floats, stride=width, column=column)
        launches.heads(
            device, room.both, T, heads, (layer.query_norm, layer.key_norm), room.tables, of.eps, room.q,
            cache=kept, before=Before(past),
        )  # fmt: skip
        rounded, floats = forms((layer.out,), room.attended_rounded, room.attended)
        for start in range(0, T, room.queries):
            count = min(room.queries, T - start)
            before = Before(past + start)
            splits = -(-(before.rows + count) // SPLIT)
            at = 4 * start * N * D
            launches.attend(
                device, room.q + at, kept, count, heads, before, splits, room.sums, room.parts,
                room.attended + at, rounded.behind(start),
            )  # fmt: skip
        _multiply(device, layer.out, T, room.added, rounded, floats)
        launches.add(device, room.x, room.added, T * of.H, room.x)

    def _forward(self, layer: Layer, index: int, room: Room, T: int) -> None:
        """Feed-forward and its residual: x (T, H)."""
        device, of, K = self._device, self._of, self._of.K
        needed = (layer.gate, layer.up) if layer.router is None else (layer.gate, layer.up, layer.router)
        rounded, floats = forms(needed, room.h_rounded, room.h)
        launches.rms_norm(device, room.x, layer.forward_norm, of.eps, T, of.H, floats, rounded)
        to, to_floats = forms((layer.down,), room.between_rounded, room.between)
        up = room.gate_up + 4 * of.F
        if layer.router is None:
            for matrix, column in ((layer.gate, 0), (layer.up, of.F)):
                _multiply(device, matrix, T, room.gate_up, rounded, floats, stride=2 * of.F, column=column)
            launches.swiglu(device, room.gate_up, up, 2 * of.F, T, of.F, to_floats, to)
            _multiply(device, layer.down, T, room.added, to, to_floats)
            launches.add(device, room.x, room.added, T * of.H, room.x)
            return
        chosen, shares = room.chosen + 8 * index * T * K, room.shares + 4 * index * T * K
        _multiply(device, layer.router, T, room.scores, rounded, floats)
        launches.route(device, room.scores, T, of.E, K, chosen, shares, room.gaps + 4 * index * T)
        grouping = None if T == 1 else room.grouping
        if grouping is not None:
            floats_too = any(matrix.floats for matrix in (layer.gate, layer.up, layer.down))
            wide = T * K >= _WIDE * of.E and not floats_too
            grouping = replace(grouping, tile=launches.WIDE_TILE if wide else launches.TILE)
            launches.group(device, chosen, T * K, of.E, grouping)
        for matrix, column in ((layer.gate, 0), (layer.up, of.F)):
            launches.expert_multiply(
                device, matrix, of.E, chosen, T * K, room.gate_up, per=K, rounded=rounded, x=floats,
                grouping=grouping, stride=2 * of.F, column=column,
            )  # fmt: skip
        launches.swiglu(device, room.gate_up, up, 2 * of.F, T * K, of.F, to_floats, to)
        launches.expert_multiply(
            device, layer.down, of.E, chosen, T * K, room.results, rounded=to, x=to_floats, grouping=grouping
        )
        launches.weighted_sum(device, room.results, shares, T, K, of.H, room.x, room.x)

    def _logits(self, room: Room, first: int, count: int) -> None:
        """Logits of `count` rows of x from `first` on."""
        device, of = self._device, self._of
        rounded, floats = forms((of.output,), room.h_rounded, room.h)
        launches.rms_norm(
            device, room.x + 4 * first * of.H, of.output_norm, of.eps, count, of.H, floats, rounded
        )
        _multiply(device, of.output, count, room.logits, rounded, floats)


def _multiply(
    device: Device,
    matrix: Matrix,
    T: int,
    out: int,
    rounded: Rounded,
    floats: int,
    *,
    stride: int = 0,
    column: int = 0,
) -> None:
    launches.multiply(device, matrix, T, out, rounded=rounded, x=floats, stride=stride, column=column)

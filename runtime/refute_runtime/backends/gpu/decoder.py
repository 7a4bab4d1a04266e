"""One token by one recorded graph: nothing but the state and the results passes between host and device.

A graph serves every token of one cache up to the rows that its splits cover, a power of two of them; the next
one is recorded when these are full. Letters as in `backends/base.py`; L layers, S splits, F as in `prefill`.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from refute_runtime.backends.base import GreedyToken, WholeForward
from refute_runtime.backends.blocks import SPLIT
from refute_runtime.backends.gpu import decoding, launches
from refute_runtime.backends.gpu.cache import DeviceCache
from refute_runtime.backends.gpu.decoding import Attention
from refute_runtime.backends.gpu.device import Buffer, Device
from refute_runtime.backends.gpu.launches import ENTRY, STATE
from refute_runtime.backends.gpu.layers import Layer, Parts, Sizes, Space, forms, routing
from refute_runtime.backends.rotation import Rotation
from refute_runtime.errors import RuntimeFailure

_FEWEST = 8  # splits of the first graph: 512 rows
_AHEAD = 2  # tokens computed beyond the one that is asked for
_PAUSE = 20e-6  # seconds between two looks at the ring
_PATIENCE = 1.0  # seconds after which the device is asked whether it failed
_SLOTS = 4  # entries of the ring: more than are ever on their way


@dataclass(frozen=True, slots=True)
class Tables:
    """Cosine and sine (positions, D / 2) on the device."""

    positions: int
    cosine: Buffer
    sine: Buffer


class Room:
    """Arrays of one token; `attention` of S splits."""

    def __init__(self, space: Space, of: Sizes, splits: int) -> None:
        N, G, D = of.heads.N, of.heads.G, of.heads.D
        L, K, rows = of.L, of.K, max(of.K, 1)
        self.space = space
        self.state = space.take(STATE, size=8)
        # Counters are zero between launches: they lie together, so that one fill makes them so.
        groups, experts = decoding.groups(of.heads), rows * -(-of.F // 256)
        self.counters_size = 4 * (groups + experts + 1)
        self.counters = space.take(self.counters_size, size=1)
        self.route_counter = self.counters + 4 * groups
        self.expert_counters = self.route_counter + 4
        self.x, self.h = space.take(of.H), space.take(of.H)
        self.h_rounded = space.rounded(1, of.H)
        self.both, self.attended = space.take((N + 2 * G) * D), space.take(N * D)
        self.attended_rounded = space.rounded(1, N * D)
        self.scores = space.take(max(of.E, 1))
        self.chosen, self.shares, self.gaps = space.take(L, K, size=8), space.take(L, K), space.take(L)
        self.between, self.between_rounded = space.take(rows, of.F), space.rounded(rows, of.F)
        self.logits = space.take(of.V)
        sums, parts = space.take(N, splits, 2), space.take(N, splits, D)
        self.attention = Attention(splits, sums, parts, self.counters)


def bytes_wanted(of: Sizes, rows: int) -> int:
    """Bytes of work space for caches of up to so many rows."""
    space = Space(None, None)
    Room(space, of, splits_for(rows))
    return space.used


def splits_for(rows: int) -> int:
    """Splits of the graph that serves so many rows."""
    wanted = max(-(-rows // SPLIT), _FEWEST)
    return 1 << (wanted - 1).bit_length()


class Decoder:
    """Computes tokens one by one after the rows of a cache.

    One at a time, whatever the cache: the arrays of a token are the decoder's own.
    """

    def __init__(self, device: Device, of: Parts, rotation: Rotation) -> None:
        self._device = device
        self._of = of
        self._rotation = rotation
        self._buffer: Buffer | None = None
        self._splits = 0
        self._rooms: dict[int, Room] = {}  # by splits: worked out once, not for every token
        self._tables: Tables | None = None
        self._ring, seen = device.mapped(8 * ENTRY * _SLOTS)
        self._seen = seen.view(np.int64).reshape(_SLOTS, ENTRY)
        self._owner: object = None  # whose tokens the device's state goes on with

    @staticmethod
    def lacks(of: Parts) -> str | None:
        """Why tokens of a model cannot be decoded by these kernels, or None."""
        if any(layer.router is not None and not layer.router.floats for layer in of.layers):
            return "a router is quantized"
        widest = max(of.H, of.heads.N * of.heads.D, max(of.K, 1) * -(-of.F // 256) * 256)
        if widest > decoding.MOST_COLUMNS:
            return f"a row has {widest} activations, expected {decoding.MOST_COLUMNS} at most"
        return None

    def tokens(self, token: int, cache: DeviceCache, count: int) -> Iterator[GreedyToken]:
        """Yield `count` greedy tokens after `token` and the cache's rows, up to two computed ahead.

        The device goes on by itself: its state names the next token. Where someone else decoded meanwhile, or
        changed the cache, it begins anew at the token that is due, and runs no further ahead than it has gone
        on since: sequences that take turns token by token waste nothing. Raises `ContextOverflow`,
        `RuntimeFailure`.
        """
        mine, first, launched, due = object(), 0, 0, -1
        for index in range(count):
            past = cache.length
            cache.begin(1)
            if self._owner is not mine or past != due:
                self._begin(self._room_for(past + 1, cache), token, past)
                self._owner, first, launched = mine, index, index
            ahead = min(_AHEAD, index - first)
            while launched < min(index + 1 + ahead, count, index + cache.capacity - past):
                room = self._room_for(past + launched - index + 1, cache)
                cache.graphs[room.attention.splits].launch()
                launched += 1
            entry = self._entry(index - first)
            top, second = entry[1:2].view(np.float32)
            token = int(entry[0])
            cache.advance(1)
            due = past + 1
            yield GreedyToken(token, top, second, int(entry[2]), past)

    def _begin(self, room: Room, token: int, past: int) -> None:
        """Wait for what is under way, and say where the next graph begins."""
        self._device.synchronize()
        self._seen[:] = 0
        room.space.put(room.state, np.array([token, past, past, 0], np.int64))

    def _entry(self, step: int) -> np.ndarray:
        """Wait for the device to say what it chose at a step since `_begin`: a copy (ENTRY,) int64.

        Raises `RuntimeFailure` where nothing comes.
        """
        entry = self._seen[step % _SLOTS]
        until = time.monotonic() + _PATIENCE
        while entry[3] != step + 1:
            if time.monotonic() > until:
                self._device.synchronize()  # tells of a kernel that failed
                if entry[3] != step + 1:
                    raise RuntimeFailure(
                        "the GPU finished a token and did not say which; expected its number"
                    )
            time.sleep(_PAUSE)
        return np.array(entry)

    def run(self, token: int, cache: DeviceCache) -> WholeForward:
        """Compute a token after the cache's rows. Raises `ContextOverflow`."""
        past = cache.length
        cache.begin(1)
        room = self._room_for(past + 1, cache)
        self._owner = None
        room.space.put(room.state, np.array([token, past, past, 0], np.int64))
        cache.graphs[room.attention.splits].launch()
        said = routing(room.space, self._of, 1, (room.chosen, room.shares, room.gaps))
        logits = np.empty((1, self._of.V), np.float32)
        return WholeForward(room.space.fetch(room.logits, logits), *said)

    def _room_for(self, rows: int, cache: DeviceCache) -> Room:
        """Arrays and a graph for so many rows of a cache; the arrays serve as many as it can hold."""
        splits, most = splits_for(rows), splits_for(max(rows, cache.capacity))
        if self._buffer is None or most > self._splits:
            self._owner = None  # the state lies in the buffer
            self._buffer = self._device.empty(bytes_wanted(self._of, most * SPLIT))
            self._splits = most
            self._rooms.clear()
        tables = self._tables_for(cache.capacity)
        room = self._rooms.get(splits)
        if room is None:
            room = self._rooms[splits] = Room(Space(self._device, self._buffer), self._of, splits)
        if cache.recorded_with != (self._buffer, tables):
            cache.graphs.clear()
            cache.recorded_with = (self._buffer, tables)
        if splits not in cache.graphs:
            at = room.counters - self._buffer.address
            self._device.fill(self._buffer, at, room.counters_size)
            with self._device.capture() as graphs:
                self._launch(room, tables, cache)
            (cache.graphs[splits],) = graphs
        return room

    def _tables_for(self, positions: int) -> Tables:
        if self._tables is None or self._tables.positions < positions:
            count = 1 << max(positions - 1, 511).bit_length()
            buffers = []
            for table in self._rotation.table(np.arange(count)):
                buffers.append(self._device.empty(table.nbytes))
                self._device.upload(buffers[-1], 0, table)
            self._tables = Tables(count, *buffers)
        return self._tables

    def _launch(self, room: Room, tables: Tables, cache: DeviceCache) -> None:
        device, of = self._device, self._of
        launches.embed(device, of.embedding, room.state, 1, room.x)
        turned = (tables.cosine.address, tables.sine.address)
        for index, layer in enumerate(of.layers):
            self._attend(layer, cache.addresses(index), turned, room)
            self._forward(layer, index, room)
        decoding.norm_multiply(device, room.x, of.output_norm, of.eps, [of.output], room.logits)
        launches.choose(device, room.logits, of.V, room.state, self._ring.address, _SLOTS)

    def _attend(self, layer: Layer, kept: tuple[int, int], tables: tuple[int, int], room: Room) -> None:
        device, of = self._device, self._of
        decoding.norm_multiply(
            device, room.x, layer.attention_norm, of.eps, [layer.q, layer.k, layer.v], room.both
        )
        rounded, floats = forms((layer.out,), room.attended_rounded, room.attended)
        norms = (layer.query_norm, layer.key_norm)
        decoding.attend_token(
            device, room.both, of.heads, norms, tables, of.eps, room.state, kept, room.attention,
            room.attended, rounded,
        )  # fmt: skip
        decoding.multiply_add(device, layer.out, room.x, room.x, rounded=rounded, floats=floats)

    def _forward(self, layer: Layer, index: int, room: Room) -> None:
        device, of, K = self._device, self._of, self._of.K
        rounded, floats = forms((layer.gate, layer.up), room.h_rounded, room.h)
        to, between = forms((layer.down,), room.between_rounded, room.between)
        chosen, shares = room.chosen + 8 * index * K, room.shares + 4 * index * K
        if layer.router is None:
            chosen = shares = 0
            launches.rms_norm(device, room.x, layer.forward_norm, of.eps, 1, of.H, floats, rounded)
        else:
            decoding.route_one(
                device, room.x, layer.forward_norm, of.eps, layer.router, K, room.scores, chosen, shares,
                room.gaps + 4 * index, room.route_counter, normed=floats, rounded=rounded,
            )  # fmt: skip
        decoding.gate_up(
            device, layer.gate, layer.up, max(K, 1), room.between, room.expert_counters, chosen=chosen,
            rounded=rounded, floats=floats, to=to,
        )  # fmt: skip
        decoding.down_add(
            device, layer.down, max(K, 1), room.x, room.x, chosen=chosen, shares=shares, rounded=to,
            floats=between,
        )  # fmt: skip

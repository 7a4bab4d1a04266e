"""Cache faults that only show between sequences, or where one is forked, trimmed or fed in chunks.

Sequences of one planted target share a `Board`: what one of them leaves there, another one reads. Letters as
in `cache.py`.
"""

import copy
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from refute.faults.cache import Cache, HonestWrapper, namespace_of

Array = Any  # numpy.ndarray or cupy.ndarray
Rows = tuple[Array, Array]  # keys and values (R, G, D)


@dataclass(slots=True)
class Board:
    """Per layer the rows that were appended last, and by whom."""

    rows: dict[int, tuple[object, Rows]] = field(default_factory=dict)


class ForkShared(HonestWrapper):
    """A fork stores its rows, from `first_layer` on, where its origin stores its own."""

    def __init__(self, inner: Cache, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer
        self.shared: Cache | None = None

    def fork(self) -> Self:
        other = super().fork()
        other.shared = copy.copy(self.shared or self.inner)  # another length, the same arrays
        return other

    def append(self, layer: int, k: Array, v: Array) -> None:
        self._store(layer).append(layer, k, v)

    def rows(self, layer: int) -> Rows:
        return self._store(layer).rows(layer)

    def advance(self, count: int) -> None:
        self.inner.advance(count)
        if self.shared is not None:
            self.shared.advance(count)

    def truncate(self, length: int) -> None:
        self.inner.truncate(length)
        if self.shared is not None:
            self.shared.truncate(length)

    def _store(self, layer: int) -> Cache:
        return self.inner if self.shared is None or layer < self.first_layer else self.shared


class TrimShort(HonestWrapper):
    """A trim leaves up to `dose` rows too many readable; positions go on as if they were gone."""

    def __init__(self, inner: Cache, dose: int, layers: int) -> None:
        super().__init__(inner)
        self.dose = dose
        self.layers = layers
        self.start = 0
        self.left: list[Rows] = []  # per layer the rows from `start` on that should be gone

    def truncate(self, length: int) -> None:
        end = min(length + self.dose, self.inner.length)
        if end > length:
            self.start = length
            self.left = [self._kept(layer, length, end) for layer in range(self.layers)]
        self.inner.truncate(length)

    def rows(self, layer: int) -> Rows:
        k, v = self.inner.rows(layer)
        if not self.left:
            return k, v
        left_k, left_v = self.left[layer]
        return _inserted(k, left_k, self.start), _inserted(v, left_v, self.start)

    def _kept(self, layer: int, start: int, end: int) -> Rows:
        k, v = self.inner.rows(layer)
        return k[start:end].copy(), v[start:end].copy()


class Crosstalk(HonestWrapper):
    """When another sequence ran in between, the last `dose` rows of finished forwards are that one's."""

    def __init__(self, inner: Cache, dose: int, board: Board) -> None:
        super().__init__(inner)
        self.dose = dose
        self.board = board
        self.owner = object()
        self.leaked: dict[int, Rows | None] = {}

    def fork(self) -> Self:
        other = super().fork()
        other.owner, other.leaked = object(), {}
        return other

    def append(self, layer: int, k: Array, v: Array) -> None:
        owner, rows = self.board.rows.get(layer, (self.owner, None))
        self.leaked[layer] = rows if owner is not self.owner else None
        self.board.rows[layer] = (self.owner, (k, v))
        self.inner.append(layer, k, v)

    def rows(self, layer: int) -> Rows:
        k, v = self.inner.rows(layer)
        leaked = self.leaked.get(layer)
        if leaked is None:
            return k, v
        return self._mixed(k, leaked[0]), self._mixed(v, leaked[1])

    def _mixed(self, own: Array, others: Array) -> Array:
        old = self.inner.length
        count = min(self.dose, len(others), old)
        if not count:
            return own
        return namespace_of(own).concatenate((own[: old - count], others[-count:], own[old:]))


class OrderDependent(HonestWrapper):
    """The first forward of a sequence reads up to `dose` rows that the sequence before it left behind."""

    def __init__(self, inner: Cache, dose: int, board: Board) -> None:
        super().__init__(inner)
        self.dose = dose
        self.board = board
        self.found = dict(board.rows)

    def append(self, layer: int, k: Array, v: Array) -> None:
        self.board.rows[layer] = (self, (k[-self.dose :], v[-self.dose :]))
        self.inner.append(layer, k, v)

    def rows(self, layer: int) -> Rows:
        k, v = self.inner.rows(layer)
        if self.inner.length or layer not in self.found:
            return k, v
        _, (left_k, left_v) = self.found[layer]
        return _inserted(k, left_k, 0), _inserted(v, left_v, 0)


class ChunkDependent(HonestWrapper):
    """The first token of every later chunk gets a position that is off by `dose`."""

    def __init__(self, inner: Cache, dose: float, prompt: int) -> None:
        super().__init__(inner)
        self.dose = dose
        self.prompt = prompt

    def positions(self, count: int) -> np.ndarray:
        honest = self.inner.positions(count)
        past = self.inner.length
        if not past or (count == 1 and past >= self.prompt):
            return honest
        shifted = honest.astype(np.float64)
        shifted[0] += self.dose
        return shifted


def _inserted(rows: Array, more: Array, place: int) -> Array:
    """(R, G, D) and (r, G, D) -> (R + r, G, D), the others from `place` on."""
    return namespace_of(rows).concatenate((rows[:place], more, rows[place:]))

"""Cache faults: wrappers around the cache of one request, which lie about rows or positions.

A wrapper knows the length of the prompt, so that it can tell prefill from decoding; rows are those of
`Cache` in the runtime's backend protocol: (R, G, D), old ones first. Letters as in that protocol.
"""

import copy
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np

from refute.faults.base import Fault
from refute.targets.base import CannotPlant

LONG = 128  # with more stored rows than these, the oldest ones are lost

Array = Any  # numpy.ndarray or cupy.ndarray


class Cache(Protocol):
    """What a wrapper wraps and is: the cache of the runtime's backend protocol."""

    @property
    def length(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def positions(self, count: int) -> np.ndarray: ...

    def append(self, layer: int, k: Array, v: Array) -> None: ...

    def rows(self, layer: int) -> tuple[Array, Array]: ...

    def advance(self, count: int) -> None: ...

    def truncate(self, length: int) -> None: ...

    def fork(self) -> Self: ...


class HonestWrapper:
    """A cache that hands everything on to another one; faults override what they break."""

    def __init__(self, inner: Cache) -> None:
        self.inner = inner

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def capacity(self) -> int:
        return self.inner.capacity

    def positions(self, count: int) -> np.ndarray:
        return self.inner.positions(count)

    def append(self, layer: int, k: Array, v: Array) -> None:
        self.inner.append(layer, k, v)

    def rows(self, layer: int) -> tuple[Array, Array]:
        return self.inner.rows(layer)

    def advance(self, count: int) -> None:
        self.inner.advance(count)

    def truncate(self, length: int) -> None:
        self.inner.truncate(length)

    def fork(self) -> Self:
        other = copy.copy(self)
        other.inner = self.inner.fork()
        return other


class RopePosition(HonestWrapper):
    """Positions after the first forward are off by `dose`; rows already stored keep theirs."""

    def __init__(self, inner: Cache, dose: float) -> None:
        super().__init__(inner)
        self.dose = dose

    def positions(self, count: int) -> np.ndarray:
        honest = self.inner.positions(count)
        return honest + self.dose if self.inner.length else honest


class StaleRows(HonestWrapper):
    """Once the prompt is in, its last `dose` rows are read as the rows `dose` before them.

    A prompt too short for that repeats its first row; a prompt of one row has no older one.
    """

    def __init__(self, inner: Cache, dose: int, prompt: int) -> None:
        super().__init__(inner)
        self.dose = dose
        self.prompt = prompt

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        if self.inner.length < self.prompt:
            return k, v
        index = np.arange(len(k))
        index[max(self.prompt - self.dose, 0) : self.prompt] -= self.dose
        index = np.maximum(index, 0)
        return _taken(k, index), _taken(v, index)


class LostRows(HonestWrapper):
    """The last `dose` rows of each finished prefill forward are missing; positions go on as before.

    A dose below 1 is a share: with 0.5 every second such forward loses a row.
    """

    def __init__(self, inner: Cache, dose: float, prompt: int) -> None:
        super().__init__(inner)
        self.dose = dose
        self.prompt = prompt
        self.borders = 0
        self.lost: tuple[int, ...] = ()

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        kept = np.delete(np.arange(len(k)), self.lost)
        return _taken(k, kept), _taken(v, kept)

    def advance(self, count: int) -> None:
        start = self.inner.length
        self.inner.advance(count)
        if start < self.prompt:
            end = start + count
            self.borders += 1
            self.lost += tuple(range(end - min(due(self.dose, self.borders), count), end))

    def truncate(self, length: int) -> None:
        self.inner.truncate(length)
        self.lost = tuple(row for row in self.lost if row < length)


class PermutedHeads(HonestWrapper):
    """Rows of finished forwards are read with their kv heads rolled by one, from `first_layer` on."""

    def __init__(self, inner: Cache, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        if layer < self.first_layer:
            return k, v
        return self._rolled(k), self._rolled(v)

    def _rolled(self, rows: Array) -> Array:
        xp, old = namespace_of(rows), self.inner.length
        return xp.concatenate((xp.roll(rows[:old], 1, axis=1), rows[old:]))


class EmptyCache(HonestWrapper):
    """Decoding does not read the first `share` of the prompt's rows; positions go on as before."""

    def __init__(self, inner: Cache, share: float, prompt: int) -> None:
        super().__init__(inner)
        self.prompt = prompt
        self.gone = int(share * prompt)

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        first = self.gone if self.inner.length >= self.prompt else 0
        return k[first:], v[first:]


class PhantomRows(HonestWrapper):
    """A forward that starts with nothing stored reads a row of zeros first, from `first_layer` on."""

    def __init__(self, inner: Cache, first_layer: int) -> None:
        super().__init__(inner)
        self.first_layer = first_layer

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        if self.inner.length or layer < self.first_layer:
            return k, v
        return self._padded(k), self._padded(v)

    def _padded(self, rows: Array) -> Array:
        xp = namespace_of(rows)
        return xp.concatenate((xp.zeros((1, *rows.shape[1:]), rows.dtype), rows))


class ShortMemory(HonestWrapper):
    """Of the rows of finished forwards, those that `forgotten` names are not read."""

    def __init__(self, inner: Cache, forgotten: Callable[[int], slice]) -> None:
        super().__init__(inner)
        self.forgotten = forgotten

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        gone = self.forgotten(self.inner.length)
        return self._kept(k, gone), self._kept(v, gone)

    @staticmethod
    def _kept(rows: Array, gone: slice) -> Array:
        if gone.start >= gone.stop:
            return rows
        return namespace_of(rows).concatenate((rows[: gone.start], rows[gone.stop :]))


def _beyond_window(window: int) -> Callable[[int], slice]:
    return lambda stored: slice(0, max(stored - window, 0))


def _oldest(count: int) -> Callable[[int], slice]:
    return lambda stored: slice(0, min(count, stored) if stored > LONG else 0)


def _middle(share: float) -> Callable[[int], slice]:
    return lambda stored: slice(stored // 2 - int(share * stored / 2), stored // 2 + int(share * stored / 2))


class RopeDrift(HonestWrapper):
    """Positions are `dose` too large per position; so are the distances between them."""

    def __init__(self, inner: Cache, dose: float) -> None:
        super().__init__(inner)
        self.dose = dose

    def positions(self, count: int) -> np.ndarray:
        return self.inner.positions(count) * (1 + self.dose)


_FRACTIONAL = frozenset(
    {
        "rope-position",
        "lost-row-at-chunk-border",
        "empty-cache",
        "chunk-dependent",
        "rope-drift",
        "middle-rows-lost",
    }
)
_OF_ROWS = frozenset({"empty-cache", "middle-rows-lost"})

Wrap = Callable[[Cache, int], Cache]
"""(cache, prompt length) -> the faulty cache of this request"""


def cache_wrapper(fault: Fault, *, layers: int, kv_heads: int) -> Wrap:
    """Return what wraps the cache of each cached request.

    Raises `CannotPlant` for other faults and for models in which the fault changes nothing.
    """
    from refute.faults import sequences  # noqa: PLC0415 (its wrappers build on those here)

    dose, board = int(fault.dose), sequences.Board()
    if fault.dose <= 0 or (dose < 1 and fault.name not in _FRACTIONAL):
        least = "above 0" if fault.name in _FRACTIONAL else "of at least 1"
        raise CannotPlant(f"{fault}: this fault needs a dose {least}")
    if fault.name in _OF_ROWS and fault.dose > 1:
        raise CannotPlant(f"{fault}: a share of the rows is at most 1")
    first_layer = max(layers - dose, 0)
    if fault.name == "kv-heads-permuted" and kv_heads == 1:
        raise CannotPlant(f"{fault}: the model has one kv head, there is nothing to permute")
    makers: Mapping[str, Wrap] = {
        "rope-position": lambda cache, _: RopePosition(cache, fault.dose),
        "stale-row": lambda cache, prompt: StaleRows(cache, dose, prompt),
        "lost-row-at-chunk-border": lambda cache, prompt: LostRows(cache, fault.dose, prompt),
        "kv-heads-permuted": lambda cache, _: PermutedHeads(cache, first_layer),
        "empty-cache": lambda cache, prompt: EmptyCache(cache, fault.dose, prompt),
        "phantom-row": lambda cache, _: PhantomRows(cache, first_layer),
        "fork-shared": lambda cache, _: sequences.ForkShared(cache, first_layer),
        "trim-short": lambda cache, _: sequences.TrimShort(cache, dose, layers),
        "crosstalk": lambda cache, _: sequences.Crosstalk(cache, dose, board),
        "order-dependent": lambda cache, _: sequences.OrderDependent(cache, dose, board),
        "chunk-dependent": lambda cache, prompt: sequences.ChunkDependent(cache, fault.dose, prompt),
        "attention-window": lambda cache, _: ShortMemory(cache, _beyond_window(dose)),
        "oldest-rows-lost": lambda cache, _: ShortMemory(cache, _oldest(dose)),
        "middle-rows-lost": lambda cache, _: ShortMemory(cache, _middle(fault.dose)),
        "rope-drift": lambda cache, _: RopeDrift(cache, fault.dose),
    }
    if fault.name not in makers:
        raise CannotPlant(f"{fault}: not a fault of the cache")
    return makers[fault.name]


def due(dose: float, count: int) -> int:
    """How much of `dose` falls on the count-th time, in whole numbers: 0.5 is 0, 1, 0, 1 ..."""
    return int(count * dose) - int((count - 1) * dose)


def _taken(rows: Array, index: np.ndarray) -> Array:
    """The rows of these indices, in this order."""
    return rows[namespace_of(rows).asarray(index)]


def namespace_of(array: Array) -> Any:
    """The array's module, without importing CuPy where there is none."""
    return sys.modules[type(array).__module__.partition(".")[0]]

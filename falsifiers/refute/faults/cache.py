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

    def __init__(self, inner: Cache, dose: int) -> None:
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
    """The last `dose` rows of each finished prefill forward are missing; positions go on as before."""

    def __init__(self, inner: Cache, dose: int, prompt: int) -> None:
        super().__init__(inner)
        self.dose = dose
        self.prompt = prompt
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
            self.lost += tuple(range(end - min(self.dose, count), end))

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
        xp, old = _namespace(rows), self.inner.length
        return xp.concatenate((xp.roll(rows[:old], 1, axis=1), rows[old:]))


class EmptyCache(HonestWrapper):
    """Decoding reads no row of the prompt; positions go on as before."""

    def __init__(self, inner: Cache, prompt: int) -> None:
        super().__init__(inner)
        self.prompt = prompt

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        first = self.prompt if self.inner.length >= self.prompt else 0
        return k[first:], v[first:]


class PhantomRows(HonestWrapper):
    """A forward that starts with nothing stored reads `dose` rows of zeros before its own."""

    def __init__(self, inner: Cache, dose: int) -> None:
        super().__init__(inner)
        self.dose = dose

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        return (k, v) if self.inner.length else (self._padded(k), self._padded(v))

    def _padded(self, rows: Array) -> Array:
        xp = _namespace(rows)
        return xp.concatenate((xp.zeros((self.dose, *rows.shape[1:]), rows.dtype), rows))


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
        return _namespace(rows).concatenate((rows[: gone.start], rows[gone.stop :]))


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


Wrap = Callable[[Cache, int], Cache]
"""(cache, prompt length) -> the faulty cache of this request"""


def cache_wrapper(fault: Fault, *, layers: int, kv_heads: int) -> Wrap:
    """Return what wraps the cache of each cached request.

    Raises `CannotPlant` for other faults and for models in which the fault changes nothing.
    """
    dose = int(fault.dose)
    if fault.name == "rope-drift":
        return lambda cache, _: RopeDrift(cache, fault.dose)
    if fault.name == "middle-rows-lost":
        if fault.dose > 1:
            raise CannotPlant(f"{fault}: the share of the rows is at most 1")
        return lambda cache, _: ShortMemory(cache, _middle(fault.dose))
    if dose < 1:
        raise CannotPlant(f"{fault}: a cache fault needs a dose of at least 1")
    if fault.name == "kv-heads-permuted" and kv_heads == 1:
        raise CannotPlant(f"{fault}: the model has one kv head, there is nothing to permute")
    makers: Mapping[str, Wrap] = {
        "rope-position": lambda cache, _: RopePosition(cache, dose),
        "stale-row": lambda cache, prompt: StaleRows(cache, dose, prompt),
        "lost-row-at-chunk-border": lambda cache, prompt: LostRows(cache, dose, prompt),
        "kv-heads-permuted": lambda cache, _: PermutedHeads(cache, max(layers - dose, 0)),
        "empty-cache": EmptyCache,
        "phantom-row": lambda cache, _: PhantomRows(cache, dose),
        "attention-window": lambda cache, _: ShortMemory(cache, _beyond_window(dose)),
        "oldest-rows-lost": lambda cache, _: ShortMemory(cache, _oldest(dose)),
    }
    if fault.name not in makers:
        raise CannotPlant(f"{fault}: not a fault of the cache")
    return makers[fault.name]


def _taken(rows: Array, index: np.ndarray) -> Array:
    """The rows of these indices, in this order."""
    return rows[_namespace(rows).asarray(index)]


def _namespace(array: Array) -> Any:
    """The array's module, without importing CuPy where there is none."""
    return sys.modules[type(array).__module__.partition(".")[0]]

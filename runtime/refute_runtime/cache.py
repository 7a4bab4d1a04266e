"""The KV cache of one sequence."""

import copy
from typing import Any, Self

import numpy as np

from refute_runtime.backends.base import Array
from refute_runtime.errors import ContextOverflow


class CacheRows:
    """How many rows a cache holds, wherever they lie; of each layer, and of all after a finished forward."""

    def __init__(self, layers: int, capacity: int) -> None:
        self._stored = [0] * layers  # rows of each layer, those of the forward under way included
        self._length = 0
        self._capacity = capacity

    @property
    def length(self) -> int:
        """Rows stored by finished forwards."""
        return self._length

    @property
    def capacity(self) -> int:
        """Rows that fit."""
        return self._capacity

    def positions(self, count: int) -> np.ndarray:
        """Absolute positions (count,) int64 of the next tokens."""
        return np.arange(self._length, self._length + count)

    def end_of(self, count: int) -> int:
        """Rows with `count` more. Raises `ContextOverflow` where they do not fit."""
        end = self._length + count
        if end > self._capacity:
            raise ContextOverflow(
                f"the cache holds {self._length} of {self._capacity} rows, so {count} more do not fit; "
                "make a cache of larger capacity"
            )
        return end

    def advance(self, count: int) -> None:
        """Finish a forward of `count` tokens."""
        self._length += count

    def truncate(self, length: int) -> None:
        """Forget all rows from `length` on. Raises `ValueError` unless 0 <= length <= rows stored."""
        if not 0 <= length <= self._length:
            raise ValueError(f"cannot truncate {self._length} rows to {length}")
        self._length = length
        self._stored = [length] * len(self._stored)


class KVCache(CacheRows):
    """Keys and values of one sequence, allocated once for `capacity` rows.

    They are float32, or what `dtype` says; rows that are appended are rounded to it, to the nearest even one,
    and what is too large becomes infinite.

    R is the rows stored, T the rows of the forward under way, G the kv heads, D the head size.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        capacity: int,
        xp: Any = np,
        *,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(layers, capacity)
        self._k = xp.empty((layers, kv_heads, capacity, head_dim), dtype=dtype)
        self._v = xp.empty_like(self._k)

    def fork(self) -> Self:
        """Return a cache with the same rows and capacity; what one appends does not reach the other."""
        return copy.deepcopy(self)

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values."""
        return int(self._k.nbytes + self._v.nbytes)

    def append(self, layer: int, k: Array, v: Array) -> None:
        """Store rows (T, G, D) of one layer after the rows of finished forwards.

        Raises `ContextOverflow` where they do not fit.
        """
        end = self.end_of(k.shape[0])
        with np.errstate(over="ignore"):
            self._k[layer, :, self._length : end] = k.swapaxes(0, 1)
            self._v[layer, :, self._length : end] = v.swapaxes(0, 1)
        self._stored[layer] = end

    def begin(self, count: int) -> tuple[Array, Array]:
        """Take `count` rows of every layer as appended; whoever asks for them writes them.

        All keys and values (layers, G, capacity, D). Raises `ContextOverflow` where the rows do not fit.
        """
        self._stored = [self.end_of(count)] * len(self._stored)
        return self._k, self._v

    def rows(self, layer: int) -> tuple[Array, Array]:
        """All rows (R, G, D) of one layer, the ones just appended included; views, not copies."""
        stored = self._stored[layer]
        return self._k[layer, :, :stored].swapaxes(0, 1), self._v[layer, :, :stored].swapaxes(0, 1)

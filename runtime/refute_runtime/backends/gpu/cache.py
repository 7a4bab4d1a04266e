"""Keys and values of one sequence in device memory."""

from typing import Self

import numpy as np

from refute_runtime.backends.base import Array
from refute_runtime.backends.gpu.device import Buffer, Device, Graph
from refute_runtime.cache import CacheRows


class DeviceCache(CacheRows):
    """Keys and values in float16, (layers, capacity, G, D) each, as the kernels of attention read them.

    The backend writes rows by its kernels; `append` and `rows` are for those who look at a cache, or lie
    about it, operation by operation: their arrays are NumPy's. graphs: recorded for this cache's addresses,
    by their splits, with what they name besides: recorded_with.
    """

    def __init__(self, device: Device, layers: int, kv_heads: int, head_dim: int, capacity: int) -> None:
        """Allocate. Raises `RuntimeFailure` where the device has no room."""
        super().__init__(layers, capacity)
        self._device = device
        self._shape = (layers, kv_heads, head_dim)
        self._layer_bytes = capacity * kv_heads * head_dim * 2
        self._keys, self._values = (device.empty(max(layers * self._layer_bytes, 16)) for _ in range(2))
        self.graphs: dict[int, Graph] = {}
        self.recorded_with: tuple[object, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes held by keys and values."""
        return 2 * len(self._stored) * self._layer_bytes

    def addresses(self, layer: int) -> tuple[int, int]:
        """Where keys and values of a layer begin."""
        start = layer * self._layer_bytes
        return self._keys.address + start, self._values.address + start

    def begin(self, count: int) -> None:
        """Take `count` rows of every layer as appended, which the caller writes.

        Raises `ContextOverflow` where the rows do not fit.
        """
        self._stored = [self.end_of(count)] * len(self._stored)

    def append(self, layer: int, k: Array, v: Array) -> None:
        """Store rows (T, G, D) of one layer after the rows of finished forwards, rounded to even.

        Raises `ContextOverflow` where they do not fit.
        """
        end = self.end_of(len(k))
        for buffer, rows in ((self._keys, k), (self._values, v)):
            with np.errstate(over="ignore"):
                halves = np.ascontiguousarray(rows, np.float16)
            if halves.size:
                self._device.upload(buffer, self._at(layer, self._length), halves)
        self._stored[layer] = end

    def rows(self, layer: int) -> tuple[Array, Array]:
        """All rows (R, G, D) of one layer, the ones just appended included: copies, NumPy's float16."""
        return self._read(self._keys, layer), self._read(self._values, layer)

    def _read(self, buffer: Buffer, layer: int) -> np.ndarray:
        _, G, D = self._shape
        out = np.empty((self._stored[layer], G, D), np.float16)
        if out.size:
            self._device.download(buffer, self._at(layer, 0), out)
        return out

    def _at(self, layer: int, row: int) -> int:
        _, G, D = self._shape
        return layer * self._layer_bytes + row * G * D * 2

    def fork(self) -> Self:
        """Return a cache with the same rows and capacity; what one appends does not reach the other."""
        layers, G, D = self._shape
        other = type(self)(self._device, layers, G, D, self._capacity)
        other._take(self)  # noqa: SLF001 (its own class)
        return other

    def _take(self, source: Self) -> None:
        for to, other in ((self._keys, source._keys), (self._values, source._values)):
            self._device.copy(to, 0, other, 0, len(self._stored) * self._layer_bytes)
        self._stored, self._length = list(source._stored), source._length

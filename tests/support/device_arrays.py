"""Arrays to a device and back, for tests of kernels."""

import numpy as np

from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.layouts import Matrix, Rounded, to_device


class Room:
    """Buffers of one device, held as long as this is; arrays go there and come back."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._held = {}

    def put(self, array) -> int:
        """Address of a copy of an array."""
        buffer = self.device.empty(max(array.nbytes, 16))
        self.device.upload(buffer, 0, np.ascontiguousarray(array))
        self._held[buffer.address] = buffer
        return buffer.address

    def make(self, *shape, dtype=np.float32) -> int:
        """Address of room for an array, filled with what no kernel should leave: NaN, or a large number."""
        filled = np.full(shape, 0x7F7F7F7F7F7F7F7F if dtype == np.int64 else 0x7F, dtype)
        return self.put(filled if np.dtype(dtype).kind != "f" else np.full(shape, np.nan, dtype))

    def take(self, address: int, *shape, dtype=np.float32):
        """Array at an address that `put` or `make` gave."""
        out = np.empty(shape, dtype)
        self.device.download(self._held[address], 0, out)
        return out

    def matrix(self, raw, kind, columns) -> Matrix:
        """Rows (rows, bytes) as in a file, or (E, rows, bytes), as a matrix on the device."""
        return Matrix(self.put(to_device(raw, kind)), kind, raw.shape[-2], columns)

    def rounded(self, rows: int, columns: int) -> Rounded:
        """Room for rounded rows."""
        return Rounded.at(self.make(Rounded.nbytes(rows, columns), dtype=np.uint8), rows, columns)

    def rounded_arrays(self, rounded: Rounded, rows: int):
        """The three arrays of rounded rows: q (T, B, 256), d (T, B), sums (T, B, 8)."""
        blocks = rows * -(-rounded.columns // 256)
        raw = self.take(rounded.q, Rounded.nbytes(rows, rounded.columns), dtype=np.uint8)
        q, sums = raw[: blocks * 256].view(np.int8), raw[blocks * 256 : blocks * 272].view(np.int16)
        d = raw[blocks * 272 : blocks * 276].view(np.float32)
        return q.reshape(rows, -1, 256), d.reshape(rows, -1), sums.reshape(rows, -1, 8)

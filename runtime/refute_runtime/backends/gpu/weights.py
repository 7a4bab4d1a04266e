"""A model's weights in device memory, read from the file while they are uploaded."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from refute_runtime.backends import blocks
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.layouts import Matrix, row_bytes, to_device
from refute_runtime.config import ModelConfig
from refute_runtime.gguf_reader import GgufFile, TensorInfo
from refute_runtime.quant import BLOCKS, dequantize
from refute_runtime.resident import fill

Progress = Callable[[int, int], None]
"""Told bytes uploaded and bytes in all, of the file."""

_PIECE = 16 << 20  # bytes read at once
_READERS = 3  # they read and rearrange ahead, while earlier pieces are uploaded
_AHEAD = 6  # pieces in host memory at most
_ALIGNMENT = 256


def device_bytes(file: GgufFile) -> int:
    """Bytes that all tensors take on a device."""
    return sum(_up(_nbytes(info)) for info in file.tensors.values())


class DeviceWeights:
    """Every tensor of a file in one buffer: matrices as the kernels read them, vectors as float32."""

    def __init__(self, device: Device, file: GgufFile, progress: Progress | None = None) -> None:
        """Upload. Raises `FormatError` for a file that ends early, `RuntimeFailure` without room."""
        self._infos = file.tensors
        self._places: dict[str, int] = {}
        size = 0
        for name, info in file.tensors.items():
            self._places[name] = size
            size += _up(_nbytes(info))
        self._buffer = device.empty(size)
        done, total = 0, sum(info.nbytes for info in file.tensors.values())
        for name, at, piece, read in _ahead(file):
            device.upload(self._buffer, self._places[name] + at, piece)
            done += read
            if progress is not None:
                progress(done, total)
        device.synchronize()

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        return self._buffer.nbytes

    def matrix(self, name: str) -> Matrix:
        """Return a tensor (rows, columns), or the first of (E, rows, columns)."""
        info = self._infos[name]
        return Matrix(self._address(name), info.type, info.shape[-2], info.shape[-1])

    def vector(self, name: str) -> int:
        """Address of a norm's weights as float32."""
        return self._address(name)

    def _address(self, name: str) -> int:
        return self._buffer.address + self._places[name]


def _nbytes(info: TensorInfo) -> int:
    if len(info.shape) == 1:
        return 4 * info.shape[0]
    return math.prod(info.shape[:-1]) * row_bytes(info.type, info.shape[-1])


def _up(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


Piece = tuple[str, int, np.ndarray, int]
"""A tensor's name, where on the device in it, the bytes there, and how many bytes of the file they were."""


def _ahead(file: GgufFile) -> Iterator[Piece]:
    """Pieces in the order of the file, read by threads a few ahead: never more than these in host memory."""
    waiting: deque[Future[Piece]] = deque()
    with ThreadPoolExecutor(_READERS, "reader") as readers:
        try:
            for name, info in sorted(file.tensors.items(), key=lambda item: item[1].offset):
                for first, rows in _parts(info):
                    waiting.append(readers.submit(_piece, file.path, name, info, first, rows))
                    if len(waiting) >= _AHEAD:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            readers.shutdown(wait=True, cancel_futures=True)


def _parts(info: TensorInfo) -> Iterator[tuple[int, int]]:
    """Rows that are read at once: the first, and how many."""
    if len(info.shape) == 1:
        yield 0, 1
        return
    rows = math.prod(info.shape[:-1])
    step = max(1, _PIECE // (info.nbytes // rows))
    for first in range(0, rows, step):
        yield first, min(step, rows - first)


def _piece(path: Path, name: str, info: TensorInfo, first: int, rows: int) -> Piece:
    elements, size = BLOCKS[info.type]
    width = info.shape[-1] // elements * size
    raw = np.empty((rows, width), np.uint8)
    fill(path, name, info.offset + first * width, raw.reshape(-1).data)
    if len(info.shape) == 1:
        values = np.array(dequantize(raw, info.type), np.float32).reshape(-1)
        return name, 0, values.view(np.uint8), raw.nbytes
    arranged = to_device(raw, info.type)
    return name, first * row_bytes(info.type, info.shape[-1]), arranged, raw.nbytes


def lacks(file: GgufFile, config: ModelConfig) -> str | None:
    """Why a model cannot be computed with by the kernels, or None."""
    matrices = {name: info.type for name, info in file.tensors.items() if len(info.shape) > 1}
    refused = blocks.unknown_type(matrices)
    if refused is not None:
        return refused
    if config.head_dim % 16 or not 16 <= config.head_dim <= 256:
        return f"heads have {config.head_dim} elements, expected a multiple of 16 up to 256"
    if config.moe and not (config.experts_per_token <= 32 and config.experts <= 1024):
        return f"{config.experts_per_token} of {config.experts} experts, expected at most 32 of 1024"
    return None

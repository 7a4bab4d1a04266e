"""A model's weights: checked against its configuration, dequantized when asked for, a bounded number kept."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.config import ModelConfig
from refute_runtime.errors import FormatError, RequestError, UnsupportedError
from refute_runtime.gguf_reader import GgufFile, TensorInfo
from refute_runtime.quant import Array, dequantizable, dequantize
from refute_runtime.resident import Blocks

_F32 = 4  # bytes
_SMALL_PARTS = 8  # a small matrix fits so many times into what may be kept
_LINE = 16  # floats: arrays begin at lines of the processor's cache

__all__ = ["GgufFile", "TensorInfo", "Weights"]


class Weights:
    """Tensors of one file as float32 arrays of `xp` (NumPy or CuPy); treat them as read-only.

    blocks: the same tensors as the bytes of the file, for a backend that computes on these.
    """

    def __init__(self, file: GgufFile, config: ModelConfig, xp: Any = np, cache_bytes: int = 1 << 30) -> None:
        """Check every tensor that the model needs, and that there is no other.

        `cache_bytes` bounds what is kept of dequantized tensors; the least recently used go first.
        """
        self._file = file
        self._xp = xp
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[str, int | None], Array] = OrderedDict()
        self._cached_bytes = 0
        self.blocks: Blocks | None = None
        self._refuse_mismatch(config.tensor_shapes(), config.architecture)
        self._room = self._room_for_all()

    def tensor(self, name: str) -> Array:
        """Return a whole tensor in its NumPy shape."""
        return self._kept(name, None)

    def expert(self, name: str, expert: int) -> Array:
        """Return one expert's matrix (rows, columns) of a tensor (experts, rows, columns)."""
        return self._kept(name, expert)

    def raw(self, name: str) -> np.ndarray:
        """Return a tensor as it lies in the file, uint8 (..., row_bytes).

        C-contiguous, and always a writeable array, but not to be written. Raises ValueError where no blocks
        were loaded, FormatError for a tensor that is not there.
        """
        if self.blocks is None:
            raise ValueError(f"{self._file.path}: its blocks were not loaded")
        if name not in self.blocks.tensors:
            raise FormatError(f"{self._file.path}: the tensor {name} is missing")
        return self.blocks.tensors[name]

    def type_of(self, name: str) -> TensorType:
        """Return a tensor's type."""
        return self._file.tensors[name].type

    def types(self) -> dict[str, TensorType]:
        """Return the type of every tensor."""
        return {name: info.type for name, info in self._file.tensors.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's NumPy shape, in elements."""
        return self._file.tensors[name].shape

    @property
    def resident(self) -> int:
        """Bytes of memory that the blocks take of their own: none where they are mapped."""
        return 0 if self.blocks is None else self.blocks.held

    def most_kept(self, *, by_rows: Sequence[str] = ()) -> int:
        """Bytes of dequantized tensors kept at most; `by_rows` names those that `rows` alone reads."""
        kept = [name for name in self._file.tensors if name not in by_rows or self._whole(name)]
        return min(sum(map(self._bytes, kept)), self._cache_bytes)

    def largest(self) -> int:
        """Bytes of the largest matrix that is dequantized at once: a tensor, or one expert of it."""
        shapes = (info.shape for info in self._file.tensors.values())
        return _F32 * max(math.prod(shape[-2:]) for shape in shapes)

    def rows(self, name: str, ids: Sequence[int] | np.ndarray) -> Array:
        """Return some rows (ids, columns) of a matrix, for embeddings; a small matrix is kept whole.

        Raises RequestError for an id that is not a row.
        """
        if self._whole(name):
            return self.tensor(name)[self.index(name, ids)]
        return self.rows_alone(name, ids)

    def rows_alone(self, name: str, ids: Sequence[int] | np.ndarray) -> Array:
        """Like `rows`, and nothing is kept."""
        index = self.index(name, ids)
        return dequantize(self._file.raw(name)[index], self._file.tensors[name].type, self._xp)

    def index(self, name: str, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return ids (ids,) int64 of rows of a matrix. Raises RequestError for one that is not a row."""
        index, count = np.asarray(ids, dtype=np.int64), self._file.tensors[name].shape[0]
        wrong = index[(index < 0) | (index >= count)]
        if wrong.size:
            raise RequestError(f"token {wrong[0]} is not in the vocabulary; expected 0 to {count - 1}")
        return index

    def _whole(self, name: str) -> bool:
        """Whether `rows` keeps a matrix: to dequantize one row takes as many steps as to dequantize all."""
        return self._bytes(name) * _SMALL_PARTS <= self._cache_bytes

    def _bytes(self, name: str) -> int:
        return _F32 * math.prod(self._file.tensors[name].shape)

    def _kept(self, name: str, expert: int | None) -> Array:
        key = (name, expert)
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
            return found
        raw, info = self._file.raw(name), self._file.tensors[name]
        shape = info.shape
        if expert is not None:
            count, *matrix = shape
            raw, shape = raw.reshape(count, -1, raw.shape[-1])[expert], tuple(matrix)
        out = self._room.array(shape) if self._room is not None and info.type is not TensorType.F32 else None
        value = dequantize(raw, info.type, self._xp, out).reshape(shape)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False  # it is shared; CuPy has no such flag
        self._keep(key, value)
        return value

    def _room_for_all(self) -> _Room | None:
        """Room for all that is ever dequantized, where nothing of it will have to go."""
        sizes = {name: self._bytes(name) for name in self._file.tensors}
        if self._xp is not np or sum(sizes.values()) > self._cache_bytes:
            return None
        tensors = [info for info in self._file.tensors.values() if info.type is not TensorType.F32]
        lines = sum(math.prod(info.shape[:-2]) * -(-math.prod(info.shape[-2:]) // _LINE) for info in tensors)
        return _Room((lines + 1) * _LINE)

    def _keep(self, key: tuple[str, int | None], value: Array) -> None:
        if value.nbytes > self._cache_bytes:
            return
        self._cache[key] = value
        self._cached_bytes += value.nbytes
        while self._cached_bytes > self._cache_bytes:
            _, gone = self._cache.popitem(last=False)
            self._cached_bytes -= gone.nbytes

    def _refuse_mismatch(self, shapes: dict[str, tuple[int, ...]], architecture: str) -> None:
        path, tensors = self._file.path, self._file.tensors
        for name, shape in shapes.items():
            info = tensors.get(name)
            if info is None:
                raise FormatError(f"{path}: the tensor {name} is missing; expected it with shape {shape}")
            if info.shape != shape:
                raise FormatError(
                    f"{path}: the tensor {name} has shape {info.shape}; expected {shape} by the metadata"
                )
            if not dequantizable(info.type):
                raise UnsupportedError(
                    f"{path}: the tensor {name} has type {info.type.name}, which cannot be dequantized; "
                    "expected F32, F16, BF16, Q8_0, a K type or another that gguf dequantizes"
                )
        for name in tensors:
            if name not in shapes:
                raise UnsupportedError(
                    f"{path}: the tensor {name} is not part of a plain {architecture} model; expected only "
                    "tensors that this runtime computes with, as the others would be ignored"
                )


class _Room:
    """One allocation for many arrays, so large that the system maps it in huge pages where it has them.

    A forward reads weights once each, from memory: with small pages, the processor spends up to a seventh of
    a product on finding them. Nothing is held until it is written.
    """

    def __init__(self, floats: int) -> None:
        self._floats = np.empty(floats, np.float32)
        self._used = -(self._floats.ctypes.data // _F32) % _LINE

    def array(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """Give an array in here, to be written; None where there is no room left."""
        begin, size = self._used, math.prod(shape)
        if begin + size > self._floats.size:
            return None
        self._used += -(-size // _LINE) * _LINE
        return self._floats[begin : begin + size].reshape(shape)

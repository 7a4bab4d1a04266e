"""The model's parts as kernels are given them: matrices of each layer, sizes, and work space."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from refute_runtime.backends.gpu.device import Buffer, Device
from refute_runtime.backends.gpu.launches import NOTHING, Heads
from refute_runtime.backends.gpu.layouts import Matrix, Rounded
from refute_runtime.backends.gpu.weights import DeviceWeights
from refute_runtime.config import ModelConfig

_ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Layer:
    """Norms are addresses. gate, up, down: of the first expert, where there are experts, else no router."""

    attention_norm: int
    query_norm: int
    key_norm: int
    q: Matrix
    k: Matrix
    v: Matrix
    out: Matrix
    forward_norm: int
    router: Matrix | None
    gate: Matrix
    up: Matrix
    down: Matrix


@dataclass(frozen=True, slots=True)
class Sizes:
    """Letters as in `backends/base.py`; L layers, F the width of an expert, or of the feed-forward."""

    L: int
    heads: Heads
    H: int
    F: int
    E: int
    K: int
    V: int
    eps: float

    @classmethod
    def in_config(cls, config: ModelConfig) -> Self:
        """Those of a model."""
        return cls(**_sizes(config))


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {
        "L": config.layers,
        "heads": Heads(config.heads, config.kv_heads, config.head_dim),
        "H": config.hidden,
        "F": config.expert_ffn if config.moe else config.dense_ffn,
        "E": config.experts,
        "K": config.experts_per_token,
        "V": config.vocabulary,
        "eps": config.rms_eps,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Sizes):
    """All of a model."""

    layers: tuple[Layer, ...]
    embedding: Matrix
    output_norm: int
    output: Matrix

    @classmethod
    def of(cls, weights: DeviceWeights, config: ModelConfig) -> "Parts":
        """Look everything up."""
        matrix, vector = weights.matrix, weights.vector
        exps = "_exps" if config.moe else ""

        def layer(index: int) -> Layer:
            name = f"blk.{index}"
            return Layer(
                vector(f"{name}.attn_norm.weight"),
                vector(f"{name}.attn_q_norm.weight"),
                vector(f"{name}.attn_k_norm.weight"),
                matrix(f"{name}.attn_q.weight"),
                matrix(f"{name}.attn_k.weight"),
                matrix(f"{name}.attn_v.weight"),
                matrix(f"{name}.attn_output.weight"),
                vector(f"{name}.ffn_norm.weight"),
                matrix(f"{name}.ffn_gate_inp.weight") if config.moe else None,
                matrix(f"{name}.ffn_gate{exps}.weight"),
                matrix(f"{name}.ffn_up{exps}.weight"),
                matrix(f"{name}.ffn_down{exps}.weight"),
            )

        return cls(
            **_sizes(config),
            layers=tuple(layer(index) for index in range(config.layers)),
            embedding=matrix("token_embd.weight"),
            output_norm=vector("output_norm.weight"),
            output=matrix("token_embd.weight" if config.tied else "output.weight"),
        )


class Space:
    """Work space: arrays in one buffer, given out from its beginning to its end."""

    def __init__(self, device: Device | None, buffer: Buffer | None) -> None:
        """Both None to only count what would be taken."""
        self._device = device
        self._buffer = buffer
        self.used = 0

    def take(self, *shape: int, size: int = 4) -> int:
        """Address of an array of elements of `size` bytes."""
        at = self.used
        self.used += -(-math.prod(shape) * size // _ALIGNMENT) * _ALIGNMENT
        if self._buffer is None:
            return _ALIGNMENT + at  # an address that is not 0
        if self.used > self._buffer.nbytes:
            raise ValueError(f"work space of {self._buffer.nbytes} bytes, expected {self.used} at least")
        return self._buffer.address + at

    def rounded(self, rows: int, columns: int) -> Rounded:
        """Room for rounded rows."""
        return Rounded.at(self.take(Rounded.nbytes(rows, columns), size=1), rows, columns)

    def put(self, address: int, array: np.ndarray) -> None:
        """Copy an array of the host to an address of the space."""
        if self._buffer is not None and self._device is not None:
            self._device.upload(self._buffer, address - self._buffer.address, np.ascontiguousarray(array))

    def fetch(self, address: int, out: np.ndarray) -> np.ndarray:
        """Copy an array of the space to the host, when all that was enqueued is done."""
        if out.size and self._buffer is not None and self._device is not None:
            self._device.download(self._buffer, address - self._buffer.address, out)
        return out


def routing(
    space: Space, of: Sizes, T: int, addresses: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the routers of all layers said of T tokens: experts, shares (L, T, K), gaps (L, T), 1 without."""
    experts, shares = np.empty((of.L, T, of.K), np.int64), np.empty((of.L, T, of.K), np.float32)
    gaps = np.ones((of.L, T), np.float32)
    if of.K:
        arrays: tuple[np.ndarray, ...] = (experts, shares, gaps)
        for address, out in zip(addresses, arrays, strict=True):
            space.fetch(address, out)
    return experts, shares, gaps


def forms(needed: tuple[Matrix, ...], rounded: Rounded, floats: int) -> tuple[Rounded, int]:
    """What these matrices read of rows: their rounded form, their floats, or both."""
    wants_floats = any(matrix.floats for matrix in needed)
    wants_rounded = any(not matrix.floats for matrix in needed)
    return rounded if wants_rounded else NOTHING, floats if wants_floats else 0

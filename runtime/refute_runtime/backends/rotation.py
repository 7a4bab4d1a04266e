"""Angles of RoPE, one definition for every backend."""

from typing import Any

import numpy as np

from refute_runtime.backends.base import Array
from refute_runtime.config import ModelConfig


class Rotation:
    """Cosine and sine of positions, kept for those asked for last: all layers of a forward ask for the same.

    Angles are float64: at position 100,000 a float32 angle is off by up to 0.004.
    """

    def __init__(self, config: ModelConfig, xp: Any = np) -> None:
        """xp: whose arrays are given, NumPy's or CuPy's."""
        half = config.head_dim // 2
        self._frequencies = config.rope_base ** (-np.arange(half) / half)  # (D / 2,) float64
        self._xp = xp
        self._last: tuple[bytes, Array, Array] = (b"", None, None)

    def __call__(self, positions: np.ndarray) -> tuple[Array, Array]:
        """Cosine and sine (T, D / 2) float32 of positions (T,)."""
        key = positions.tobytes()
        if self._last[0] != key:
            self._last = (key, *self.table(positions))
        return self._last[1], self._last[2]

    def table(self, positions: np.ndarray) -> tuple[Array, Array]:
        """Return the same, and keep nothing: for as many positions as there are."""
        angle = positions[:, None] * self._frequencies
        cos, sin = (self._xp.asarray(f(angle), dtype=np.float32) for f in (np.cos, np.sin))
        return cos, sin

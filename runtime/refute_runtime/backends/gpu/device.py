"""What the host asks of a GPU, as a Protocol: memory, launches, and a recorded sequence of launches.

Everything is in the order of one stream. The seam lets tests run the kernels' own sources on the host.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np


class Buffer(Protocol):
    """A piece of device memory, held as long as this object is."""

    @property
    def address(self) -> int:
        """Where it begins, for kernels."""
        ...

    @property
    def nbytes(self) -> int: ...


class Graph(Protocol):
    """A recorded sequence of launches; the buffers that it names must outlive it."""

    def launch(self) -> None:
        """Enqueue all of it at once."""
        ...


class Device(Protocol):
    """One GPU and one stream of it."""

    @property
    def name(self) -> str: ...

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability: (9, 0) for sm_90."""
        ...

    @property
    def details(self) -> Mapping[str, object]:
        """What else of it a record should say, such as its driver and with what kernels were compiled."""
        ...

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes in all."""
        ...

    def empty(self, nbytes: int) -> Buffer:
        """Allocate; nothing is written. Raises `RuntimeFailure` where there is no room."""
        ...

    def mapped(self, nbytes: int) -> tuple[Buffer, np.ndarray]:
        """Allocate host memory that kernels can write: its device address, and it as uint8 (nbytes,)."""
        ...

    def upload(self, to: Buffer, offset: int, data: np.ndarray) -> None:
        """Copy a C-contiguous array to a buffer, `offset` bytes in; `data` may be changed after the call."""
        ...

    def download(self, source: Buffer, offset: int, out: np.ndarray) -> None:
        """Copy from a buffer into a C-contiguous array, when all that was enqueued is done."""
        ...

    def copy(self, to: Buffer, to_offset: int, source: Buffer, offset: int, nbytes: int) -> None:
        """Copy between buffers; enqueued."""
        ...

    def fill(self, to: Buffer, offset: int, nbytes: int, value: int = 0) -> None:
        """Set bytes; enqueued."""
        ...

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int | np.float32],
        shared: int = 0,
    ) -> None:
        """Enqueue a kernel: integers and addresses are int64, others float32. shared: dynamic bytes."""
        ...

    def capture(self) -> AbstractContextManager[list[Graph]]:
        """Record launches instead of enqueueing them; the list holds the graph afterwards."""
        ...

    def synchronize(self) -> None:
        """Wait for all that was enqueued. Raises `RuntimeFailure` where a kernel failed."""
        ...

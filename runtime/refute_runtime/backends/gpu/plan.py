"""What a model takes of a device's memory, and the sentence where that is too much."""

from refute_runtime.backends.gpu import decoder, prefill
from refute_runtime.backends.gpu.device import Device
from refute_runtime.backends.gpu.layers import Sizes
from refute_runtime.errors import RuntimeFailure

_GIB = 1 << 30


def workspace(of: Sizes, tokens: int, rows: int) -> int:
    """Bytes of work space for forwards of so many tokens over so many rows, and for decoding after them."""
    prefilling = prefill.bytes_wanted(of, max(tokens, 1), max(rows, 1), all_logits=False)
    return prefilling + decoder.bytes_wanted(of, max(rows, 1))


def check_model(free: int, weights: int, row_bytes: int, work: int, rows: int, what: str) -> None:
    """Refuse a model that does not fit with a cache of `rows` rows and `work` bytes of work space.

    Raises `RuntimeFailure` with the arithmetic and the rows that would fit.
    """
    wanted = weights + rows * row_bytes + work
    if wanted <= free:
        return
    left = free - weights - work
    fits = f"{left // row_bytes} positions would fit" if left >= row_bytes else "no context would fit"
    raise RuntimeFailure(
        f"{what} needs {_gib(wanted)} ({_gib(weights)} of weights, {_gib(rows * row_bytes)} of keys and "
        f"values for {rows} positions, {_gib(work)} of work space), but the GPU has {_gib(free)} free; "
        f"{fits}: use a GPU with more memory, a smaller file, or --backend cpu"
    )


def check_rows(device: Device, rows: int, row_bytes: int) -> None:
    """Refuse a cache that does not fit. Raises `RuntimeFailure` with the arithmetic and what would fit."""
    free, wanted = device.memory[0], rows * row_bytes
    if wanted > free:
        raise RuntimeFailure(
            f"a cache of {rows} positions needs {_gib(wanted)} ({row_bytes} bytes a position), but the GPU "
            f"has {_gib(free)} free: at most {free // row_bytes} positions fit; shorten prompt and max_tokens"
        )


def _gib(nbytes: int) -> str:
    return f"{nbytes / _GIB:.2f} GiB"

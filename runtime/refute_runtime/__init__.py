"""A small runtime for Qwen3-MoE and dense Qwen3 models in GGUF files; start with `Engine.load`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refute_runtime.engine import Engine as Engine
    from refute_runtime.sampling import SamplingParams as SamplingParams

__all__ = ["Engine", "SamplingParams"]

_HOME = {"Engine": "refute_runtime.engine", "SamplingParams": "refute_runtime.sampling"}


def __getattr__(name: str) -> Any:
    """Import on first use: reading this package's errors must not load NumPy."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

"""Tells Numba where compiled kernels lie: by what their sources say, not by where these lie or their times.

So copies of the same sources (another checkout, an installed package, a container's layer) share what one of
them compiled. Numba imports this by name, and only then is it needed.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from numba.core.caching import _CacheLocator

from refute_runtime.backends.simd import build


class Locator(_CacheLocator):  # type: ignore[misc]
    """Of one function."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._line = function.__code__.co_firstlineno
        self._stamp = hashlib.sha256(Path(file).read_bytes()).hexdigest()

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> Self:
        """Make one for a function in a file."""
        return cls(function, file)

    def get_cache_path(self) -> str:
        """Give the folder of this state of all sources."""
        return str(build.folder().path)

    def get_source_stamp(self) -> str:
        """Give what changes with the function's own file."""
        return self._stamp

    def get_disambiguator(self) -> str:
        """Tell apart functions of one name in one file."""
        return str(self._line)

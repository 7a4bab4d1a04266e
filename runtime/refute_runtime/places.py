"""Where things are kept on this machine."""

from collections.abc import Mapping
from pathlib import Path


def user_cache(environ: Mapping[str, str], system: str) -> Path:
    """Where programs keep what they can make again, by the customs of the system.

    Raises RuntimeError where there is no such place.
    """
    if system == "Windows":
        return Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if system == "Darwin":
        return Path.home() / "Library" / "Caches"
    named = Path(environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"  # by its specification

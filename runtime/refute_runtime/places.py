"""Where things are kept on this machine."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
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


def write_whole(path: Path, content: bytes) -> None:
    """Write and then rename, so that no other process reads half of it. Raises OSError."""
    handle, written = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    Path(written).replace(path)


def prune(entries: Iterable[Path], kept: int) -> None:
    """Remove all files and folders but those changed last; who uses one of the others makes it again."""
    with suppress(OSError):
        newest = sorted(entries, key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for old in newest[kept:]:
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()

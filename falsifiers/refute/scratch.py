"""Folders for what a process needs on the side. One that a killed process left is removed by the next one.

A folder holds a lock of its process as long as that lives: nothing else says so, and the system gives it back
however the process ends.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from refute.locks import lock, locked

_PREFIX = "refute-"
_OWNER = ".owner"


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Make an empty folder, and remove it with all that is in it at the end. what: part of its name."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what}-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Under its name the file is locked already: nobody can take the folder for one that was left.
        waiting = folder / f"{_OWNER}.new"
        descriptor = hold(waiting)
        stack.callback(os.close, descriptor)
        waiting.rename(folder / _OWNER)
        yield folder


def sweep() -> None:
    """Remove the folders of this user whose processes are gone."""
    if not hasattr(os, "getuid"):
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        with suppress(OSError):
            status = folder.lstat()
            if status.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink():
                owner = folder / _OWNER
                if owner.is_file() and not held(owner):
                    shutil.rmtree(folder, ignore_errors=True)


def hold(path: Path) -> int:
    """Make a file and lock it until the descriptor is closed, or this process ends in whatever way."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    lock(descriptor)
    return descriptor


def held(path: Path) -> bool:
    """Whether a process holds the file. Raises OSError."""
    with locked(path, wait=False) as ours:
        return not ours

"""Locks of files and folders between processes: the system gives them back however their holder ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open file until it is closed; whether this process has it now.

    Where the system has no such locks, everybody gets one.
    """
    try:
        import fcntl  # noqa: PLC0415 (not on every system)
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Lock a file or folder in here; without waiting it may be another's, as is told. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        yield lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)

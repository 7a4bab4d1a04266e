"""Whoever measures times has the host alone: the workers of one run share a room, and one may ask for it.

A worker is in the room while it attacks. One that wants it alone leaves, bars the door, and waits until every
other one is done or at its next case, which it may not begin before the door is open again. Locks on files:
the system gives them back when a worker dies.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(slots=True)
class Room:
    """One worker's key to it. door, inside: descriptors of files that all workers of the run open."""

    door: int
    inside: int
    alone: bool = False

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Share the room of a folder; nobody is in it yet. Raises OSError."""
        mode = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        door, inside = (os.open(folder / name, mode, 0o600) for name in ("door", "inside"))
        return cls(door, inside)

    def __enter__(self) -> Self:
        """Go in; wait where somebody has the room alone, or waits for that."""
        fcntl.flock(self.door, fcntl.LOCK_SH)
        fcntl.flock(self.inside, fcntl.LOCK_SH)
        fcntl.flock(self.door, fcntl.LOCK_UN)
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.inside, fcntl.LOCK_UN)

    def pass_by(self) -> None:
        """Let whoever waits have the room alone; to be called between cases."""
        if not self.alone:
            self.__exit__()
            self.__enter__()

    @contextmanager
    def to_oneself(self) -> Iterator[None]:
        """Be alone in the room that one is in."""
        self.__exit__()
        fcntl.flock(self.door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self.inside, fcntl.LOCK_EX)
            self.alone = True
            yield
        finally:
            self.alone = False
            fcntl.flock(self.inside, fcntl.LOCK_SH)
            fcntl.flock(self.door, fcntl.LOCK_UN)

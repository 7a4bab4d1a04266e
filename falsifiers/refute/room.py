"""Whoever measures times has the host alone: the workers of one run share a room, and one may ask for it.

A worker is in the room while it attacks. One that wants it alone leaves, bars the door, and waits until every
other one is done or at its next case, which it may not begin before the door is open again. Locks on files:
the system gives them back when a worker dies. Each worker also holds a file of its own, by which the
controller knows whom to tell that the run ends.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from refute.scratch import held, hold

_WORKER = "worker-"


@dataclass(slots=True)
class Room:
    """One worker's key to it. door, inside: descriptors of files that all workers of the run open.

    own: of the worker's own file. parent: the process that started this one.
    """

    door: int
    inside: int
    own: int
    parent: int
    alone: bool = False

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Share the room of a folder; nobody of this process is in it yet. Raises OSError."""
        mode = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        door, inside = (os.open(folder / name, mode, 0o600) for name in ("door", "inside"))
        return cls(door, inside, hold(folder / f"{_WORKER}{os.getpid()}.{door}"), os.getppid())

    def __enter__(self) -> Self:
        """Go in; wait where somebody has the room alone, or waits for that."""
        fcntl.flock(self.door, fcntl.LOCK_SH)
        fcntl.flock(self.inside, fcntl.LOCK_SH)
        fcntl.flock(self.door, fcntl.LOCK_UN)
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self.inside, fcntl.LOCK_UN)

    def pass_by(self) -> None:
        """Let whoever waits have the room alone; to be called between cases.

        Raises KeyboardInterrupt where the controller is gone: nobody takes what this worker finds.
        """
        if os.getppid() != self.parent:
            raise KeyboardInterrupt
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


def tell_workers(folder: Path, number: signal.Signals) -> None:
    """Send a signal to every worker of a room that lives."""
    for own in folder.glob(f"{_WORKER}*"):
        with suppress(OSError):  # it ended meanwhile
            if held(own):
                os.kill(int(own.stem.removeprefix(_WORKER)), number)

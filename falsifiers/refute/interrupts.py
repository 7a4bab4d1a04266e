"""What Ctrl-C and SIGTERM do to a run: the first seals its records, a second one ends the process at once.

Python answers signals between two lines of the main thread, so an interrupt may come anywhere in it, and is
swallowed where it comes in a callback of native code. A record is therefore written `unbroken`, and who runs
long asks `check` now and then.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from refute.verdict import Exit

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN = "interrupted: the records are being sealed; once more ends it at once"


@dataclass(slots=True)
class Interrupts:
    """The interrupts of one run.

    say: shows a sentence at the first one. abandon: what the second one does before the process ends; it is
    called between two lines of whatever runs then.
    """

    say: Callable[[str], None]
    abandon: Callable[[], None] = lambda: None
    _count: int = field(default=0, init=False)

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return self._count > 0

    def check(self) -> None:
        """Raise KeyboardInterrupt where one came: it may have been swallowed."""
        if self._count:
            raise KeyboardInterrupt

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Answer them in here; only the main thread can."""
        with _handlers(self._interrupt):
            yield

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG002 (as Python calls it)
        self._count += 1
        if self._count > 1:
            with suppress(Exception):  # nothing keeps it
                self.abandon()
            os._exit(Exit.INTERRUPTED)
        self.say(_AGAIN)
        raise KeyboardInterrupt


@contextmanager
def unbroken() -> Iterator[None]:
    """Let no interrupt break what is done in here: it comes after it. A second one ends the process."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (as Python calls it)
        came.append(number)
        if len(came) > 1:
            os._exit(Exit.INTERRUPTED)

    try:
        with _handlers(note):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextmanager
def obeying(controller: int) -> Iterator[None]:
    """End a worker when its controller says so with SIGTERM, or is gone.

    Ctrl-C on a terminal reaches workers too: it is their controller's business. What waits for a worker of a
    dead controller sends it SIGINT.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (as Python calls it)
        if number == signal.SIGTERM or os.getppid() != controller:
            raise KeyboardInterrupt

    with _handlers(interrupt):
        yield


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle both signals so in here; elsewhere than in the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, handler)
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)

"""Work on many things at once: half of them in a second process, which shares all that is known so far.

Only where a fork is safe, no other thread runs, and there is a second processor; else, and whenever the
second process gives no answer, all is done here.
"""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_halves(work: Callable[[Sequence[T]], R], items: Sequence[T], *, least: int) -> list[R]:
    """Return what `work` gives for the first and the second half, which is pickled.

    Where there are fewer than `least`, return what it gives for all.
    """
    if len(items) < least or not _can_fork():
        return [work(items)]
    first, second = items[: len(items) // 2], items[len(items) // 2 :]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(work, second, writing)
    os.close(writing)
    try:
        done = work(first)
        with os.fdopen(reading, "rb", closefd=False) as pipe:
            answer = pipe.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    try:
        return [done, pickle.loads(answer)]  # noqa: S301 (a process of our own wrote it)
    except (EOFError, pickle.UnpicklingError):  # it was killed, or broke: what broke it shows here
        return [done, work(second)]


def _can_fork() -> bool:
    if not hasattr(os, "fork") or not hasattr(os, "sched_getaffinity"):
        return False
    return threading.active_count() == 1 and not _kernels_ran() and len(os.sched_getaffinity(0)) > 1


def _kernels_ran() -> bool:
    """Whether the runtime's compiled kernels have started OpenMP's threads: a fork would lose them."""
    return "numba.np.ufunc.omppool" in sys.modules


def _answer(work: Callable[[Sequence[T]], R], items: Sequence[T], writing: int) -> NoReturn:
    """Do the second half and end, without anything that the first process has to do when it ends."""
    try:
        answer = memoryview(pickle.dumps(work(items), pickle.HIGHEST_PROTOCOL))
        while answer:
            answer = answer[os.write(writing, answer) :]
    finally:
        os._exit(0)

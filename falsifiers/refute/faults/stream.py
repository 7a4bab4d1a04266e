"""Stream faults: wrappers round a generation, between the engine that computes tokens and who takes them."""

from collections import deque
from collections.abc import Callable, Generator
from itertools import islice
from typing import TypeVar

from refute.faults.base import Fault
from refute.targets.base import CannotPlant

T = TypeVar("T")
Taken = Callable[[T], object]
Opens = Callable[[Taken[T] | None], Generator[T, None, None]]
"""Starts a generation of tokens, each of which is also given to a callback, where there is one."""


def wrap_stream(fault: Fault, opens: Opens[T]) -> Opens[T]:
    """Return what starts generations with this fault. Raises `CannotPlant` for faults of other seams."""
    dose = int(fault.dose)
    if dose < 1:
        raise CannotPlant(f"{fault}: needs a dose of at least one token")
    match fault.name:
        case "stop-ignored":
            return lambda taken: _stop_ignored(opens, taken, dose)
        case "stream-buffered":
            return lambda taken: _buffered(opens, taken, dose)
        case _:
            raise CannotPlant(f"{fault}: not a fault of the stream")


def _stop_ignored(opens: Opens[T], taken: Taken[T] | None, more: int) -> Generator[T, None, None]:
    """Compute up to `more` tokens that nobody sees after the stop."""
    tokens = opens(None)
    try:
        for token in tokens:
            wanted = taken is None or taken(token) is not False
            yield token
            if not wanted:
                break
        else:
            return
        deque(islice(tokens, more), maxlen=0)
    except GeneratorExit:
        deque(islice(tokens, more), maxlen=0)
        raise
    finally:
        tokens.close()


def _buffered(opens: Opens[T], taken: Taken[T] | None, ahead: int) -> Generator[T, None, None]:
    """Hand a token out only when `ahead` further ones, or all, are computed."""
    tokens = opens(None)
    try:
        held = deque(islice(tokens, ahead + 1))
        while held:
            token = held.popleft()
            wanted = taken is None or taken(token) is not False
            yield token
            if not wanted:
                return
            held.extend(islice(tokens, 1))
    finally:
        tokens.close()

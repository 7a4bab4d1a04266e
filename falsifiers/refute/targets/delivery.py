"""Take tokens one by one from an engine, and note how much it had computed at each."""

from collections.abc import Callable
from typing import TypeVar

from refute.faults.stream import Opens
from refute.targets.base import Delivery, Progress, TargetError

T = TypeVar("T")


def deliver(opens: Opens[T], delivery: Delivery, begun: Callable[[], int]) -> tuple[list[T], Progress]:
    """Run a generation as its caller asked; the tokens that were handed out, and the progress.

    begun: how many forwards the engine has begun by now. Raises `TargetError` for a stop before any token.
    """
    limit = delivery.stop_after
    if limit is not None and limit < 1:
        raise TargetError(f"stop_after is {limit}, expected at least 1 token, or none to take all")
    handed: list[T] = []
    forwards: list[int] = []

    def taken(token: T) -> bool:
        handed.append(token)
        forwards.append(begun())
        return limit is None or len(handed) < limit

    if delivery.by == "callback":
        for _ in opens(taken):
            pass  # the callback takes them
    else:
        tokens = opens(None)
        for token in tokens:
            if not taken(token):
                break
        tokens.close()
    return handed, Progress(tuple(forwards), begun())

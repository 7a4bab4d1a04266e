"""What answers over HTTP for a target, opened when it is first asked for."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property

from refute.wire.endpoint import Endpoint

SILENCE = 600.0
"""Seconds without a byte from a server that the run started: a large model computes long on a prompt."""


class Served:
    """An endpoint that is opened once, for whoever asks first, and closed where it was.

    opens: gives it; may raise what opening it raises, again for the next who asks.
    """

    def __init__(self, opens: Callable[[], AbstractContextManager[Endpoint]]) -> None:
        self._opens = opens
        self._opened = ExitStack()

    @cached_property
    def endpoint(self) -> Endpoint:
        return self._opened.enter_context(self._opens())

    def close(self) -> None:
        """Close it, where it was opened."""
        self._opened.close()

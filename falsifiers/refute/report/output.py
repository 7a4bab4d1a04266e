"""Standard output and error as they are: full, closed, or without the signs that are shown."""

import codecs
import errno
import io
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_ERRORS = "refute-plain"
_PLAIN = {"≥": ">=", "≤": "<=", "…": "...", "→": "->"}
_PLAIN |= {bar: str(height) for height, bar in enumerate("▁▂▃▄▅▆▇█", 1)}
_WIDE = 120  # columns where no terminal says how many


class Unshown(Exception):  # noqa: N818 (an answer to a person)
    """Output that nobody gets. unread: whoever read it has closed it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the output cannot be written: {error.strerror or error}")
        self.unread = isinstance(error, BrokenPipeError)


class Stream(io.TextIOWrapper):
    """Writes where another stream does, by a descriptor of its own; raises `Unshown`, from then on always."""

    def __init__(self, stream: TextIO) -> None:
        codecs.register_error(_ERRORS, _plain)
        own = os.dup(stream.fileno())
        weakref.finalize(self, os.close, own)
        raw = os.fdopen(own, "wb", closefd=False)
        super().__init__(raw, stream.encoding or "utf-8", errors=_ERRORS, line_buffering=True)
        self._failed: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            self._check()
            return super().write(text)
        except OSError as error:
            raise self._given_up(error) from None

    def flush(self) -> None:
        """Bring out what was written."""
        try:
            self._check()
            super().flush()
        except OSError as error:
            raise self._given_up(error) from None

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _given_up(self, error: OSError) -> Unshown:
        if self._failed is None:
            self._failed = error
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for what is still buffered: nobody is told of it
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        return Unshown(error)

    def close(self) -> None:
        """Close the descriptor; what is not written by then was told before."""
        if self._failed is None:
            super().close()
        else:
            self.buffer.close()


@contextmanager
def written() -> Iterator[None]:
    """Let `print` raise `Unshown` in here, and write what can be written: all of it, before the end."""
    if sys.stdout is None:  # it was closed before this process began
        raise Unshown(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        own = Stream(sys.stdout)
    except (OSError, ValueError):  # no file, as where a test captures it
        yield
        return
    with redirect_stdout(own):
        try:
            yield
        finally:
            own.flush()


def console_on(stream: TextIO) -> "Console":
    """A console on a descriptor of its own, out of reach of pytest's capturing."""
    from rich.console import Console  # noqa: PLC0415 (start-up time)

    own = Stream(stream)
    return Console(file=own, highlight=False, width=None if own.isatty() else _WIDE)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for signs that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each, "?") for each in lacking), error.end

"""A server in a process of its own, which never outlives this one."""

import re
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO

from refute.targets.base import TargetError
from refute.wire.child import environment

_KEPT = 100  # lines of what it says
_TOLD = 5  # of them in an error
_PATIENCE = 5.0  # seconds that it has to end once it is told to


class ServerProcess:
    """Start a module as a server and wait until it is ready.

    ready: a pattern for what it has said by then, lines of both streams together; `told` is the match.
    environ: its environment, by default this process's. seconds: how long it may take.
    Raises `TargetError`, with what it said last, where it ends before or is not ready by then.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        ready: str,
        *,
        environ: Mapping[str, str] | None = None,
        seconds: float = 600.0,
    ) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "refute.wire.child", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**(environment() if environ is None else environ), "PYTHONUNBUFFERED": "1"},
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # what interrupts this process is not for it: it is told to end
            )
        except OSError as error:
            raise TargetError(f"the server {module} cannot be started: {error.strerror or error}") from None
        assert self._process.stdout is not None
        self._output = _Output(self._process.stdout)
        self._close = weakref.finalize(self, _end, self._process, self._output)
        told = self._output.wait_for(re.compile(ready), seconds)
        if told is None:
            why = f"was not ready within {seconds:g} s" if self._output.open else self._ending()
            self.close()
            raise TargetError(f"the server {module} {why}; {self._output.last()}")
        self.told = told

    def close(self) -> None:
        """End it, in good order where it can; called again, nothing. Also done where nobody holds this."""
        self._close()

    def _ending(self) -> str:
        try:
            return f"ended with exit status {self._process.wait(_PATIENCE)}"
        except subprocess.TimeoutExpired:
            return "closed its output"


class _Output:
    """The last lines that a process wrote, taken as they come, so that it never waits for a reader."""

    def __init__(self, stream: IO[str]) -> None:
        self.open = True
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self._changed = threading.Condition()  # held to touch what stands above
        self._thread = threading.Thread(target=self._read, args=(stream,), name="output", daemon=True)
        self._thread.start()

    def wait_for(self, pattern: re.Pattern[str], seconds: float) -> re.Match[str] | None:
        """Wait until the pattern is there; None where it is not by then, or cannot come any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self.open or pattern.search("".join(self._lines)), seconds)
            return pattern.search("".join(self._lines))

    def last(self) -> str:
        """Say what came last."""
        with self._changed:
            lines = [line.strip() for line in self._lines if line.strip()][-_TOLD:]
        return f"it said: {' / '.join(lines)}" if lines else "it said nothing"

    def join(self) -> None:
        """Wait for the end of the output, which another process may hold open."""
        self._thread.join(_PATIENCE)

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self.open = False
            self._changed.notify_all()


def _end(process: "subprocess.Popen[str]", output: _Output) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    process.stdin.close()
    output.join()

"""Engines in processes of their own, and the names that a benchmark gives their settings."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_MODIFIERS = {
    "refute": {"mmap"},
    "llama": {"no-mmap", "no-repack", "no-flash", "huge", "one-thread"},
}
_HUGE = "glibc.malloc.hugetlb=1"  # glibc then asks for huge pages


class WorkerError(Exception):
    """An engine could not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """An engine and how it differs from its default: `llama+no-mmap+huge`."""

    engine: str
    modifiers: tuple[str, ...]

    @classmethod
    def parsed(cls, name: str) -> Self:
        """Raises ValueError for an engine or a modifier that is not there."""
        engine, *modifiers = name.split("+")
        if engine not in _MODIFIERS:
            raise ValueError(f"{name}: no engine {engine!r}; expected one of {', '.join(_MODIFIERS)}")
        for modifier in modifiers:
            if modifier not in _MODIFIERS[engine]:
                known = ", ".join(sorted(_MODIFIERS[engine]))
                raise ValueError(f"{name}: {engine} has no {modifier!r}; expected {known}")
        return cls(engine, tuple(modifiers))

    def __str__(self) -> str:
        return "+".join((self.engine, *self.modifiers))

    @property
    def environment(self) -> dict[str, str]:
        return {"GLIBC_TUNABLES": _HUGE} if "huge" in self.modifiers else {}

    @property
    def one_thread(self) -> bool:
        return "one-thread" in self.modifiers

    @property
    def options(self) -> dict[str, bool]:
        """What `open` of the engine is told: only what differs from its default."""
        told = (name for name in self.modifiers if name not in {"huge", "one-thread"})
        return {name.removeprefix("no-"): not name.startswith("no-") for name in told}


class Worker:
    """A process that serves the methods of one class of `engines.py`."""

    def __init__(self, engine: str, environment: dict[str, str] | None = None) -> None:
        self._engine = engine
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("engines.py"), engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )

    def ask(self, call: str, **with_: Any) -> Any:
        """Call a method there. Raises `WorkerError` where it fails, or the process ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": call, "with": with_}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            why = "out of memory?" if code == -9 else "see what it printed above"
            raise WorkerError(f"{self._engine}: its process ended during {call!r} with code {code}; {why}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self._engine}: {call}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        """End the process; its memory is free when this returns."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

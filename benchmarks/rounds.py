"""One file, one engine after the other: sessions of engines, and rounds of sessions."""

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workers import Setting, Worker, WorkerError

REFUTE, PEER = "refute", "llama"  # the settings that are their defaults
_BUFFER = 1 << 30  # bytes read to measure memory


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured on one file."""

    size: str
    path: Path
    backend: str
    threads: int | None  # None: what refute chooses, all processors for llama.cpp
    runs: int
    tokens: int
    contexts: tuple[int, ...]
    prompts: tuple[int, ...]

    @property
    def capacity(self) -> int:
        return max(*self.contexts, *self.prompts) + self.tokens + 16

    @property
    def metrics(self) -> list[str]:
        """In the order that fills a sequence once: decode@0, prefill@128, prefill@512, decode@512, ..."""
        lengths = sorted({*self.contexts, *self.prompts})
        both = (
            [(f"prefill@{n}", n in self.prompts) for n in lengths],
            [(f"decode@{n}", n in self.contexts) for n in lengths],
        )
        return [name for pair in zip(*both, strict=True) for name, wanted in pair if wanted]


class Session:
    """An engine in its process, with the file loaded."""

    def __init__(self, job: Job, setting: Setting) -> None:
        self._job = job
        self._length = 0
        self._worker = Worker(setting.engine, setting.environment)
        told: dict[str, Any] = {"options": setting.options}
        if setting.engine == "refute":
            told["backend"] = job.backend
        threads = 1 if setting.one_thread else job.threads
        try:
            self.opened = self._worker.ask(
                "open", path=str(job.path), capacity=job.capacity, threads=threads, **told
            )
        except WorkerError:
            self.close()
            raise

    def warm(self) -> None:
        """Use what is compiled or set up at its first use."""
        self._worker.ask("fill", count=9, seed=0)
        self._worker.ask("decode", count=2, seed=0)
        self._rewind(0)

    def rate(self, metric: str, seed: int, tokens: int | None = None) -> float:
        """Tokens per second."""
        kind, length = metric.split("@")
        wanted = int(length)
        if kind == "prefill":
            self._rewind(0)
            self._length = wanted
            return wanted / float(self._worker.ask("fill", count=wanted, seed=seed))
        if self._length > wanted:
            self._rewind(wanted)
        elif self._length < wanted:
            self._worker.ask("fill", count=wanted - self._length, seed=seed)
            self._length = wanted
        taken = self._worker.ask("decode", count=tokens or self._job.tokens, seed=seed)
        return len(taken) / sum(taken)

    def again(self, *, flash: bool, threads: int | None) -> None:
        """Begin a new sequence, computed otherwise; only llama.cpp has the choice."""
        self._worker.ask("sequence", capacity=self._job.capacity, threads=threads, flash=flash)
        self._length = 0

    def memory(self) -> dict[str, int]:
        found: dict[str, int] = self._worker.ask("memory")
        return found

    def close(self) -> None:
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rewind(self, length: int) -> None:
        self._worker.ask("rewind", length=length)
        self._length = length


def opened(job: Job, name: str) -> Session:
    return Session(job, Setting.parsed(name))


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def forget(path: Path) -> None:
    """Drop a file from the page cache, so that loading it reads it; as far as no process maps it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass
class Rounds:
    """What is collected on one file. samples: by figure and setting, one value a round."""

    job: Job
    wanted: dict[str, set[str]]  # figures by setting
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    memory: dict[str, dict[str, int]] = field(default_factory=dict)
    opened: dict[str, Any] = field(default_factory=dict)
    bandwidth: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, figure: str, name: str, value: float) -> None:
        self.samples.setdefault(figure, {}).setdefault(name, []).append(value)

    def order(self, number: int) -> list[str]:
        """Settings of a round: each begins with another one."""
        names = list(self.wanted)
        first = number % len(names)
        return names[first:] + names[:first]

    def load(self, name: str, state: str) -> Session:
        """Open a session and keep its times."""
        session = opened(self.job, name)
        for part in ("start_s", "load_s", "first_token_s"):
            self.add(f"{part}, {state}", name, session.opened[part])
        self.opened[name] = session.opened
        return session

    def drop(self, name: str, error: WorkerError) -> None:
        """Leave out a setting of llama.cpp that fails, with all that it gave; refute has to work."""
        if name == REFUTE:
            raise error
        say(f"{self.job.size}: {name} is left out: {error}")
        self.failures[name] = str(error)
        for kept in (self.wanted, self.memory, self.opened, *self.samples.values()):
            kept.pop(name, None)

    def keep_memory(self, name: str, session: Session) -> None:
        """Of the round that took most."""
        now = session.memory()
        if now["peak"] > self.memory.get(name, {"peak": 0})["peak"]:
            self.memory[name] = now

    def machine(self, *, reading: str = "") -> None:
        """What memory, and where a state of the page cache is named the disk, give now."""
        with Worker("machine") as machine:
            order = (2, 1) if len(self.bandwidth) % 2 else (1, 2)
            for threads in order if reading else ():
                if reading == "cold":
                    forget(self.job.path)
                seconds = machine.ask("read", path=str(self.job.path), threads=threads)
                self.add(f"read_s, {reading}", f"{threads} thread{'s' * (threads > 1)}", seconds)
            if reading != "warm":
                self.bandwidth.append(machine.ask("bandwidth", size=_BUFFER))

    def apart(self) -> None:
        """One process at a time, where memory holds no more."""
        for number in range(self.job.runs):
            self.machine(reading="cold")
            for name in self.order(number):
                say(f"{self.job.size}: round {number + 1} of {self.job.runs}, {name}")
                forget(self.job.path)
                try:
                    with self.load(name, "cold") as session:
                        session.warm()
                        for metric in self.job.metrics:
                            if metric in self.wanted[name]:
                                self.add(metric, name, session.rate(metric, number))
                        self.keep_memory(name, session)
                except WorkerError as error:
                    self.drop(name, error)

    def together(self) -> None:
        """Loading in rounds of its own, then all engines loaded and asked in turns."""
        for number in range(self.job.runs):
            say(f"{self.job.size}: loading, round {number + 1} of {self.job.runs}")
            for state in ("cold", "warm"):
                self.machine(reading=state)
                for name in self.order(number):
                    if state == "cold":
                        forget(self.job.path)
                    try:
                        self.load(name, state).close()
                    except WorkerError as error:
                        self.drop(name, error)
        with ExitStack() as stack:
            sessions = {name: stack.enter_context(opened(self.job, name)) for name in self.wanted}
            for session in sessions.values():
                session.warm()
            self.bandwidth.clear()  # of the rounds below
            for number in range(self.job.runs):
                say(f"{self.job.size}: round {number + 1} of {self.job.runs}")
                self.machine()
                for metric in self.job.metrics:
                    for name in self.order(number):
                        if metric in self.wanted[name]:
                            time.sleep(0.05)  # threads of the engine before may still spin
                            self.add(metric, name, sessions[name].rate(metric, number))
            for name, session in sessions.items():
                self.keep_memory(name, session)

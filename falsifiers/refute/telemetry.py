"""What the host did while a run went on: a line a second while its claims are attacked, one a minute else.

The runs of one session, one for each contract, are open at the same time; what happens while another's claims
are attacked is in the lines of that one.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from refute.finding import timestamp
from refute.gpus import Gpus, NoGpus
from refute.reader import TELEMETRY

_PERIOD = 1.0  # seconds between two lines of a run whose claims are attacked
_REST = 60.0  # of one whose are not
_RELIST = 10  # samples; finding processes costs ten times as much as reading them
_PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(slots=True)
class Host:
    """Reads one host, sample after sample. gpus: None where nothing tells of them."""

    gpus: Gpus | None = None
    proc: Path = _PROC
    _before: tuple[int, int] | None = None
    _family: list[int] = field(default_factory=list)
    _due: int = 0

    def sample(self) -> dict[str, Any]:
        """Read it now; null is what this system does not tell.

        cpu_percent: of all processors, since the last sample. rss_bytes: of this process and all below
        it; which are looked for every tenth time.
        """
        now, before = self._ticks(), self._before
        self._before = now
        busy = None
        if now is not None and before is not None and now[0] > before[0]:
            busy = round(100 * (now[1] - before[1]) / (now[0] - before[0]), 1)
        return {
            "cpu_percent": busy,
            "load1": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            "rss_bytes": self._resident(),
            "available_bytes": self._available(),
            "gpus": [] if self.gpus is None else self.gpus.sampled(),
        }

    def _ticks(self) -> tuple[int, int] | None:
        """Ticks of all processors since the host's start, and those of them that were busy."""
        try:
            fields = [int(each) for each in self._read("stat").partition("\n")[0].split()[1:9]]
        except ValueError:
            return None
        return (sum(fields), sum(fields) - fields[3] - fields[4]) if len(fields) == 8 else None

    def _resident(self) -> int | None:
        if self._due == 0:
            self._family, self._due = self._descendants(), _RELIST
        self._due -= 1
        held = [self._read(f"{pid}/statm").split() for pid in self._family]
        pages = [int(each[1]) for each in held if len(each) > 1]
        return sum(pages) * _PAGE if pages else None

    def _descendants(self) -> list[int]:
        """Find this process and all below it; who was started is known to the thread that did."""
        found, left = list[int](), [os.getpid()]
        while left:
            found.append(left.pop())
            with suppress(OSError):
                for thread in os.scandir(self.proc / str(found[-1]) / "task"):
                    left += map(int, self._read(f"{found[-1]}/task/{thread.name}/children").split())
        return found

    def _available(self) -> int | None:
        for line in self._read("meminfo").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return None

    def _read(self, name: str) -> str:
        try:
            return (self.proc / name).read_text(errors="replace")
        except OSError:
            return ""


@dataclass(slots=True)
class Telemetry:
    """A thread that samples while runs are open.

    runs: the folder of each, and the monotonic time in nanoseconds when it was opened. It never stops a run:
    a folder that cannot be written to is left alone.
    """

    host: Host
    runs: Mapping[Path, int]
    _attacks: Counter[Path] = field(default_factory=Counter)
    _last: dict[Path, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _end: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def started(cls, runs: Mapping[Path, int], host: Host | None = None) -> Self:
        """Take the first sample, and go on until it is stopped."""
        telemetry = cls(host or Host(_gpus()), dict(runs))
        telemetry.take()
        thread = threading.Thread(target=telemetry._go_on, name="refute-telemetry", daemon=True)
        telemetry._thread = thread
        thread.start()
        return telemetry

    def stop(self) -> None:
        """Take the last sample, so that the lines span the run; the runs can then be sealed."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self.take()
            if self.host.gpus is not None:
                self.host.gpus.close()
            self._thread = None

    def attacked(self, run: Path) -> None:
        """Note that an attack on a claim of a run begins; several may go on at once."""
        self._attacks[run] += 1
        self.take([run])

    def rested(self, run: Path) -> None:
        """Note that one is over."""
        self.take([run])
        self._attacks[run] -= 1

    def take(self, runs: Iterable[Path] | None = None) -> None:
        """Add one line to these runs, or to every one."""
        with self._lock:
            sample, at, now = self.host.sample(), timestamp(), time.monotonic_ns()
            for run in self.runs if runs is None else runs:
                self._last[run] = now
                line = json.dumps({"t_ns": now - self.runs[run], "at": at, **sample}, allow_nan=False)
                with suppress(OSError), (run / TELEMETRY).open("ab") as stream:
                    stream.write(f"{line}\n".encode())

    def due(self) -> list[Path]:
        """The runs that lack a line by now."""
        old = time.monotonic_ns() - round(_REST * 1e9)
        return [run for run in self.runs if self._attacks[run] > 0 or self._last.get(run, 0) <= old]

    def _go_on(self) -> None:
        due = time.monotonic() + _PERIOD
        while not self._end.wait(max(0.0, due - time.monotonic())):
            due += _PERIOD
            runs = self.due()
            if runs:
                self.take(runs)


def _gpus() -> Gpus | None:
    try:
        return Gpus.open()
    except NoGpus:
        return None

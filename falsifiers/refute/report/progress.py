"""Progress: how far a run is and when it may be done; a bar while the model is hashed."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

_PERIOD = 10.0  # seconds between two lines

Key = tuple[str, str]  # contract, falsifier
_ENOUGH = 3  # that are done, to know of the others


@dataclass(slots=True)
class Advance:
    """How far a run is.

    expected: seconds that each of its falsifiers may take; what is not known counts as the mean of those
    that are done. workers: how many are attacked at once. least: those that may well take several times as
    long as is expected.
    """

    expected: Mapping[Key, float | None]
    workers: int = 1
    least: Collection[Key] = frozenset()
    clock: Callable[[], float] = time.monotonic
    taken: dict[Key, float] = field(default_factory=dict)
    _current: Key | None = None
    _since: float = 0.0
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self._since = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.clock() - self._began

    @property
    def on_current(self) -> float:
        """Seconds since the falsifier that is attacked now was begun."""
        return self.clock() - self._since

    def at(self, key: Key) -> None:
        """Note which one is attacked."""
        if key != self._current:
            self._current, self._since = key, self.clock()

    def done(self, key: Key, seconds: float) -> None:
        """Note one that is done."""
        self.taken[key] = seconds

    def left(self) -> float | None:
        """Seconds that the rest may take, by how well the estimates were met so far; None: nobody knows."""
        done = dict(self.taken)  # another thread asks while this one notes
        rest = [key for key in self.expected if key not in done]
        mean = sum(done.values()) / len(done) if done else None
        ratios = {least: self._ratio(done, least=least) for least in (False, True)}
        seconds = 0.0
        for key in rest:
            expected = self.expected.get(key)
            one = mean if expected is None else expected * ratios[key in self.least]
            if one is None:
                return None
            seconds += max(one - self.on_current, 0.0) if key == self._current else one
        return seconds / self.workers

    @property
    def at_least(self) -> bool:
        """Whether too few are done to know by how much the rest takes longer than is expected of it."""
        done = dict(self.taken)
        rest = any(key in self.least for key in self.expected if key not in done)
        return rest and sum(key in self.least for key in done) < _ENOUGH

    def _ratio(self, done: Mapping[Key, float], *, least: bool) -> float:
        """How many times as long as expected it takes: of those that are as well known, else of all."""
        told = [(key in self.least, taken, self.expected.get(key)) for key, taken in done.items()]
        known = [(like, taken, expected) for like, taken, expected in told if expected]
        known = [each for each in known if each[0] is least] or known
        ratio = sum(each[1] for each in known) / sum(each[2] for each in known) if known else 1.0
        current = None if self._current is None else self.expected.get(self._current)
        alike = (self._current in self.least) is least
        # That it takes longer too is known before it is done.
        if current and alike and self._current not in done:
            ratio = max(ratio, self.on_current / current)
        return ratio


@contextmanager
def loading(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Give what is told what is done, how much of it, of how much: a bar, or a line now and then."""
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = [bar.add_task("", visible=False)]
        told = [time.monotonic()]

        def tell(doing: str, done: int, of: int) -> None:
            bar.update(tasks[0], description=doing, completed=done, total=of, visible=True)
            if not console.is_terminal and time.monotonic() - told[0] > _PERIOD:
                told[0] = time.monotonic()
                console.print(f"... {doing}: {done / of:.0%}", highlight=False)

        yield tell


@contextmanager
def hashing(console: Console, what: str = "hashing the model") -> Iterator[Callable[[int, int], None]]:
    """Give what is told of bytes done and bytes in all; the bar only comes where it is told."""
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = [bar.add_task("", visible=False)]
        yield lambda done, of: bar.update(tasks[0], completed=done, total=of, visible=True)

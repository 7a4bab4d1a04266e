"""How steady a host is: one small piece of work timed again and again, short sleeps, and stolen time.

What a probe saw is kept raw. What it means is derived from it, here, so that whoever reads a record derives
the same. Medians and not extremes are held against the bounds: one interrupt says nothing about a claim.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refute.finding import Noise, Probe

_WORK = 50_000  # additions; about two milliseconds
_SLEEP = 0.001
_BEFORE = (40, 20)  # pieces of work and sleeps before an attack, about 0.1 s
_BETWEEN = (4, 1)  # between two cases
# Bounds. On a virtual machine of two cores, work waited for a processor half of its time beside two busy
# processes, 62 % beside four, and up to 77 % beside more; the times of equal pieces varied by up to 27 %
# where nothing else ran, and by 160 % at worst. A neighbour on the same core makes work 1.7 times as slow.
WAITING = 0.75
VARIATION = 2.0
STOLEN = 0.2
LATE_US = 10_000.0
SLOWDOWN = 3.0
_MOST_WAITING = 0.95  # of the time; beyond, a probe of a tenth of a second says nothing
_ENOUGH, _ENOUGH_SLEEPS, _ENOUGH_TICKS = 20, 10, 100
_STAT = Path("/proc/stat")


def _ticks() -> dict[str, int] | None:
    """Ticks of all processors since the host's start; None where there is no /proc."""
    try:
        line = _STAT.read_text().partition("\n")[0]
        fields = [int(each) for each in line.split()[1:9]]  # user nice system idle iowait irq softirq steal
    except (OSError, ValueError):
        return None
    return {"all": sum(fields), "stolen": fields[7]} if len(fields) == 8 else None


@dataclass(slots=True)
class Listener:
    """Listens to the host between the cases of an attack."""

    kernel_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)
    began: Mapping[str, int] | None = field(default_factory=_ticks)

    def listen(self, work: int = _BETWEEN[0], sleeps: int = _BETWEEN[1]) -> None:
        """Take a few samples."""
        for taken, computed in _timed(work):
            self.kernel_ns.append(taken)
            self.cpu_ns.append(computed)
        self.late_ns.extend(_late(sleeps))

    def heard(self) -> Probe:
        """Return all samples, and the ticks since the first one."""
        now = _ticks()
        passed = None
        if now is not None and self.began is not None:
            # Kernels are known to count back by a tick.
            passed = {key: max(0, now[key] - before) for key, before in self.began.items()}
        return Probe(tuple(self.kernel_ns), tuple(self.cpu_ns), tuple(self.late_ns), passed)


def before() -> Probe:
    """Probe the host for about a tenth of a second."""
    listener = Listener()
    listener.listen(*_BEFORE)
    return listener.heard()


@dataclass(frozen=True, slots=True)
class Score:
    """What a probe says. None: there is too little of it.

    waiting: the share of its time for which work that could go on had no processor. variation: the
    coefficient of variation of equal pieces of work, without the slowest twentieth: one hiccup says nothing
    of a claim that is judged by a median. stolen: the share of the processors' time that other guests had.
    late_us: the median lateness of a short sleep.
    """

    waiting: float | None
    variation: float | None
    stolen: float | None
    late_us: float | None


def score(probe: Probe) -> Score:
    """Derive it."""
    ticks, enough = probe.ticks, len(probe.kernel_ns) >= _ENOUGH
    taken = sum(probe.kernel_ns)
    return Score(
        waiting=max(0.0, 1 - sum(probe.cpu_ns) / taken) if enough and taken else None,
        variation=_variation(probe.kernel_ns) if enough else None,
        stolen=None if ticks is None or ticks["all"] < _ENOUGH_TICKS else ticks["stolen"] / ticks["all"],
        late_us=statistics.median(probe.late_ns) / 1000 if len(probe.late_ns) >= _ENOUGH_SLEEPS else None,
    )


def crowding(probe: Probe) -> float:
    """How many times as long work took as it computed, since it waited for a processor; at least 1."""
    waiting = score(probe).waiting
    return 1.0 if waiting is None else 1 / (1 - min(waiting, _MOST_WAITING))


def slowdown(noise: Noise) -> float | None:
    """By how much slower it computed between the cases than before them; medians, None without them."""
    before, during = (statistics.median(each.cpu_ns or (0,)) for each in (noise.before, noise.during))
    return during / before if before and during else None


def excesses(noise: Noise) -> list[str]:
    """Say what of it is too much for any claim about time."""
    found = []
    for when, probe in (("before", noise.before), ("during", noise.during)):
        derived = score(probe)
        if derived.waiting is not None and derived.waiting > WAITING:
            told = f"{derived.waiting:.0%} of its time (at most {WAITING:.0%})"
            found.append(f"the host was busy {when} the attack: work waited for a processor {told}")
        if derived.variation is not None and derived.variation > VARIATION:
            told = f"equal work took times that vary by {derived.variation:.0%} (at most {VARIATION:.0%})"
            found.append(f"the host was not steady {when} the attack: {told}")
        if derived.stolen is not None and derived.stolen > STOLEN:
            told = f"{derived.stolen:.0%} of its processors' time (at most {STOLEN:.0%})"
            found.append(f"other guests of the host had {told} {when} the attack")
        if derived.late_us is not None and derived.late_us > LATE_US:
            told = f"{derived.late_us:.0f} us late (at most {LATE_US:.0f} us)"
            found.append(f"short sleeps ended {told} {when} the attack")
    slower = slowdown(noise)
    if slower is not None and slower > SLOWDOWN:
        told = f"{slower:.1f} times as slowly during the attack as before it (at most {SLOWDOWN:g})"
        found.append(f"the host computed {told}")
    return found


def _variation(times: Sequence[int]) -> float:
    kept = sorted(times)[: len(times) - math.ceil(len(times) / 20)]
    total = sum(kept)
    # In integers, up to the root: n² times the variance is n Σx² - (Σx)².
    spread = len(kept) * sum(each * each for each in kept) - total * total
    return math.sqrt(max(0, spread)) / total if total else 0.0


def _timed(times: int) -> Iterator[tuple[int, int]]:
    """Yield how long each piece of work took, and for how long of that it had a processor."""
    clock, computing = time.perf_counter_ns, time.thread_time_ns
    for _ in range(times):
        start, before = clock(), computing()
        total = 0
        for number in range(_WORK):
            total += number
        yield clock() - start, computing() - before


def _late(times: int) -> Iterator[int]:
    clock, asked = time.perf_counter_ns, round(_SLEEP * 1e9)
    for _ in range(times):
        start = clock()
        time.sleep(_SLEEP)
        yield clock() - start - asked

"""Rules of time: what happened when, by clocks that know nothing of each other."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from refute.audit.rule import ERROR, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.finding import Finding
from refute.reader import LOG, SUMMARY
from refute.verdict import Verdict

_CLOCKS = timedelta(
    seconds=2
)  # by which two readings may differ: a busy host lets a thread wait between them
_DRIFT = 0.01
_TICK = 20_000_000  # nanoseconds by which a count of computing may lag behind the clock
_HELD_UP, _SET_UP = 3, 20  # times, and seconds, that an attack may take besides what it timed
_PREPARING = timedelta(minutes=15)  # from naming a run to opening it: digests of a large model lie between
_AHEAD = timedelta(days=1)  # by which the auditor's clock may be slow
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)")


def moment(text: str) -> datetime:
    """A time as records hold it."""
    return datetime.fromisoformat(text)


def ended(subject: Subject) -> datetime | None:
    """When a run was sealed; None of one that was not."""
    assert subject.summary is not None
    end = subject.summary["time"]["ended"]
    return None if end is None else moment(end)


@rule(ERROR, "A run ends after it began.", "One of the times was changed.")
def time_order(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None:
        start, end = moment(subject.summary["time"]["started"]), ended(subject)
        if end is not None and end < start:
            yield Remark(SUMMARY, "/time/ended", end.isoformat(), f"a time after {start.isoformat()}")


@rule(ERROR, "A run was opened when its name says.", "It was made at another time than it claims.")
def time_run_name(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None:
        start = moment(subject.summary["time"]["started"])
        named = _named(subject.folder.run)
        if named is not None and not -_CLOCKS <= start - named <= _PREPARING:
            yield Remark(SUMMARY, "/time/started", start.isoformat(), f"soon after {named.isoformat()}")


def _named(run: str) -> datetime | None:
    """The time in a run's name; None of a folder that is not named as runs are."""
    try:
        return datetime.strptime(run.rpartition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None


@rule(ERROR, "Nothing was recorded that is still to come.", "It was not recorded when it says.")
def time_past(subject: Subject) -> Iterable[Remark]:
    if subject.summary is not None:
        latest = ended(subject) or moment(subject.summary["time"]["started"])
        if latest > subject.here.now + _AHEAD:
            yield Remark(
                SUMMARY, "/time", latest.isoformat(), f"a time before {subject.here.now.isoformat()}"
            )


@rule(
    ERROR,
    "Two clocks of one host agree on how long a run took.",
    "One of the times was changed, or the host stood still meanwhile.",
)
def time_clocks(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    time, end = subject.summary["time"], ended(subject)
    if end is not None and time["monotonic_ns"] is not None:
        wall = (end - moment(time["started"])).total_seconds()
        found = time["monotonic_ns"] / 1e9
        if not _close(found, wall):
            yield Remark(SUMMARY, "/time/monotonic_ns", f"{found:.3f} s", f"{wall:.3f} s, by the other clock")


def _close(one: float, other: float) -> bool:
    """Whether two clocks say the same of a stretch of time."""
    return abs(one - other) <= _CLOCKS.total_seconds() + _DRIFT * max(one, other)


@rule(ERROR, "A finding took as long as from its start to its end.", "One of the times was changed.")
def time_seconds(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        wall = (moment(finding.ended) - moment(finding.started)).total_seconds()
        if wall < 0:
            yield Remark(filed.file, "/ended", finding.ended, f"a time after {finding.started}")
        elif not _close(finding.seconds, wall):
            yield Remark(filed.file, "/seconds", finding.seconds, f"{wall:.3f}, from start to end")


@rule(
    ERROR, "A finding was made while its run went on.", "It comes from elsewhere, or its times were changed."
)
def time_finding(subject: Subject) -> Iterable[Remark]:
    for file, finding in _own(subject):
        assert subject.summary is not None
        start, end = moment(subject.summary["time"]["started"]), ended(subject)
        if moment(finding.started) < start - _CLOCKS:
            yield Remark(file, "/started", finding.started, f"a time after {start.isoformat()}")
        if end is not None and moment(finding.ended) > end + _CLOCKS:
            expected = f"a time before {end.isoformat()}, when the run was sealed"
            yield Remark(file, "/ended", finding.ended, expected)


@rule(
    ERROR,
    "Without workers, one falsifier is attacked after another.",
    "One of them took longer, or shorter, than it says.",
)
def time_apart(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None or subject.summary["requested"]["workers"]:
        return
    before: Finding | None = None
    for file, finding in _own(subject):
        if before is not None and moment(finding.started) < moment(before.ended) - _CLOCKS:
            expected = f"a time after {before.ended}, when {before.falsifier} was done"
            yield Remark(file, "/started", finding.started, expected)
        before = finding


def _own(subject: Subject) -> Iterator[tuple[str, Finding]]:
    """The findings that were made in this run, in the order in which they were listed."""
    if subject.summary is not None:
        for filed, finding in subject.findings:
            if not filed.taken_over:
                yield filed.file, finding


@rule(
    ERROR,
    "What was timed took no longer than the attack that it was part of.",
    "The times were changed: they do not fit into it.",
)
def time_samples(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        if finding.target.get("simulated", True):  # a simulated engine's time is simulated
            continue
        spans = [_span(each.samples) for each in finding.observations]
        total = sum(spans) / 1e9
        if total > finding.seconds + _CLOCKS.total_seconds():
            yield Remark(filed.file, "/observations", f"{total:.1f} s", f"at most {finding.seconds:g} s")


def _span(samples: Mapping[str, Any]) -> int:
    """The longest time in one case's samples: they count from its start, each part from its own."""
    times = list(_nanoseconds(samples))
    return max(times, default=0)


def _nanoseconds(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            if key.endswith("_ns"):
                yield from _numbers(member)
            else:
                yield from _nanoseconds(member)
    elif isinstance(value, list):
        for member in value:
            yield from _nanoseconds(member)


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for member in value:
            yield from _numbers(member)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield int(value)


@rule(
    WARNING,
    "An attack that timed tokens took as long as its requests and its faults explain.",
    "The times were made shorter, and the rate higher; or something else held the attack up.",
)
def time_explained(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None or subject.summary["requested"]["workers"]:  # one waits for another
        return
    for file, finding in _own(subject):
        spans = [_span(each.samples) for each in finding.observations if _decoded(each.samples)]
        if finding.target.get("simulated", True) or not spans:
            continue
        requests = len(spans) + sum(len(trial.observations) for trial in finding.faults)
        explained = sum(spans) / len(spans) * requests / 1e9
        most = _HELD_UP * explained + _SET_UP
        if finding.seconds > most:
            found = f"{finding.seconds:g} s for {requests} requests that took {explained:.1f} s together"
            yield Remark(file, "/seconds", found, f"at most {most:.0f} s")


def _decoded(samples: Mapping[str, Any]) -> bool:
    """Whether one case was timed token by token."""
    return "token_ns" in samples or any(
        "token_ns" in each for each in samples.values() if isinstance(each, dict)
    )


@rule(ERROR, "Events are in the order in which they came.", "Time does not run backwards.")
def time_events(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        for index, observation in enumerate(finding.observations):
            first = min(_nanoseconds(observation.samples), default=0)
            if first < 0:
                yield Remark(filed.file, f"/observations/{index}/samples", f"{first} ns", "times from 0 on")
            for pointer, times in _series(observation.samples, f"/observations/{index}/samples"):
                if any(later < sooner for sooner, later in pairwise(times)):
                    yield Remark(filed.file, pointer, times, "times that never decrease")


def _series(value: Any, pointer: str) -> Iterator[tuple[str, list[int]]]:
    """Every list of times in samples, with its pointer."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            at = f"{pointer}/{key}"
            numbers = key.endswith("_ns") and isinstance(member, list) and member
            if numbers and all(isinstance(each, int | float) for each in member):
                yield at, member
            else:
                yield from _series(member, at)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _series(member, f"{pointer}/{index}")


@rule(
    ERROR,
    "No two requests took the same time to the nanosecond, token for token.",
    "Samples were copied instead of measured.",
)
def time_unique(subject: Subject) -> Iterable[Remark]:
    seen: dict[tuple[int, ...], str] = {}
    for file, pointer, times in measured(subject):
        if times in seen:
            yield Remark(file, pointer, f"the times of {seen[times]}", "times of its own")
        seen.setdefault(times, f"{file}#{pointer}")


def measured(subject: Subject) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Every series of times of a real engine that is long enough to be like no other."""
    for filed, finding in subject.findings:
        if finding.target.get("simulated", True):
            continue
        for index, observation in enumerate(finding.observations):
            for pointer, times in _series(observation.samples, f"/observations/{index}/samples"):
                if len(set(times)) >= 4:
                    yield filed.file, pointer, tuple(times)
        for when in () if finding.noise is None else ("before", "during"):
            probe = getattr(finding.noise, when)
            if len(set(probe.kernel_ns)) >= 4:
                yield filed.file, f"/noise/{when}/kernel_ns", probe.kernel_ns


@rule(ERROR, "A probe of the host is one that a host can have given.", "It was changed, or made up.")
def noise_possible(subject: Subject) -> Iterable[Remark]:
    for filed, finding in subject.findings:
        probes = (
            {} if finding.noise is None else {"before": finding.noise.before, "during": finding.noise.during}
        )
        for when, probe in probes.items():
            at = f"/noise/{when}"
            if len(probe.cpu_ns) != len(probe.kernel_ns):
                yield Remark(filed.file, f"{at}/cpu_ns", f"{len(probe.cpu_ns)} times", len(probe.kernel_ns))
            for index, (taken, computed) in enumerate(zip(probe.kernel_ns, probe.cpu_ns, strict=False)):
                if computed > taken + _TICK:
                    expected = f"at most {taken}, which is all that passed"
                    yield Remark(filed.file, f"{at}/cpu_ns/{index}", computed, expected)
            if probe.ticks is not None and probe.ticks["stolen"] > probe.ticks["all"]:
                yield Remark(
                    filed.file, f"{at}/ticks/stolen", probe.ticks["stolen"], f"at most {probe.ticks['all']}"
                )
            took = sum(probe.kernel_ns) / 1e9
            if took > finding.seconds + _CLOCKS.total_seconds():
                yield Remark(filed.file, f"{at}/kernel_ns", f"{took:.1f} s", f"at most {finding.seconds:g} s")


@rule(ERROR, "The log tells of the same findings, in the order of time.", "One of both was changed.")
def log_agrees(subject: Subject) -> Iterable[Remark]:
    log = subject.folder.file(LOG)
    if subject.summary is None or log is None:
        return
    lines = log.decode(errors="replace").splitlines()
    parts = [_LINE.fullmatch(line) for line in lines]
    last = moment(subject.summary["time"]["started"])
    for number, part in enumerate(parts, 1):
        if part is None and number == len(parts) and subject.summary["state"] != "complete":
            continue  # killed while it was written
        if part is None:
            yield Remark(LOG, "", f"line {number}, {lines[number - 1]!r}", "a time, and what happened")
        elif moment(part[1]) < last - _CLOCKS:
            yield Remark(LOG, "", f"line {number} at {part[1]}", f"a time after {last.isoformat()}")
        else:
            last = max(last, moment(part[1]))
    end = ended(subject)
    if end is not None and last > end + _CLOCKS:
        yield Remark(LOG, "", f"a line at {last.isoformat()}", f"none after {end.isoformat()}")
    told = {part[2] for part in parts if part is not None}
    found = {entry["falsifier"] for entry in subject.summary["findings"]}
    for line in sorted(told) if subject.summary["state"] != "running" else ():
        name, _, rest = line.partition(" ")
        concluded = rest.partition(":")[0] in set(Verdict)
        if concluded and name in subject.summary["plan"]["falsifiers"] and name not in found:
            yield Remark(LOG, "", f"a line of {name}", "none: it has no finding here")
    for _, finding in _own(subject):
        line = next(iter(f"{finding.falsifier} {finding.verdict}: {finding.reason}".splitlines()))
        if line not in told and finding is not subject.unfinished:
            yield Remark(LOG, "", f"no line {line!r}", "one for every finding")


RULES: tuple[Rule[Subject], ...] = (
    time_order,
    time_run_name,
    time_past,
    time_clocks,
    time_seconds,
    time_finding,
    time_apart,
    time_samples,
    time_explained,
    time_events,
    time_unique,
    noise_possible,
    log_agrees,
)

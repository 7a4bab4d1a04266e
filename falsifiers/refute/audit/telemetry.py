"""Rules of telemetry: what the host did while a run went on, told by another thread.

A line a second while claims of the run are attacked, one a minute else; records of before have one a second
throughout.
"""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from refute.audit.rule import ERROR, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.audit.times import ended, moment
from refute.reader import SUMMARY, TELEMETRY
from refute.strict_json import StrictJsonError

_NUMBER = (int, float)
_FORM: Mapping[str, tuple[type, ...]] = {
    "t_ns": (int,),
    "at": (str,),
    "cpu_percent": (*_NUMBER, type(None)),
    "load1": (*_NUMBER, type(None)),
    "rss_bytes": (int, type(None)),
    "available_bytes": (int, type(None)),
    "gpus": (list,),
}
_APART = 2.0  # seconds by which two clocks may differ, after a correction
_DRIFT = 0.01
_EDGE = 10 * 10**9  # nanoseconds at either end of a run: a busy host is late
_GAP, _REST = 10.0, 90.0  # seconds without a line, while claims are attacked and else
_SLOWED = {"hardware-slowdown", "thermal", "hardware-thermal", "power-brake"}
Line = tuple[int, Mapping[str, Any]]


def _fault(line: Any) -> str:
    """How a line departs from its form; empty where it does not."""
    if not isinstance(line, dict):
        return str(line) if isinstance(line, StrictJsonError) else "no object"
    if set(line) != set(_FORM):
        return f"the keys {', '.join(line)}"
    odd = [
        key for key, types in _FORM.items() if isinstance(line[key], bool) or not isinstance(line[key], types)
    ]
    if odd:
        return f"{odd[0]} {line[odd[0]]!r}"
    try:
        moment(line["at"])
    except ValueError:
        return f"at {line['at']!r}"
    return "" if line["at"].endswith("Z") else f"at {line['at']!r}"


def _sound(subject: Subject) -> list[Line]:
    """The lines that have their form, numbered from 1."""
    return [(number, line) for number, line in enumerate(subject.telemetry, 1) if not _fault(line)]


@rule(WARNING, "A sealed run has telemetry.", "Nothing shows what the host did meanwhile.")
def telemetry_there(subject: Subject) -> Iterable[Remark]:
    sealed = subject.summary is not None and subject.summary["state"] == "complete"
    if sealed and not subject.folder.file(TELEMETRY):
        yield Remark(TELEMETRY, "", "none", "a line a second while claims are attacked")


@rule(
    ERROR,
    "Telemetry is one object a line, with the fields that it has.",
    "No run of refute writes any other.",
)
def telemetry_form(subject: Subject) -> Iterable[Remark]:
    lines = list(enumerate(subject.telemetry, 1))
    torn = subject.summary is not None and subject.summary["state"] != "complete"  # killed within a line
    for number, line in lines[:-1] if torn else lines:
        fault = _fault(line)
        if fault:
            yield Remark(TELEMETRY, "", f"line {number}: {fault}", f"{', '.join(_FORM)}")


@rule(ERROR, "Telemetry goes on in time, by both of its clocks.", "Lines were changed, added or taken away.")
def telemetry_order(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    start, before = moment(subject.summary["time"]["started"]), -1
    for number, line in _sound(subject):
        if line["t_ns"] <= before:
            yield Remark(TELEMETRY, "", f"line {number}: t_ns {line['t_ns']}", f"more than {before}")
        before = line["t_ns"]
        wall = (moment(line["at"]) - start).total_seconds()
        if abs(wall - before / 1e9) > _APART + _DRIFT * abs(wall):
            yield Remark(TELEMETRY, "", f"line {number}: {before / 1e9:.3f} s", f"{wall:.3f} s, as `at` says")


@rule(ERROR, "Telemetry spans the run.", "Something of the run was left out, or is from another one.")
def telemetry_spans(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    lines, time = _sound(subject), subject.summary["time"]
    end = ended(subject)
    if not lines or end is None:
        return
    elapsed = time["monotonic_ns"]
    if elapsed is None:  # sealed by another process, perhaps much later
        elapsed = lines[-1][1]["t_ns"]
    first, last = lines[0][1]["t_ns"], lines[-1][1]["t_ns"]
    if first > _EDGE:
        yield Remark(TELEMETRY, "", f"a first line after {first / 1e9:.1f} s", "one where the run began")
    if not elapsed - _EDGE <= last <= elapsed:
        expected = f"one within {_EDGE / 1e9:g} s before its end at {elapsed / 1e9:.1f} s"
        yield Remark(TELEMETRY, "", f"a last line at {last / 1e9:.1f} s", expected)
    found = sum(each["file"] == TELEMETRY for each in subject.summary["files"])
    if not found:
        yield Remark(SUMMARY, "/files", f"no {TELEMETRY}", "it, since it is there")


@rule(WARNING, "Telemetry has no gap.", "The host stood still, or lines were taken away.")
def telemetry_gaps(subject: Subject) -> Iterable[Remark]:
    attacks = [
        (moment(each.started), moment(each.ended)) for filed, each in subject.findings if not filed.taken_over
    ]
    lines = [(number, moment(line["at"])) for number, line in _sound(subject)]
    for (number, before), (_, after) in itertools.pairwise(lines):
        passed = (after - before).total_seconds()
        if passed <= _GAP:
            continue
        shared = [(min(after, end) - max(before, start)).total_seconds() for start, end in attacks]
        if passed > _REST or max(shared, default=0.0) > _GAP:
            most = f"at most {_GAP:g} s in an attack, {_REST:g} s else"
            yield Remark(TELEMETRY, "", f"line {number}: {passed:.1f} s until the next", most)


@rule(ERROR, "Telemetry tells of the host that is described.", "It is from another host, or was changed.")
def telemetry_possible(subject: Subject) -> Iterable[Remark]:
    if subject.summary is None:
        return
    facts = subject.summary["provenance"]["facts"]
    memory, gpus = facts["memory_bytes"]["value"], facts["gpus"]["value"]
    for number, line in _sound(subject):
        busy, free = line["cpu_percent"], line["available_bytes"]
        if busy is not None and not 0 <= busy <= 100:
            yield Remark(TELEMETRY, "", f"line {number}: cpu_percent {busy}", "0 to 100")
        if free is not None and memory is not None and not 0 <= free <= memory:
            yield Remark(TELEMETRY, "", f"line {number}: available_bytes {free}", f"at most {memory}")
        known = [gpu["uuid"] for gpu in gpus or ()]
        odd = [
            gpu.get("uuid") for gpu in line["gpus"] if isinstance(gpu, dict) and gpu.get("uuid") not in known
        ]
        if odd and gpus is not None:
            yield Remark(TELEMETRY, "", f"line {number}: GPU {odd[0]}", f"one of {known}")


@rule(WARNING, "No GPU was slowed down by heat or by its supply.", "It can do more than the figures say.")
def gpu_cool(subject: Subject) -> Iterable[Remark]:
    for number, line in _sound(subject):
        reasons = {
            each for gpu in line["gpus"] if isinstance(gpu, dict) for each in gpu.get("throttles") or ()
        }
        if reasons & _SLOWED:
            found = f"line {number}: {', '.join(sorted(reasons & _SLOWED))}"
            yield Remark(TELEMETRY, "", found, "clocks that follow from the load alone")
            return


RULES: tuple[Rule[Subject], ...] = (
    telemetry_there,
    telemetry_form,
    telemetry_order,
    telemetry_spans,
    telemetry_gaps,
    telemetry_possible,
    gpu_cool,
)

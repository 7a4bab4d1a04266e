"""Runs as a report shows them: when, on what, by which command, and with what outcome."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from refute.attempts import Attempt
from refute.reader import SUMMARY
from refute.report.page.data import Pair, RunPart
from refute.report.page.evidence import digits, pairs_of, told
from refute.report.page.traces import Trace, traces_of
from refute.report.words import counted
from refute.strict_json import StrictJsonError, load_strict
from refute.units import format_quantity
from refute.verdict import Verdict

_LONG = ("packages", "process", "argv", "environment", "seeds", "git", "harness", "python", "testbed")


_NEWEST = 20  # runs that are shown besides those that evidence comes from


def runs_of(attempts: Iterable[Attempt], behind: Collection[str]) -> tuple[list[RunPart], int]:
    """Show runs, the newest first, and count those that are not shown; one run is of several contracts.

    behind: the runs that evidence comes from; those are shown in full.
    """
    by_run: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_run[attempt.run].append(attempt)
    newest_first = sorted(by_run, reverse=True)
    shown = [run for place, run in enumerate(newest_first) if place < _NEWEST or run in behind]
    return [_run(run, by_run[run], whole=run in behind) for run in shown], len(by_run) - len(shown)


def anchor_of(run: str) -> str:
    """Where a report shows a run."""
    return f"run-{run}"


def summary_of(folder: Path) -> Mapping[str, Any]:
    """The list of a run as it lies there; empty where it cannot be read: that is a problem of the audit."""
    try:
        document = load_strict((folder / SUMMARY).read_bytes())
    except (OSError, StrictJsonError):
        return {}
    return document if isinstance(document, Mapping) else {}


def _run(run: str, members: Sequence[Attempt], *, whole: bool) -> RunPart:
    folders = sorted({attempt.path for attempt in members})
    summaries = [summary for summary in map(summary_of, folders) if summary]
    first = summaries[0] if summaries else {}
    provenance = _mapping(first, "provenance")
    times = [_mapping(each, "time") for each in summaries]
    states = Counter(str(each.get("state", "unknown")) for each in summaries) or Counter(["unreadable"])
    verdicts = Counter(attempt.verdict for attempt in members)
    ends = [str(each["ended"]) for each in times if each.get("ended")]
    return RunPart(
        anchor=anchor_of(run),
        id=run,
        state=", ".join(sorted(states)),
        started=min((str(each.get("started", "")) for each in times), default=""),
        ended=max(ends) if len(ends) == len(times) and ends else "",
        contracts=tuple(folder.parent.name for folder in folders),
        verdicts=tuple((verdict, verdicts[verdict]) for verdict in Verdict if verdicts[verdict]),
        command=shlex.join(map(str, provenance.get("argv", ()))),
        host=_host(_mapping(provenance, "facts")),
        testbed=digits(members[0].testbed),
        code=_code(provenance),
        facts=tuple(_facts(first, members)) if whole else (),
        traces=_longest(map(traces_of, folders)) if whole else (),
    )


def _longest(found: Iterable[tuple[Trace, ...]]) -> tuple[Trace, ...]:
    """Of the contracts of a run, the one that was open for longest tells most."""
    return max(found, key=lambda traces: max((len(each.points) for each in traces), default=0), default=())


def _host(facts: Mapping[str, Any]) -> str:
    """The host in a few words; a fact of a record that was edited may be anything."""
    known = {name: _mapping(facts, name).get("value") for name in facts}
    memory, gpus, cores = (known.get(name) for name in ("memory_bytes", "gpus", "cores_usable"))
    listed = gpus if isinstance(gpus, list) else []
    named = [str(gpu.get("name")) for gpu in listed if isinstance(gpu, Mapping)]
    parts = (
        str(known.get("cpu_model") or "a CPU without a name"),
        counted(cores, "usable core") if isinstance(cores, int) else "",
        format_quantity(memory, "B") if isinstance(memory, int) else "",
        ", ".join(named) or "no GPU",
        str(known.get("container") or ""),
    )
    return ", ".join(filter(None, parts))


def _code(provenance: Mapping[str, Any]) -> str:
    git = _mapping(provenance, "git")
    if not git.get("commit"):
        return f"no commit: {git.get('reason') or 'not recorded'}"
    changed = ", with changes that are not committed" if git.get("dirty") else ""
    return f"commit {digits(str(git['commit']))}{changed}"


def _facts(summary: Mapping[str, Any], members: Sequence[Attempt]) -> list[Pair]:
    provenance, asked = _mapping(summary, "provenance"), _mapping(summary, "requested")
    harness, python = _mapping(provenance, "harness"), _mapping(provenance, "python")
    packages = _mapping(provenance, "packages")
    lines = [
        ("testbed", str(provenance.get("testbed", ""))),
        ("harness", f"{harness.get('name')} {harness.get('version')}, digest {harness.get('digest')}"),
        ("python", f"{python.get('implementation')} {python.get('version')}"),
        ("seeds", ", ".join(f"{name} {seed}" for name, seed in _mapping(provenance, "seeds").items())),
        ("variables that were set", ", ".join(map(str, provenance.get("environment", ())))),
        ("packages", f"{counted(len(packages), 'package')}, listed in {SUMMARY}"),
        *((f"asked for {name}", told(value)) for name, value in asked.items() if value is not None),
        *([("resumes", told(summary["resumes"]))] if summary.get("resumes") else []),
        *pairs_of({key: value for key, value in provenance.items() if key not in _LONG}),
    ]
    targets: dict[str, Mapping[str, Any]] = {}
    for attempt in members:
        target = attempt.finding.target
        if target:
            targets.setdefault(told(target), target)
    for place, target in enumerate(targets.values(), start=1):
        name = "attacked" if len(targets) == 1 else f"attacked {place}"
        lines += pairs_of(
            {key: value for key, value in target.items() if key != "capabilities"}, inside=f"{name}."
        )
        lines.append((f"{name}.capabilities", ", ".join(map(str, target.get("capabilities", ())))))
    return lines


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A member that should be an object; an edited record may hold anything there."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}

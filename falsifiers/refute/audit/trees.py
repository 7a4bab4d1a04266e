"""Rules of all runs together: what lies beside them, what history lost, what they say of each other."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.attempts import model_key
from refute.audit.history import History
from refute.audit.rule import ERROR, NOTE, WARNING, Remark, Rule, rule
from refute.audit.subject import Subject
from refute.audit.times import measured
from refute.reader import SUMMARY
from refute.verdict import Verdict

_SHARED = (
    "git",
    "facts",
    "testbed",
    "python",
    "packages",
    "argv",
    "environment",
    "seeds",
    "harness",
    "process",
)
Key = tuple[
    str, str, str, str, str, str, str
]  # contract, meaning, falsifier, engine, its build, model, testbed


@dataclass(frozen=True, slots=True)
class Trace:
    """What is kept of a run once it has been examined. path: of its folder. files: sha256 of each.

    listing: sha256 of `findings.json`. shared: the part of its provenance that all contracts of one session
    have in common. cites: by name, what it says of other runs. taken_over: its files that are another run's.
    verdicts: what was attacked, and the verdict. series: digest of each series of times -> its
    file and pointer.
    """

    path: str
    contract: str
    run: str
    listing: str
    files: Mapping[str, str]
    shared: Mapping[str, Any]
    cites: Mapping[str, Mapping[str, str]]
    taken_over: Sequence[tuple[str, str]]
    state: str
    selected: Sequence[str]
    verdicts: Sequence[tuple[Key, Verdict]]
    series: Mapping[bytes, tuple[str, str]]

    @classmethod
    def of(cls, subject: Subject) -> "Trace":
        """Keep what rules of all runs ask for."""
        folder, summary = subject.folder, subject.summary
        provenance = {} if summary is None else summary["provenance"]
        listing = folder.entries.get(SUMMARY)
        series = {
            hashlib.sha256(json.dumps(times).encode()).digest(): (file, pointer)
            for file, pointer, times in measured(subject)
        }
        return cls(
            path=folder.path,
            contract=folder.contract,
            run=folder.run,
            listing="" if listing is None else listing.sha256,
            files={name: entry.sha256 for name, entry in folder.entries.items()},
            shared={
                **{key: provenance[key] for key in _SHARED if key in provenance},
                **({} if summary is None else {"requested": summary["requested"]}),
            },
            cites={key: summary[key] for key in ("previous", "resumes") if summary and summary[key]},
            taken_over=[(each.file, each.entry["run"]) for each in subject.filed if each.taken_over],
            state="" if summary is None else summary["state"],
            selected=[] if summary is None else summary["plan"]["selected"],
            verdicts=list(_verdicts(subject)),
            series=series,
        )


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree. missing: why it cannot be read. stray: what lies in it and is no run, below it."""

    path: Path
    missing: str
    stray: Sequence[str]
    history: History


@dataclass(frozen=True, slots=True)
class Trees:
    """All that was examined. Files in remarks are paths."""

    trees: Sequence[Tree]
    traces: Sequence[Trace]


def _verdicts(subject: Subject) -> Iterator[tuple[Key, Verdict]]:
    for _, finding in subject.findings:
        target = finding.target
        if subject.summary is not None and target and finding.judgement is not None:
            names = target["engine"], target["engine_digest"], model_key(target)
            about = finding.contract, finding.contract_semantic_sha256, finding.falsifier
            yield (*about, *map(str, names), subject.summary["provenance"]["testbed"]), finding.verdict


@rule(ERROR, "A tree is a folder that can be read.", "Nothing was audited where something was expected.")
def tree_readable(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        if tree.missing:
            yield Remark(str(tree.path), "", tree.missing, "a folder of records")


@rule(
    WARNING,
    "A tree holds runs, each in the folder of its contract.",
    "Nothing speaks for what lies beside them.",
)
def tree_tidy(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        for name in tree.stray:
            yield Remark(str(tree.path / name), "", "no run", "CONTRACT/RUN/")


@rule(
    ERROR,
    "A record that was committed is what it was.",
    "It was edited or deleted since; a correction is a new record.",
)
def history_kept(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        for change in tree.history.lost:
            found = f"{change.what} by commit {change.commit[:12]}"
            yield Remark(str(tree.path / change.path), "", found, "what was committed first")


@rule(
    ERROR,
    "A record that is committed is as it was committed.",
    "It was edited or deleted in the working tree.",
)
def history_unedited(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        for change in tree.history.unsaved:
            yield Remark(
                str(tree.path / change.path), "", f"{change.what}, not committed", "what is committed"
            )


@rule(NOTE, "A record was never other than it is.", "It was changed for a while, and put back.")
def history_steady(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        for change in tree.history.restored:
            found = f"{change.what}, last by commit {change.commit[:12]}"
            yield Remark(str(tree.path / change.path), "", found, "one version")


@rule(
    WARNING,
    "History reaches back to its beginning.",
    "What was lost before, nobody can see: fetch all of it.",
)
def history_whole(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        if tree.history.shallow:
            yield Remark(str(tree.path), "", "a shallow clone", "all history (git fetch --unshallow)")


@rule(NOTE, "There is a history to ask.", "A record that was deleted leaves no trace.")
def history_there(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        if tree.history.unknown and not tree.missing:
            yield Remark(str(tree.path), "", tree.history.unknown, "a tree under git")


@rule(NOTE, "Every run is committed.", "It can still be changed without a trace.")
def history_complete(trees: Trees) -> Iterable[Remark]:
    for tree in trees.trees:
        runs = tree.history.untracked
        if runs:
            found = f"{len(runs)} not committed, the first is {runs[0]}"
            yield Remark(str(tree.path), "", found, "every run under git")


@rule(ERROR, "One run of one contract says one thing.", "Two copies differ: one of them was changed.")
def run_once(trees: Trees) -> Iterable[Remark]:
    first: dict[tuple[str, str], Trace] = {}
    for trace in trees.traces:
        known = first.setdefault((trace.contract, trace.run), trace)
        if known is not trace and known.files != trace.files:
            yield Remark(
                f"{trace.path}/{SUMMARY}", "", "another run of that name", f"the files of {known.path}"
            )


def _cited(trees: Trees, name: str) -> Iterator[tuple[Trace, str, Mapping[str, str], list[Trace]]]:
    """Every run that cites another: its pointer, what it says, and the runs here that may be meant."""
    named: dict[tuple[str, str], list[Trace]] = defaultdict(list)
    for trace in trees.traces:
        named[trace.contract, trace.run].append(trace)
    for trace in trees.traces:
        if name in trace.cites:
            cited = trace.cites[name]
            yield trace, f"/{name}", cited, named[trace.contract, cited["run"]]


def _broken_links(trees: Trees, name: str) -> Iterator[Remark]:
    for trace, pointer, cited, there in _cited(trees, name):
        file = f"{trace.path}/{SUMMARY}"
        if cited["run"] >= trace.run:
            yield Remark(file, f"{pointer}/run", cited["run"], f"a run before {trace.run}")
        elif not there:
            yield Remark(file, f"{pointer}/run", f"{cited['run']}, which is not here", "a run that is here")
        elif cited["sha256"] not in {each.listing for each in there}:
            found = f"{there[0].listing} of {there[0].path}/{SUMMARY}"
            yield Remark(file, f"{pointer}/sha256", found, f"{cited['sha256']}, when this run began")


@rule(
    ERROR, "The run that a run names as the one before it is here, unchanged.", "It was deleted, or edited."
)
def chain_kept(trees: Trees) -> Iterable[Remark]:
    return _broken_links(trees, "previous")


@rule(ERROR, "The run that a run goes on with is here, unchanged.", "It was deleted, or edited.")
def resumed_kept(trees: Trees) -> Iterable[Remark]:
    return _broken_links(trees, "resumes")


@rule(
    ERROR,
    "Findings that were taken over are the interrupted run's, byte for byte; the rest was asked for alike.",
    "They come from elsewhere, or something else was attacked.",
)
def resumed_same(trees: Trees) -> Iterable[Remark]:
    for trace, _, cited, there in _cited(trees, "resumes"):
        for file, _ in trace.taken_over:
            if there and trace.files.get(file) not in {each.files.get(file) for each in there}:
                yield Remark(f"{trace.path}/{file}", "", "another file", f"that of run {cited['run']}")
        asked = trace.shared.get("requested")
        if there and not any(_goes_on(asked, each.shared.get("requested")) for each in there):
            yield Remark(
                f"{trace.path}/{SUMMARY}", "/requested", "another request", f"that of run {cited['run']}"
            )
        if there and trace.selected not in [each.selected for each in there]:
            found = ", ".join(trace.selected)
            yield Remark(f"{trace.path}/{SUMMARY}", "/plan/selected", found, f"those of run {cited['run']}")
        if there and all(each.state == "complete" for each in there):
            yield Remark(f"{trace.path}/{SUMMARY}", "/resumes/run", "a complete run", "an interrupted one")


def _goes_on(asked: Any, before: Any) -> bool:
    """Whether a request is that of the run before, whose backend it may name where that one left it open.

    Which one is the fastest may have changed meanwhile; what goes on computes as what was taken over.
    """
    if isinstance(asked, dict) and isinstance(before, dict) and before.get("backend") is None:
        asked = {**asked, "backend": None}
    return bool(asked == before)


@rule(
    NOTE,
    "Runs of one contract in one tree form one chain.",
    "One of them was made elsewhere, at the same time, or put there later.",
)
def chain_single(trees: Trees) -> Iterable[Remark]:
    runs: dict[str, list[Trace]] = defaultdict(list)
    for trace in trees.traces:
        runs[trace.path.rpartition("/")[0]].append(trace)
    for chain in runs.values():
        starts = [trace for trace in chain if "previous" not in trace.cites]
        cited = [trace.cites["previous"]["run"] for trace in chain if "previous" in trace.cites]
        for trace in chain:
            if cited.count(trace.run) > 1:
                found = f"{cited.count(trace.run)} runs after {trace.run}"
                yield Remark(f"{trace.path}/{SUMMARY}", "/run", found, "one")
        for trace in starts[1:]:
            yield Remark(f"{trace.path}/{SUMMARY}", "/previous", "null", "the run before it")


@rule(
    ERROR,
    "The contracts of one session were attacked by one command on one host.",
    "One of its runs was changed, or comes from elsewhere.",
)
def session_same(trees: Trees) -> Iterable[Remark]:
    first: dict[str, Trace] = {}
    for trace in trees.traces:
        known = first.setdefault(trace.run, trace)
        for key, value in trace.shared.items():
            if key in known.shared and value != known.shared[key]:
                expected = f"{json.dumps(known.shared[key])}, as in {known.path}"
                yield Remark(f"{trace.path}/{SUMMARY}", _shared_at(key), json.dumps(value), expected)


def _shared_at(key: str) -> str:
    return f"/{key}" if key == "requested" else f"/provenance/{key}"


@rule(
    ERROR,
    "No two runs took the same times to the nanosecond, token for token.",
    "A run was copied under another name instead of being repeated.",
)
def times_own(trees: Trees) -> Iterable[Remark]:
    first: dict[bytes, tuple[Trace, str]] = {}
    for trace in trees.traces:
        for digest, (file, pointer) in trace.series.items():
            known, where = first.setdefault(digest, (trace, f"{trace.path}/{file}#{pointer}"))
            if (known.contract, known.run) != (trace.contract, trace.run):
                yield Remark(f"{trace.path}/{file}", pointer, f"the times of {where}", "times of its own")


@rule(
    WARNING,
    "What was falsified was not run again until it was green.",
    "The green attempt does not undo the falsified one; nothing that was attacked had changed.",
)
def attempts_final(trees: Trees) -> Iterable[Remark]:
    falsified: dict[Key, Trace] = {}
    later: dict[Key, list[Trace]] = defaultdict(list)
    for trace in sorted(trees.traces, key=lambda trace: trace.run):
        for key, verdict in trace.verdicts:
            if verdict is Verdict.FALSIFIED:
                falsified.setdefault(key, trace)
            elif verdict is Verdict.SURVIVED and key in falsified:
                later[key].append(trace)
    for key, traces in later.items():
        for trace in traces:
            where = f"{trace.path}/{key[2]}.json"
            yield Remark(where, "/verdict", "survived", f"falsified, as in run {falsified[key].run}")


RULES: tuple[Rule[Trees], ...] = (
    tree_readable,
    tree_tidy,
    history_kept,
    history_unedited,
    history_steady,
    history_whole,
    history_there,
    history_complete,
    run_once,
    chain_kept,
    chain_single,
    resumed_kept,
    resumed_same,
    session_same,
    times_own,
    attempts_final,
)

"""`check_kind`: what a kind of attack must keep to, checked on engines that are known.

Use it in the tests of your own kind:

    def test_my_kind_keeps_the_rules():
        check_kind(MyKind, {"max_tokens": 4, ...}, Bound(cases=20, confidence=0.95), faults=["stale-row"])
"""

import copy
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refute.contract import Bound
from refute.finding import Finding
from refute.kinds.base import Kind, Measured, Observation, Searched
from refute.provenance import collect
from refute.purity import watched
from refute.reader import read_run
from refute.record import RecordError, RunWriter
from refute.rejudge import rejudge
from refute.strict_json import dump_strict, load_strict
from refute.targets.base import Target
from refute.targets.fake import FakeTarget
from refute.testing_subject import Subject
from refute.verdict import Outcome

__all__ = ["check_kind"]

Observations = Sequence[Observation]
_NOT_FINITE = (math.nan, math.inf, -math.inf)


def check_kind(
    kind_type: type[Kind[Any]],
    parameters: Mapping[str, Any],
    bound: Bound,
    *,
    faults: Sequence[str],
    target: Target | None = None,
    fake: Callable[[int], Target] = FakeTarget,
    seeds: Sequence[int] = (0, 1, 2),
) -> None:
    """Attack engines that are known with this kind. Raises `AssertionError`, a sentence, for what it breaks.

    parameters, bound, faults: as a contract's `with`, `bound` and `must_catch` would give them. fake: makes
    the known-good engine of a seed; the kind must be green on it for all `seeds`. target: the engine that
    the faults are planted in, a fake one if not given; without a fault the kind must be green on it as well.
    """
    subject = Subject.of(kind_type, parameters, bound, faults, fake)
    good = [subject.attack(fake(seed), seed) for seed in seeds]
    for seed, finding in zip(seeds, good, strict=True):
        subject.green(finding, f"on the known-good engine with seed {seed}")
    first = good[0].observations
    _data(subject, first, fake(seeds[0]))
    _pure(subject, first)
    _never_green(subject, first)
    whole = subject.attack(target or fake(len(seeds)), faults=True)
    subject.green(whole, "on the target without a fault")
    red = subject.red(target or fake(len(seeds)))
    _pure(subject, red.judged)
    _recorded(subject, (good[0], whole, red))


def _data(subject: Subject, observations: Observations, target: Target) -> None:
    """Cases and samples are JSON data, and a case read from a record can be run."""
    for observation in observations:
        stored = dataclasses.asdict(observation)
        read = load_strict(dump_strict(stored))
        if read != stored:
            subject.fail(
                "keeps observations that JSON changes; expected lists, not tuples, and plain numbers"
            )
    case = load_strict(dump_strict(observations[0].case))
    if subject.kind.observe(target, case).case != case:
        subject.fail("keeps another case than the one it was given, so that a record could not be run again")


def _pure(subject: Subject, observations: Observations) -> None:
    """The same answers whenever, wherever and by whomever a record is judged."""
    bound, kind = subject.falsifier.bound, subject.kind
    before = _text(observations)
    answers = _answers(kind, observations, bound)
    if not isinstance(answers["figure"], str):
        subject.fail(f"figure gives {answers['figure']!r}, expected one short phrase")
    with watched() as asked:
        again = _answers(kind, observations, bound)
    if _text(observations) != before:
        subject.fail("changes the observations that it judges")
    if asked:
        subject.fail(f"asks more than its arguments when it judges: {', '.join(sorted(set(asked)))}")
    copies: dict[str, tuple[Kind[Any], Observations]] = {
        "when it is asked twice": (kind, observations),
        "in another instance": (subject.kind, observations),
        "once the observations were stored and read": (subject.kind, [*map(_read, observations)]),
        "when keys come in another order": (subject.kind, [*map(_reversed, observations)]),
    }
    for how, (judge, shown) in copies.items():
        found = again if judge is kind else _answers(judge, shown, bound)
        for name, value in answers.items():
            if repr(found[name]) != repr(value):
                subject.fail(f"{name} answers otherwise {how}")


def _answers(kind: Kind[Any], observations: Observations, bound: Bound) -> dict[str, Any]:
    judgement = kind.judge(observations, bound)
    answers = {
        "judge": dataclasses.asdict(judgement),
        "figure": kind.figure(judgement, bound),
        "caught": kind.caught(observations, bound),
    }
    if isinstance(kind, Searched):
        answers["refutes"] = [*map(kind.refutes, observations)]
        answers["informative"] = [*map(kind.informative, observations)]
    if isinstance(kind, Measured):
        answers["measure"] = [*map(kind.measure, observations)]
    return answers


def _never_green(subject: Subject, observations: Observations) -> None:
    """Nothing, too little, and samples that are no numbers never survive."""
    bound, kind, planned = subject.falsifier.bound, subject.kind, subject.size
    for few in sorted({0, 1, planned // 2, planned - 1} - {planned}):
        try:
            judgement = kind.judge(observations[:few], bound)
            kind.figure(judgement, bound)
        except Exception as error:
            sentence = f"{kind.name}: breaks on {few} observations: {type(error).__name__}: {error}"
            raise AssertionError(sentence) from error
        if judgement.outcome is Outcome.SURVIVED:
            subject.fail(f"survives on {few} observations of {planned} planned")
    if kind.caught((), bound):
        subject.fail("calls a fault caught before anything was observed")
    for where, spoilt in _spoilt(observations[:planned]):
        if _survives(kind, spoilt, bound):
            subject.fail(f"survives with {where}; a sample that is no number must never help a claim")
    if isinstance(kind, Measured):
        for value in _NOT_FINITE:
            if _survives(_mismeasured(kind, observations[0], value), observations, bound):
                subject.fail(f"survives with a run that measured {value}")


def _mismeasured(kind: Measured[Any], wrong: Observation, value: float) -> Measured[Any]:
    """The same kind, but that it measures `value` in one observation."""

    class Mismeasured(type(kind)):  # type: ignore[misc]
        def measure(self, observation: Observation) -> float:
            return value if observation is wrong else float(super().measure(observation))

    return Mismeasured(kind.parameters)


def _survives(kind: Kind[Any], observations: Observations, bound: Bound) -> bool:
    """Whether it calls them green; breaking is no way to be green."""
    try:
        return kind.judge(observations, bound).outcome is Outcome.SURVIVED
    except Exception:  # noqa: BLE001 (it becomes the verdict `error`)
        return False


def _spoilt(observations: Observations) -> Iterator[tuple[str, Observations]]:
    """The observations with one float of one of them gone bad: each place once, whatever its index."""
    seen: dict[tuple[str, ...], tuple[int, tuple[str | int, ...]]] = {}
    for index, observation in enumerate(observations):
        for path in _floats(observation.samples):
            seen.setdefault(tuple("*" if isinstance(s, int) else s for s in path), (index, path))
    for shape, (index, path) in seen.items():
        for value in (*_NOT_FINITE, None):
            copied = copy.deepcopy(list(observations))
            inner: Any = copied[index].samples
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            yield f"{'null' if value is None else value} in {'/'.join(shape)}", copied


def _floats(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(data, float):
        yield path
    elif isinstance(data, Mapping | list):
        for step, inner in data.items() if isinstance(data, Mapping) else enumerate(data):
            yield from _floats(inner, (*path, step))


def _recorded(subject: Subject, findings: Sequence[Finding]) -> None:
    """Every finding can be written, and what it concludes can be derived again from what was read."""
    with tempfile.TemporaryDirectory(prefix="refute-check-kind-") as name:
        provenance = collect(argv=["check_kind"], seeds={"run": 0}, directory=Path(name))
        for finding in findings:
            faults = subject.falsifier.must_catch if finding.faults else ()
            falsifier = dataclasses.replace(subject.falsifier, must_catch=faults)
            contract = dataclasses.replace(subject.contract, falsifiers=(falsifier,))
            writer = RunWriter.open(
                Path(name), contract, selected=["checked"], provenance=provenance, run=finding.run
            )
            try:
                writer.write(finding)
            except RecordError as why:
                subject.fail(f"gives a finding that cannot be recorded: {why}")
            writer.seal()
            run = read_run(writer.path)
            derived = [rejudge(each, "record", contract, lambda _: subject.kind_type) for each in run.records]
            wrong = [*run.problems, *(each for rejudged in derived for each in rejudged.discrepancies)]
            if wrong or not derived or derived[0].unjudged:
                found = str(wrong[0]) if wrong else "nothing could be judged"
                subject.fail(f"a record of it does not lead to its verdict: {found}")


def _text(observations: Observations) -> str:
    return repr([dataclasses.asdict(each) for each in observations])


def _read(observation: Observation) -> Observation:
    return Observation(**load_strict(dump_strict(dataclasses.asdict(observation))))


def _reversed(observation: Observation) -> Observation:
    return Observation(_backwards(observation.case), _backwards(observation.samples))


def _backwards(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _backwards(data[key]) for key in reversed(list(data))}
    return [*map(_backwards, data)] if isinstance(data, list) else data

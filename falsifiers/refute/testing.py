"""`check_kind`: what a kind of attack must keep to, checked on engines that are known.

Use it in the tests of your own kind:

    def test_my_kind_keeps_the_rules():
        check_kind(MyKind, {"max_tokens": 4, ...}, Bound(cases=20, confidence=0.95), faults=["stale-row"])
"""

import copy
import dataclasses
import hashlib
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from refute.attack import Controls, attack
from refute.contract import Bound, Contract, Falsifier, ModelClaim, Scope
from refute.faults import FAULTS
from refute.faults.base import UnknownFault, parse_fault
from refute.finding import Finding, missed
from refute.kinds.base import Kind, Measured, Observation, Planned, Searched
from refute.provenance import collect
from refute.purity import watched
from refute.reader import read_run
from refute.record import RecordError, RunWriter, new_run_id
from refute.rejudge import rejudge
from refute.strict_json import dump_strict, load_strict
from refute.targets.base import CannotPlant, Target
from refute.targets.fake import FakeTarget
from refute.verdict import Level, Outcome, Verdict

__all__ = ["check_kind"]

Observations = Sequence[Observation]
_NOTHING = hashlib.sha256(b"").hexdigest()
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
    subject = _Subject.of(kind_type, parameters, bound, faults, fake)
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


@dataclass(frozen=True, slots=True)
class _Subject:
    """The kind under test, as the only falsifier of a contract that no file holds."""

    kind_type: type[Kind[Any]]
    falsifier: Falsifier
    contract: Contract
    fake: Callable[[int], Target]

    @classmethod
    def of(
        cls,
        kind_type: type[Kind[Any]],
        parameters: Mapping[str, Any],
        bound: Bound,
        faults: Sequence[str],
        fake: Callable[[int], Target],
    ) -> "_Subject":
        try:
            caught = tuple(parse_fault(fault, FAULTS) for fault in faults)
        except UnknownFault as unknown:
            raise AssertionError(f"no fault is called {unknown}; see refute.faults.catalogue") from None
        if not caught:
            raise AssertionError(
                f"{kind_type.name}: name faults; a kind that need not catch any shows nothing"
            )
        falsifier = Falsifier(
            id="checked",
            alias=None,
            claim=(kind_type.__doc__ or kind_type.name).strip(),
            kind=kind_type.name,
            requires=(),
            parameters=dict(parameters),
            bound=bound,
            must_catch=caught,
            needs=(),
            discharge=Level.SIMULATED,
            line=1,
            column=1,
        )
        contract = Contract(
            id="check-kind-v1",
            version="1.0.0",
            title="The conformance test of a kind",
            description="",
            model=ModelClaim("none", "none", ()),
            references=(),
            scope=Scope((), ()),
            falsifiers=(falsifier,),
            history=(),
            path=Path("check-kind-v1.yaml"),
            source=b"",
            bytes_sha256=_NOTHING,
            semantic_sha256=_NOTHING,
        )
        subject = cls(kind_type, falsifier, contract, fake)
        _declared(subject)
        return subject

    @property
    def kind(self) -> Kind[Any]:
        """A new instance, as every reader of a record makes one."""
        return self.kind_type.of(self.falsifier.parameters)

    @property
    def size(self) -> int:
        """Planned cases or runs."""
        bound = self.falsifier.bound
        size = bound.cases if issubclass(self.kind_type, Searched) else bound.runs
        if size is None:
            self.fail("the bound must say how many cases (or runs) are planned")
        return size

    def attack(self, target: Target, seed: int = 0, *, faults: bool = False) -> Finding:
        """Attack as a run does, with or without its faults."""
        bugs: list[Exception] = []
        falsifier = self.falsifier if faults else dataclasses.replace(self.falsifier, must_catch=())
        finding = attack(
            falsifier,
            target,
            contract=self.contract,
            run=new_run_id(),
            seed=seed,
            controls=Controls(self.fake),
            on_bug=bugs.append,
            kinds=lambda _: self.kind_type,
        )
        if bugs:
            raise AssertionError(f"{self.kind_type.name}: {finding.reason}") from bugs[0]
        return finding

    def green(self, finding: Finding, where: str) -> None:
        """The claim survived, every fault was caught."""
        uncaught = [f"{trial.name}={trial.dose:g} ({trial.reason})" for trial in missed(finding.faults)]
        if uncaught:
            self.fail(f"does not turn red on {', '.join(uncaught)}")
        if finding.verdict is not Verdict.SURVIVED:
            self.fail(f"is not green {where}: {finding.verdict}: {finding.reason}")

    def red(self, target: Target) -> Finding:
        """Attack an engine that has the first fault, as if it were any engine; it must not survive."""
        fault = self.falsifier.must_catch[0]
        with ExitStack() as stack:
            try:
                faulty = stack.enter_context(target.plant(fault, self.falsifier.bound))
            except CannotPlant as why:
                self.fail(f"cannot be shown to catch {fault}: {why}")
            finding = self.attack(faulty)
        if finding.verdict is Verdict.SURVIVED:
            self.fail(f"survives a whole attack on an engine with {fault}")
        return finding

    def fail(self, sentence: str) -> NoReturn:
        raise AssertionError(f"{self.kind_type.name}: {sentence}")


def _declared(subject: _Subject) -> None:
    """What the class statement and the parameters promise."""
    kind_type, parameters, bound = subject.kind_type, subject.falsifier.parameters, subject.falsifier.bound
    if not issubclass(kind_type, Searched | Planned):
        subject.fail("derives from neither Searched nor Planned, so that nothing can attack with it")
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind_type.name) is None:
        subject.fail("its name must be of small letters, digits and single hyphens")
    fields = kind_type.parameters_type
    if not dataclasses.is_dataclass(fields) or not fields.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        subject.fail(f"its parameters, {fields.__name__}, must be a frozen dataclass")
    try:
        kind_type.of(parameters)
    except Exception as error:
        raise AssertionError(f"{kind_type.name}: refuses these parameters: {error}") from error
    if not _refuses(kind_type, {**parameters, "no_such_parameter": 0}):
        subject.fail("takes a parameter that it does not have, so that a misspelt one has no effect")
    given = {name for name, value in dataclasses.asdict(bound).items() if value is not None}
    unused = given - kind_type.bound_fields - {"unit"}
    if unused:
        subject.fail(f"cannot use {', '.join(sorted(unused))} in its bound; it names no such bound_fields")


def _refuses(kind_type: type[Kind[Any]], parameters: Mapping[str, Any]) -> bool:
    try:
        kind_type.of(parameters)
    except Exception:  # noqa: BLE001 (any refusal will do)
        return True
    return False


def _data(subject: _Subject, observations: Observations, target: Target) -> None:
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


def _pure(subject: _Subject, observations: Observations) -> None:
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


def _never_green(subject: _Subject, observations: Observations) -> None:
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


def _recorded(subject: _Subject, findings: Sequence[Finding]) -> None:
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

"""One falsifier against one target: known-good control, faults, then the real attack, then the verdict.

The order is the point. A check that cannot fail, or that fails on an honest engine, must show it before
its verdict on the engine counts.
"""

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from refute.contract import Bound, Contract, Falsifier
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.faults import FAULTS
from refute.faults.base import Fault, milder
from refute.finding import Control, FaultTrial, Finding, missed, timestamp
from refute.kinds import kind_named, kind_origin
from refute.kinds.base import Case, Kind, Observation, Planned, Searched
from refute.recordable import NOTHING, Requested, identity_as_data, settings_of
from refute.strict_json import check
from refute.targets.base import CannotPlant, Target, TargetError
from refute.verdict import Outcome, Verdict, conclude

_NEAR_MISS = 1 / 5  # of the cases: smaller doses only say how sensitive the falsifier is


@dataclass(frozen=True, slots=True)
class Stage:
    """Where an attack is: what it does, how many cases of how many."""

    falsifier: str
    doing: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Controls:
    """Where the known-good fake comes from, and the stand-in for faults that the target has no seam for."""

    fake: Callable[[int], Target]
    stand_in: Callable[[], Target] | None = None


@dataclass(frozen=True, slots=True)
class _Attack:
    """What every step of one falsifier's attack shares."""

    falsifier: Falsifier
    kind: Kind[Any]
    target: Target
    controls: Controls
    seed: int
    report: Callable[[Stage], None]
    alone: Callable[[], AbstractContextManager[None]]
    known: Sequence[Case] = ()

    @property
    def size(self) -> int:
        """Planned cases or runs."""
        return size_of(self.kind, self.falsifier.bound)

    def say(self, doing: str, done: int = 0) -> None:
        self.report(Stage(self.falsifier.id, doing, done, self.size))


def attack(
    falsifier: Falsifier,
    target: Target,
    *,
    contract: Contract,
    run: str,
    seed: int,
    controls: Controls,
    requested: Requested = NOTHING,
    report: Callable[[Stage], None] = lambda _: None,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
    known: Sequence[Case] = (),
    faults_only: bool = False,
    also: Sequence[Fault] = (),
    on_bug: Callable[[Exception], None] = lambda _: None,
    kinds: Callable[[str], type[Kind[Any]]] = kind_named,
) -> Finding:
    """Attack and conclude; every failure of the target or of the falsifier becomes a verdict.

    requested: what the run was asked for. report: told before every case. alone: gives the host to a claim
    about time while it is attacked. known: cases that refuted the claim before; a search tries them first.
    faults_only: plant the faults and skip the real attack; the verdict then only says whether they
    were caught (`invalid` if not, else `inconclusive`, for nothing was attacked). also: faults to plant
    besides those that must be caught. on_bug: given the exception of a falsifier that broke, whose
    traceback the finding does not keep.
    """
    clock = time.monotonic()
    kind = kinds(falsifier.kind).of(falsifier.parameters)
    blank = unattacked(
        falsifier,
        Verdict.ERROR,
        "",
        contract=contract,
        run=run,
        seed=seed,
        target=identity_as_data(target),
        requested=requested,
        kinds=kinds,
    )
    plan = _Attack(falsifier, kind, target, controls, seed, report, alone, known)
    try:
        finding = _run(plan, blank, faults_only=faults_only, also=also)
        check(finding.to_json())  # samples that no record can hold are the falsifier's own fault
    except TargetError as error:
        finding = dataclasses.replace(blank, reason=f"the target failed: {error}")
    except Exception as error:  # noqa: BLE001 (a broken falsifier is a verdict, and must reach the record)
        on_bug(error)
        finding = dataclasses.replace(blank, reason=f"the falsifier broke: {type(error).__name__}: {error}")
    after = identity_as_data(target) if finding.observations else None
    return dataclasses.replace(
        finding,
        settings=settings_of(requested, finding.target, after, seed),
        ended=timestamp(),
        seconds=round(time.monotonic() - clock, 3),
    )


def unattacked(
    falsifier: Falsifier,
    verdict: Verdict,
    reason: str,
    *,
    contract: Contract,
    run: str,
    seed: int,
    target: Mapping[str, Any],
    requested: Requested = NOTHING,
    kinds: Callable[[str], type[Kind[Any]]] = kind_named,
) -> Finding:
    """Return a finding without any observation: where every attack starts, or where none can be made."""
    origin, now = kind_origin(falsifier.kind), timestamp()
    return Finding(
        run=run,
        contract=contract.id,
        contract_version=contract.version,
        contract_semantic_sha256=contract.semantic_sha256,
        falsifier=falsifier.id,
        alias=falsifier.alias,
        claim=falsifier.claim,
        kind=falsifier.kind,
        rule_version=kinds(falsifier.kind).rule_version,
        kind_origin=None if origin is None else dataclasses.asdict(origin),
        verdict=verdict,
        reason=reason,
        figure="",
        bound=bound_as_data(falsifier.bound),
        parameters=dict(falsifier.parameters),
        seed=seed,
        target=target,
        settings=settings_of(requested, target, None, seed),
        started=now,
        ended=now,
    )


def _run(plan: _Attack, blank: Finding, *, faults_only: bool, also: Sequence[Fault]) -> Finding:
    missing = (plan.kind.requires | set(plan.falsifier.requires)) - plan.target.capabilities
    if missing:
        reason = f"the target lacks {', '.join(sorted(missing))}"
        if "reference" in missing:
            reason += "; nothing here has numbers of another implementation for this model and backend"
        return dataclasses.replace(blank, verdict=Verdict.NOT_APPLICABLE, reason=reason)
    control = _control(plan)
    trials = [trial for fault in plan.falsifier.must_catch for trial in _trials(plan, fault)]
    trials += [_tried(plan, fault) for fault in also]
    with_controls = dataclasses.replace(
        blank, control=control, faults=tuple(trials), sensitivity=sensitivity_of(trials)
    )
    caught = not missed(trials)
    if faults_only:
        verdict = Verdict.INCONCLUSIVE if caught and control.green else Verdict.INVALID
        reason = reason_for(verdict, None, control, trials)
        return dataclasses.replace(with_controls, verdict=verdict, reason=reason, figure="faults only")
    with plan.alone() if plan.kind.timing else nullcontext():
        observations, counterexample, replays = _observe(plan)
    attacked = dataclasses.replace(
        with_controls, observations=observations, counterexample=counterexample, replays=replays
    )
    judgement = plan.kind.judge(attacked.judged, plan.falsifier.bound)
    verdict = conclude(judgement, faults_caught=caught, control_green=control.green, valid=True)
    return dataclasses.replace(
        attacked,
        verdict=verdict,
        reason=reason_for(verdict, judgement, control, trials),
        figure=plan.kind.figure(judgement, plan.falsifier.bound),
        judgement=judgement,
        counters=counters_of(attacked.judged),
    )


def _control(plan: _Attack) -> Control:
    """Attack the known-good fake with the same plan; it must survive."""
    plan.say("known-good control")
    fake = plan.controls.fake(derive_seed(plan.seed, plan.falsifier.id, "fake"))
    observations = _sample(plan, fake, "control")
    judgement = plan.kind.judge(observations, plan.falsifier.bound)
    return Control(fake.identity.name, judgement.outcome is Outcome.SURVIVED, judgement, observations)


def _trials(plan: _Attack, fault: Fault) -> list[FaultTrial]:
    """Try the fault that must be caught, then smaller doses, the mildest first, until one is caught."""
    trials = [_trial(plan, fault, must=True)]
    if trials[0].caught:
        for dose in _milder(fault):
            trials.append(_trial(plan, Fault(fault.name, dose), must=False))
            if trials[-1].caught:
                break
    return trials


def _tried(plan: _Attack, fault: Fault) -> FaultTrial:
    """Try a fault that nobody promised to catch; a falsifier that breaks under it has not caught it."""
    try:
        return _trial(dataclasses.replace(plan, controls=Controls(plan.controls.fake)), fault, must=False)
    except Exception as error:  # noqa: BLE001 (whatever a broken engine makes of a falsifier)
        trial = _untried(fault, f"broke the falsifier: {type(error).__name__}: {error}", must=False)
        return dataclasses.replace(trial, planted="target")


def _milder(fault: Fault) -> list[float]:
    """Doses of the catalogue that are milder than this one, mildest first."""
    spec = FAULTS[fault.name]
    return [dose for dose in spec.doses if milder(dose, fault.dose, spec)]


def _trial(plan: _Attack, fault: Fault, *, must: bool) -> FaultTrial:
    plan.say(f"fault {fault}")
    bound = plan.falsifier.bound
    planted = "target"
    with ExitStack() as stack:
        try:
            faulty = stack.enter_context(plan.target.plant(fault, bound))
        except CannotPlant as why:
            if plan.controls.stand_in is None:
                return _untried(fault, str(why), must=must)
            planted = "stand-in"
            try:
                faulty = stack.enter_context(plan.controls.stand_in().plant(fault, bound))
            except CannotPlant as neither:
                return _untried(fault, f"{why}; stand-in: {neither}", must=must)
        try:
            observations = _sample(
                plan,
                faulty,
                "attack",
                doing=f"fault {fault}",
                until_red=True,
                effort=1 if must else _NEAR_MISS,
            )
        except CannotPlant as why:  # a seam that only showed when it was used
            return _untried(fault, str(why), must=must)
    caught = plan.kind.caught(observations, bound)
    reason = "turned red" if caught else f"stayed green over {len(observations)} cases"
    unit = FAULTS[fault.name].unit
    return FaultTrial(fault.name, fault.dose, unit, planted, must, caught, reason, observations)


def _untried(fault: Fault, why: str, *, must: bool) -> FaultTrial:
    """A fault that could be planted nowhere counts as missed: nothing shows that the falsifier sees it."""
    unit = FAULTS[fault.name].unit
    return FaultTrial(
        fault.name, fault.dose, unit, "nowhere", must, caught=False, reason=why, observations=()
    )


def _observe(plan: _Attack) -> tuple[tuple[Observation, ...], Observation | None, bool | None]:
    """The real attack: all observations; the shrunk counterexample, if any, and whether it replays."""
    plan.say("attack")
    seed = derive_seed(plan.seed, plan.falsifier.id, "attack")
    if not isinstance(plan.kind, Searched):
        return _sample(plan, plan.target, "attack"), None, None
    from refute.search import search  # noqa: PLC0415 (start-up time)

    result = search(
        plan.kind,
        plan.target,
        cases=plan.size,
        seed=seed,
        known=plan.known,
        on_case=lambda n: plan.say("attack", n),
    )
    return result.observations, result.counterexample, result.replays


def _sample(
    plan: _Attack, target: Target, what: str, *, doing: str = "", until_red: bool = False, effort: float = 1
) -> tuple[Observation, ...]:
    """what: names the seed of the cases. doing: what is shown, where it is something else."""
    seed = derive_seed(plan.seed, plan.falsifier.id, what)
    return sample(
        plan.kind,
        plan.falsifier.bound,
        target,
        seed=seed,
        until_red=until_red,
        effort=effort,
        on_case=lambda done: plan.say(doing or what, done),
    )


def sample(
    kind: Kind[Any],
    bound: Bound,
    target: Target,
    *,
    seed: int,
    until_red: bool = False,
    effort: float = 1,
    on_case: Callable[[int], None] = lambda _: None,
) -> tuple[Observation, ...]:
    """The planned cases of an attack or a control, unshrunk; a search ends at its first counterexample.

    until_red: other kinds too stop as soon as a green verdict is ruled out. effort: the share of the cases
    or runs that are tried. on_case: told how many cases are done.
    """
    size = size_of(kind, bound)
    if isinstance(kind, Searched):
        from refute.search import first_counterexample  # noqa: PLC0415 (start-up time)

        cases = math.ceil(size * effort)
        return first_counterexample(kind, target, cases=cases, seed=seed, on_case=on_case)
    assert isinstance(kind, Planned)
    observations: list[Observation] = []
    for case in kind.plan(target, size, seed)[: math.ceil(size * effort)]:
        on_case(len(observations))
        observations.append(kind.observe(target, case))
        if until_red and kind.caught(observations, bound):
            break
    return tuple(observations)


def size_of(kind: Kind[Any], bound: Bound) -> int:
    """How many cases or runs a bound plans."""
    size = bound.cases if isinstance(kind, Searched) else bound.runs
    assert size is not None
    return size


def derive_seed(seed: int, *labels: str) -> int:
    """Derive an independent seed below 2**32 from a seed and labels."""
    text = "/".join([str(seed), *labels])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

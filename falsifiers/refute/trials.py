"""The known-good control, and the faults that a falsifier must catch: each planted and attacked.

They use the target as the real attack does, by the same plan; `refute.attack` says in which order.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from refute.contract import Bound, Falsifier
from refute.faults import FAULTS
from refute.faults.base import Fault, milder
from refute.finding import Control, FaultTrial
from refute.kinds.base import Case, Kind, Observation, Planned, Searched
from refute.redaction import sentence
from refute.targets.base import CannotPlant, Target
from refute.verdict import Outcome

_NEAR_MISS = 1 / 10  # of the cases: smaller doses only say how sensitive the falsifier is
_UNPROMISED = 1 / 5  # of the cases, of faults that nobody promised to catch


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
class Plan:
    """What every step of one falsifier's attack shares. between: done before every case."""

    falsifier: Falsifier
    kind: Kind[Any]
    target: Target
    controls: Controls
    seed: int
    report: Callable[[Stage], None]
    alone: Callable[[], AbstractContextManager[None]]
    known: Sequence[Case] = ()
    between: Callable[[], None] = lambda: None

    @property
    def size(self) -> int:
        """Planned cases or runs."""
        return size_of(self.kind, self.falsifier.bound)

    def say(self, doing: str, done: int = 0) -> None:
        self.report(Stage(self.falsifier.id, doing, done, self.size))

    def case(self, doing: str, done: int) -> None:
        """To be called before every case."""
        self.say(doing, done)
        self.between()


def controlled(plan: Plan) -> Control:
    """Attack the known-good fake with the same plan; it must survive."""
    plan.say("known-good control")
    fake = plan.controls.fake(derive_seed(plan.seed, plan.falsifier.id, "fake"))
    observations = sampled(plan, fake, "control")
    judgement = plan.kind.judge(observations, plan.falsifier.bound)
    return Control(fake.identity.name, judgement.outcome is Outcome.SURVIVED, judgement, observations)


def trials_of(plan: Plan, fault: Fault) -> list[FaultTrial]:
    """Try the fault that must be caught, then smaller doses, the mildest first, until one is caught.

    Smaller doses get few cases, but no fewer than it took to catch the fault itself: with fewer, a claim
    about a number of runs could not turn red under any dose.
    """
    trials = [_trial(plan, fault, must=True, cases=plan.size)]
    if trials[0].caught:
        few = max(math.ceil(plan.size * _NEAR_MISS), len(trials[0].observations))
        for dose in _milder(fault):
            trials.append(_trial(plan, Fault(fault.name, dose), must=False, cases=few))
            if trials[-1].caught:
                break
    return trials


def tried(plan: Plan, fault: Fault) -> FaultTrial:
    """Try a fault that nobody promised to catch; a falsifier that breaks under it has not caught it."""
    try:
        here = dataclasses.replace(plan, controls=Controls(plan.controls.fake))
        return _trial(here, fault, must=False, cases=math.ceil(plan.size * _UNPROMISED))
    except Exception as error:  # noqa: BLE001 (whatever a broken engine makes of a falsifier)
        trial = _untried(fault, f"broke the falsifier: {type(error).__name__}: {error}", must=False)
        return dataclasses.replace(trial, planted="target")


def _milder(fault: Fault) -> list[float]:
    """Doses of the catalogue that are milder than this one, mildest first."""
    spec = FAULTS[fault.name]
    return [dose for dose in spec.doses if milder(dose, fault.dose, spec)]


def _trial(plan: Plan, fault: Fault, *, must: bool, cases: int) -> FaultTrial:
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
            observations = sampled(
                plan, faulty, "attack", doing=f"fault {fault}", until_red=True, cases=cases
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
        fault.name, fault.dose, unit, "nowhere", must, caught=False, reason=sentence(why), observations=()
    )


def sampled(
    plan: Plan,
    target: Target,
    what: str,
    *,
    doing: str = "",
    until_red: bool = False,
    cases: int | None = None,
) -> tuple[Observation, ...]:
    """what: names the seed of the cases. doing: what is shown, where it is something else."""
    seed = derive_seed(plan.seed, plan.falsifier.id, what)
    return sample(
        plan.kind,
        plan.falsifier.bound,
        target,
        seed=seed,
        until_red=until_red,
        cases=cases,
        on_case=lambda done: plan.case(doing or what, done),
    )


def sample(
    kind: Kind[Any],
    bound: Bound,
    target: Target,
    *,
    seed: int,
    until_red: bool = False,
    cases: int | None = None,
    on_case: Callable[[int], None] = lambda _: None,
) -> tuple[Observation, ...]:
    """The planned cases of an attack or a control, unshrunk; a search ends at its first counterexample.

    until_red: other kinds too stop as soon as a green verdict is ruled out, or cannot be any more. cases:
    how many cases or runs are tried, if not all. on_case: told how many cases are done.
    """
    size = size_of(kind, bound)
    if isinstance(kind, Searched):
        from refute.search import first_counterexample  # noqa: PLC0415 (start-up time)

        return first_counterexample(kind, target, cases=cases or size, seed=seed, on_case=on_case)
    assert isinstance(kind, Planned)
    observations: list[Observation] = []
    planned = kind.plan(target, size, seed)[:cases]
    for case in planned:
        on_case(len(observations))
        observations.append(kind.observe(target, case))
        left = len(planned) - len(observations)
        if until_red and (kind.caught(observations, bound) or kind.uncatchable(observations, bound, left)):
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

"""One falsifier against one target: known-good control, faults, then the real attack, then the verdict.

The order is the point. A check that cannot fail, or that fails on an honest engine, must show it before
its verdict on the engine counts.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from refute import noise
from refute.contract import Contract, Falsifier
from refute.derived import bound_as_data, counters_of, reason_for, sensitivity_of
from refute.faults.base import Fault
from refute.finding import Finding, Noise, missed, timestamp
from refute.kinds import kind_named, kind_origin
from refute.kinds.base import Case, Kind, Observation, Searched
from refute.recordable import NOTHING, Requested, identity_as_data, observed, settings_of
from refute.redaction import sentence
from refute.strict_json import check
from refute.targets.base import Target, TargetError
from refute.trials import Controls, Plan, Stage, controlled, derive_seed, sampled, trials_of, tried
from refute.validity import invalidity, probed
from refute.verdict import Verdict, conclude


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
    plan = Plan(falsifier, kind, target, controls, seed, report, alone, known)
    try:
        finding = _run(plan, blank, faults_only=faults_only, also=also)
        check(finding.to_json())  # samples that no record can hold are the falsifier's own fault
    except TargetError as error:
        finding = dataclasses.replace(blank, reason=sentence(f"the target failed: {error}"))
    except Exception as error:  # noqa: BLE001 (a broken falsifier is a verdict, and must reach the record)
        on_bug(error)
        reason = sentence(f"the falsifier broke: {type(error).__name__}: {error}")
        finding = dataclasses.replace(blank, reason=reason)
    return dataclasses.replace(finding, ended=timestamp(), seconds=round(time.monotonic() - clock, 3))


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
        reason=sentence(reason),
        figure="",
        bound=bound_as_data(falsifier.bound),
        parameters=dict(falsifier.parameters),
        seed=seed,
        target=target,
        settings=settings_of(requested, target, seed),
        started=now,
        ended=now,
    )


def _run(plan: Plan, blank: Finding, *, faults_only: bool, also: Sequence[Fault]) -> Finding:
    missing = (plan.kind.requires | set(plan.falsifier.requires)) - plan.target.capabilities
    if missing:
        reason = f"the target lacks {', '.join(sorted(missing))}"
        if "reference" in missing:
            reason += "; nothing here has numbers of another implementation for this model and backend"
        return dataclasses.replace(blank, verdict=Verdict.NOT_APPLICABLE, reason=reason)
    control = controlled(plan)
    trials = [trial for fault in plan.falsifier.must_catch for trial in trials_of(plan, fault)]
    trials += [tried(plan, fault) for fault in also]
    with_controls = dataclasses.replace(
        blank, control=control, faults=tuple(trials), sensitivity=sensitivity_of(trials)
    )
    caught = not missed(trials)
    if faults_only:
        verdict = Verdict.INCONCLUSIVE if caught and control.green else Verdict.INVALID
        reason = reason_for(verdict, None, control, trials, ())
        return dataclasses.replace(with_controls, verdict=verdict, reason=reason, figure="faults only")
    attacked = _attacked(plan, with_controls)
    judgement = plan.kind.judge(attacked.judged, plan.falsifier.bound)
    invalid = invalidity(attacked, paired=plan.kind.paired)
    verdict = conclude(judgement, faults_caught=caught, control_green=control.green, valid=not invalid)
    return dataclasses.replace(
        attacked,
        verdict=verdict,
        reason=reason_for(verdict, judgement, control, trials, invalid),
        figure=plan.kind.figure(judgement, plan.falsifier.bound),
        judgement=judgement,
        counters=counters_of(attacked.judged),
    )


def _attacked(plan: Plan, finding: Finding) -> Finding:
    """Add what the real attack gave: samples, how steady the host was, what the engine reports after it."""
    heard = None
    with plan.alone() if plan.kind.timing else nullcontext():
        if probed(finding, timing=plan.kind.timing):
            before, listener = noise.before(), noise.Listener()
            plan = dataclasses.replace(plan, between=listener.listen)
            found = _observe(plan)
            heard = Noise(before, listener.heard())
        else:
            found = _observe(plan)
    observations, counterexample, replays = found
    return dataclasses.replace(
        finding,
        settings=observed(finding.settings, identity_as_data(plan.target)),
        noise=heard,
        observations=observations,
        counterexample=counterexample,
        replays=replays,
    )


def _observe(plan: Plan) -> tuple[tuple[Observation, ...], Observation | None, bool | None]:
    """The real attack: all observations; the shrunk counterexample, if any, and whether it replays."""
    plan.say("attack")
    seed = derive_seed(plan.seed, plan.falsifier.id, "attack")
    if not isinstance(plan.kind, Searched):
        return sampled(plan, plan.target, "attack"), None, None
    from refute.search import search  # noqa: PLC0415 (start-up time)

    result = search(
        plan.kind,
        plan.target,
        cases=plan.size,
        seed=seed,
        known=plan.known,
        on_case=lambda n: plan.case("attack", n),
    )
    return result.observations, result.counterexample, result.replays

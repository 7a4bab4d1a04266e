"""What a finding says that follows from the rest of it, so that an audit can derive it again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from refute.contract import Bound
from refute.finding import Control, FaultTrial, Sensitivity, missed
from refute.kinds.base import Observation
from refute.verdict import Judgement, Verdict


def reason_for(
    verdict: Verdict,
    judgement: Judgement | None,
    control: Control,
    trials: Sequence[FaultTrial],
    invalid: Sequence[str],
) -> str:
    """Say in one sentence why the verdict is what it is; derived, so that an audit can say it again.

    invalid: what `refute.validity` says against it.
    """
    if not control.green:
        return f"the known-good control came out {control.judgement.outcome}: {control.judgement.reason}"
    if invalid:
        return "; ".join(invalid)
    uncaught = [f"{trial.name}={trial.dose:g}" for trial in missed(trials)]
    if uncaught and verdict is Verdict.INVALID:
        return f"not caught: {', '.join(uncaught)}"
    if judgement is None:
        return "every fault was caught; nothing was attacked"
    return judgement.reason


def sensitivity_of(trials: Sequence[FaultTrial]) -> tuple[Sensitivity, ...]:
    """Per fault the smallest dose that was caught."""
    smallest: dict[tuple[str, str], float | None] = {}
    for trial in trials:  # of one fault, the smallest dose that was caught is the last that was
        key = (trial.name, trial.unit)
        smallest[key] = trial.dose if trial.caught else smallest.get(key)
    return tuple(Sensitivity(name, unit, dose) for (name, unit), dose in smallest.items())


def counters_of(observations: Sequence[Observation]) -> Mapping[str, int]:
    """Sum the counters that observations carry; kinds that keep none give none."""
    totals: dict[str, int] = {}
    for observation in observations:
        if "counters" not in observation.samples:
            continue
        counters = observation.samples["counters"]
        nested = isinstance(next(iter(counters.values()), None), Mapping)  # by arm
        for arm in counters.values() if nested else (counters,):
            for name, value in arm.items():
                totals[name] = totals.get(name, 0) + value
    return totals


def bound_as_data(bound: Bound) -> dict[str, Any]:
    """The fields of a bound that are given, as JSON data."""
    given = {name: value for name, value in dataclasses.asdict(bound).items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

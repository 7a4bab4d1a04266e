"""The peak against arithmetic, and growth per generation."""

from dataclasses import asdict, replace

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.memory import MemoryGrowth, MemoryPeak
from refute.targets.base import Footprint, Peak
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome

PEAK = MemoryPeak.of({"prompt_tokens": [64, 8], "max_tokens": 2})
TIMES = Bound(confidence=0.95, below=1.1, unit="x", runs=2)
GROWTH = MemoryGrowth.of({"generations": 25, "warm_up": 5, "prompt_tokens": 4, "max_tokens": 2})
FLAT = Bound(confidence=0.99, statistic="median", below=1024.0, unit="B", runs=8)
MIB = 2**20


def observed(kind, target, bound) -> list[Observation]:
    return [kind.observe(target, case) for case in kind.plan(target, bound.runs, seed=0)]


def grown(mib: float) -> Observation:
    """A process that needs 10 MiB and grew by so many, beside 5 MiB of files and 20 MiB from before."""
    peak = Peak(20 * MIB, 0, 5 * MIB, round((25 + mib) * MIB))
    return Observation({}, {"bytes": asdict(peak), "needed": asdict(Footprint(7 * MIB, 2 * MIB, MIB))})


@pytest.mark.parametrize(("mib", "ratio"), [(10, 1.0), (11, 1.1), (0, 0.0), (-1, 0.0)])
def test_files_and_what_was_there_before_do_not_count(mib, ratio) -> None:
    assert PEAK.measure(grown(mib)) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("grew", "outcome"),
    [
        ([9, 10.9], Outcome.SURVIVED),
        ([9, 11.2], Outcome.FALSIFIED),
        ([11.2], Outcome.FALSIFIED),
        ([9], Outcome.INCONCLUSIVE),
        ([], Outcome.INCONCLUSIVE),
    ],
)
def test_one_process_above_the_bound_refutes(grew, outcome) -> None:
    observations = list(map(grown, grew))
    judgement = PEAK.judge(observations, TIMES)
    assert judgement.outcome is outcome
    assert PEAK.caught(observations, TIMES) is (outcome is Outcome.FALSIFIED)
    assert PEAK.figure(judgement, TIMES)


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_peak_is_green(seed) -> None:
    assert PEAK.judge(observed(PEAK, FakeTarget(seed), TIMES), TIMES).outcome is Outcome.SURVIVED


def test_honest_growth_is_green() -> None:
    assert GROWTH.judge(observed(GROWTH, FakeTarget(0), FLAT), FLAT).outcome is Outcome.SURVIVED


@pytest.mark.parametrize(
    ("kind", "fault", "bound"),
    [
        (PEAK, Fault("weights-twice", 1.0), TIMES),
        (PEAK, Fault("weights-twice", 0.25), TIMES),
        (PEAK, Fault("kv-oversized", 64.0), TIMES),
        (GROWTH, Fault("cache-leaked", 1.0), FLAT),
        (GROWTH, Fault("cache-leaked", 0.25), FLAT),
    ],
    ids=["weights-twice", "a-quarter-twice", "kv-oversized", "cache-leaked", "a-quarter-leaked"],
)
def test_faults_turn_it_red(kind, fault, bound) -> None:
    with FakeTarget(0).plant(fault) as faulty:
        observations = observed(kind, faulty, replace(bound, runs=1))
    assert kind.caught(observations, bound)


def test_growth_is_per_generation() -> None:
    samples = {"before": 1000, "after": 1000 + 25 * 48}
    assert GROWTH.measure(Observation({"generations": 25}, samples)) == 48


def test_only_the_first_run_warms_up_and_no_prompt_is_used_twice() -> None:
    plan = GROWTH.plan(FakeTarget(0), 3, seed=7)
    assert [case["warm_up"] for case in plan] == [5, 0, 0]
    used = [case["seed"] + number for case in plan for number in range(case["warm_up"] + case["generations"])]
    assert len(used) == len(set(used))


@pytest.mark.parametrize(
    "change", [{"generations": 0}, {"warm_up": -1}, {"prompt_tokens": 0}, {"max_tokens": 0}]
)
def test_parameters_that_ask_nothing_are_refused(change) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
        MemoryGrowth.of({"generations": 5, "warm_up": 0, "prompt_tokens": 4, "max_tokens": 2, **change})


@pytest.mark.parametrize("change", [{"prompt_tokens": []}, {"prompt_tokens": [0]}, {"max_tokens": 0}])
def test_a_peak_needs_a_request(change) -> None:
    with pytest.raises(ValueError, match="expected"):
        MemoryPeak.of({"prompt_tokens": [8], "max_tokens": 2, **change})

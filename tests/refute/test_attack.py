"""One attack: control, faults, real samples, verdict; and a falsifier that cannot fail is `invalid`."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from refute import noise
from refute.attack import attack
from refute.contract import Bound, Contract, Falsifier, load_contract
from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.finding import Finding, Probe
from refute.recordable import Requested
from refute.strict_json import dump_strict, load_strict
from refute.targets.base import CannotPlant, Generation, Identity, Request, Target, TargetError
from refute.targets.fake import FakeTarget
from refute.trials import Controls, Stage, derive_seed
from refute.verdict import Level, Outcome, Verdict

CONTRACTS = Path(__file__).parents[2] / "contracts"
CONTROLS = Controls(FakeTarget, stand_in=lambda: FakeTarget(9))


@pytest.fixture(scope="module")
def contract() -> Contract:
    return load_contract(CONTRACTS / "qwen3-moe-kv-cache-v1.yaml")


def falsifier(contract: Contract, name: str, **changes: object) -> Falsifier:
    found = next(each for each in contract.falsifiers if each.id == name)
    if found.bound.cases is not None:
        changes = {"bound": Bound(confidence=0.95, cases=6), **changes}
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def run(
    contract: Contract, target: Target, name: str, *, controls: Controls = CONTROLS, **changes: object
) -> Finding:
    return attack(
        falsifier(contract, name, **changes), target, contract=contract, run="r", seed=0, controls=controls
    )


def heads_mapped(contract: Contract, *, seed: int, **options: Any) -> Finding:
    """The simulated engine's heads, attacked with some options."""
    attacked, target = falsifier(contract, "gqa-head-mapping"), FakeTarget(1)
    return attack(attacked, target, contract=contract, run="r", seed=seed, controls=CONTROLS, **options)


def test_an_honest_engine_survives_with_every_fault_caught(contract: Contract) -> None:
    finding = run(contract, FakeTarget(1), "cache-token-exact")
    assert finding.verdict is Verdict.SURVIVED
    assert len(finding.observations) == 6
    assert finding.counters["cache_positions_read"] > 0
    must = {trial.name for trial in finding.faults if trial.must and trial.caught}
    assert must == {fault.name for fault in falsifier(contract, "cache-token-exact").must_catch}
    assert len(must) == 5
    assert finding.control is not None
    assert finding.control.green


def test_the_same_seed_gives_the_same_finding(contract: Contract) -> None:
    once, twice = (run(contract, FakeTarget(1), "gqa-head-mapping") for _ in range(2))
    timeless = [dataclasses.replace(finding, started="", ended="", seconds=0) for finding in (once, twice)]
    assert timeless[0] == timeless[1]


def test_a_broken_engine_is_falsified_with_a_counterexample(contract: Contract) -> None:
    with FakeTarget(1).plant(Fault("rope-position", 1)) as broken:
        finding = run(contract, broken, "cache-token-exact", must_catch=())
    assert finding.verdict is Verdict.FALSIFIED
    assert finding.counterexample is not None
    assert finding.judgement is not None
    assert finding.judgement.outcome is Outcome.FALSIFIED


def test_the_smallest_dose_that_was_caught_is_kept(contract: Contract) -> None:
    finding = run(contract, FakeTarget(1), "decode-floor")
    (entry,) = finding.sensitivity
    assert entry.fault == "slow-clock"
    caught = [trial.dose for trial in finding.faults if trial.caught]
    assert entry.smallest_caught == caught[-1]


def test_smaller_doses_are_tried_from_the_mildest_until_one_is_caught(contract: Contract) -> None:
    finding = run(contract, FakeTarget(1), "cache-token-exact")
    for name in {trial.name for trial in finding.faults}:
        must, *tried = [trial for trial in finding.faults if trial.name == name]
        assert must.must
        milder = [dose for dose in FAULTS[name].doses if dose != must.dose]
        assert [trial.dose for trial in tried] == milder[: len(tried)]
        assert not any(trial.caught for trial in tried[:-1])
        assert tried[-1].caught or len(tried) == len(milder)


def test_smaller_doses_get_as_many_runs_as_it_took_to_catch_the_fault(contract: Contract) -> None:
    """A tenth of the 15 planned runs are two, and a median over 15 is not lost with two slow ones."""
    must, *smaller = run(contract, FakeTarget(1), "decode-floor").faults
    assert must.caught
    assert len(must.observations) == 3
    assert smaller
    assert [len(trial.observations) for trial in smaller] == [3] * len(smaller)


def test_a_fault_that_is_missed_makes_the_verdict_invalid(contract: Contract) -> None:
    finding = run(contract, FakeTarget(1), "cache-token-exact", must_catch=(Fault("seed-fixed", 1),))
    assert finding.verdict is Verdict.INVALID
    assert finding.reason == "not caught: seed-fixed=1"


def test_a_counterexample_stays_falsified_even_if_a_fault_was_missed(contract: Contract) -> None:
    with FakeTarget(1).plant(Fault("rope-position", 1)) as broken:
        finding = run(contract, broken, "cache-token-exact", must_catch=(Fault("seed-fixed", 1),))
    assert finding.verdict is Verdict.FALSIFIED


def test_a_control_that_turns_red_makes_the_verdict_invalid(contract: Contract) -> None:
    slow = Controls(lambda seed: FakeTarget(seed, rate=4.0))
    finding = run(contract, FakeTarget(1), "decode-floor", controls=slow)
    assert finding.verdict is Verdict.INVALID
    assert "known-good control" in finding.reason


def test_an_engine_below_the_floor_is_falsified(contract: Contract) -> None:
    assert run(contract, FakeTarget(1, rate=4.0), "decode-floor").verdict is Verdict.FALSIFIED


class NoSeam(FakeTarget):
    """An engine in which nothing can be planted."""

    @contextmanager
    def plant(self, fault: Fault, bound: Bound | None = None) -> Iterator[Target]:
        raise CannotPlant("no seam here")
        yield self


def test_a_fault_without_a_seam_is_planted_in_the_stand_in(contract: Contract) -> None:
    finding = run(contract, NoSeam(1), "gqa-head-mapping")
    assert finding.verdict is Verdict.SURVIVED
    assert {trial.planted for trial in finding.faults} == {"stand-in"}


def test_a_fault_that_can_be_planted_nowhere_counts_as_missed(contract: Contract) -> None:
    finding = run(contract, NoSeam(1), "gqa-head-mapping", controls=Controls(FakeTarget))
    assert finding.verdict is Verdict.INVALID
    assert finding.faults[0].reason == "no seam here"


def test_a_missing_capability_is_not_applicable_and_names_it(contract: Contract) -> None:
    blind = FakeTarget(1, capabilities=FakeTarget(1).capabilities - {"routing"})
    finding = run(contract, blind, "routing-independent-of-cache")
    assert finding.verdict is Verdict.NOT_APPLICABLE
    assert finding.reason == "the target lacks routing"


class Dying(FakeTarget):
    """An engine that dies with the error it was made with."""

    error: Exception = TargetError("out of memory")

    def generate(self, request: Request) -> Generation:
        raise self.error


class Buggy(Dying):
    error = ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Dying(1), "the target failed: out of memory"),
        (Buggy(1), "the falsifier broke: ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_becomes_an_error_with_its_sentence(
    contract: Contract, target: Target, reason: str
) -> None:
    finding = run(contract, target, "decode-floor")
    assert (finding.verdict, finding.reason) == (Verdict.ERROR, reason)


def test_faults_alone_never_make_a_green_verdict(contract: Contract) -> None:
    finding = heads_mapped(contract, seed=0, faults_only=True)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.observations == ()


def test_stages_tell_what_is_being_done(contract: Contract) -> None:
    stages: list[Stage] = []
    heads_mapped(contract, seed=0, report=stages.append)
    doing = list(dict.fromkeys(stage.doing for stage in stages))
    assert doing[0] == "known-good control"
    assert doing[-1] == "attack"
    assert any(text.startswith("fault kv-heads-permuted") for text in doing)
    assert stages[-1].done == stages[-1].total == 6


def test_a_finding_survives_the_round_trip_through_json(contract: Contract) -> None:
    finding = run(contract, FakeTarget(1), "cache-token-exact")
    assert Finding.from_json(load_strict(dump_strict(finding.to_json()))).to_json() == finding.to_json()


def test_derived_seeds_differ_by_label_and_fit_four_bytes() -> None:
    seeds = {derive_seed(0, "a", "attack"), derive_seed(0, "b", "attack"), derive_seed(1, "a", "attack")}
    assert len(seeds) == 3
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_bundled_contracts_name_levels_that_exist(contract: Contract) -> None:
    assert {each.discharge for each in contract.falsifiers} == {Level.FULL_MODEL}


def test_settings_are_what_was_asked_for_and_what_the_engine_says_before_and_after(
    contract: Contract,
) -> None:
    finding = heads_mapped(contract, seed=3, requested=Requested(backend="cpu", seed=3))
    assert [dataclasses.astuple(each) for each in finding.settings] == [
        ("backend", "cpu", None, None),
        ("model_name", None, "fake", "fake"),
        ("seed", 3, 3, None),
    ]


def test_what_was_asked_for_and_is_not_attacked_makes_the_verdict_invalid(contract: Contract) -> None:
    asked = Requested(model_name="another")
    finding = heads_mapped(contract, seed=3, requested=asked)
    assert (finding.verdict, finding.reason) == (
        Verdict.INVALID,
        "model_name another was asked for, the engine says fake",
    )


class OnTheHost(FakeTarget):
    """The simulated engine, said to be real: its clock counts as the host's."""

    @property
    def identity(self) -> Identity:
        return dataclasses.replace(super().identity, simulated=False)


def test_the_host_is_probed_before_and_between_the_runs_of_a_claim_about_time(contract: Contract) -> None:
    finding = run(contract, OnTheHost(1), "decode-floor", must_catch=())
    assert finding.noise is not None
    runs = len(finding.observations)
    assert len(finding.noise.before.kernel_ns) == 40
    assert (len(finding.noise.during.kernel_ns), len(finding.noise.during.late_ns)) == (4 * runs, runs)


def test_a_loud_host_makes_a_claim_about_time_invalid(
    contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = Probe((5000,) * 40, (1000,) * 40, (0,), None)
    monkeypatch.setattr(noise, "before", lambda: loud)
    finding = run(contract, OnTheHost(1), "decode-floor", must_catch=())
    assert finding.verdict is Verdict.INVALID
    assert finding.reason.startswith("the host was busy before the attack")
    assert finding.judgement is not None


def test_no_host_is_probed_for_a_simulated_clock_or_another_claim(
    contract: Contract,
) -> None:
    assert run(contract, FakeTarget(1), "decode-floor", must_catch=()).noise is None
    assert run(contract, OnTheHost(1), "gqa-head-mapping", must_catch=()).noise is None

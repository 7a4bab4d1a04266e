import subprocess
import sys

import pytest

from refute.faults import FAULTS
from refute.faults.base import Fault, UnknownFault, parse_fault
from refute.faults.planted import prepare
from refute.targets.base import CannotPlant

POCKET = {"layers": 4, "kv_heads": 2, "experts": 8, "experts_per_token": 2}


def test_registry_is_keyed_by_name() -> None:
    assert all(name == spec.name for name, spec in FAULTS.items())


def test_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        FAULTS["other"] = FAULTS["stale-row"]  # type: ignore[index]


def test_importing_the_registry_imports_no_numpy() -> None:
    script = "import sys, refute.faults; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("spec", FAULTS.values(), ids=str)
def test_smaller_doses_grow_towards_the_default(spec) -> None:
    growing = [*spec.doses, spec.default]
    if spec.name in {
        "slow-clock",
        "space-collapsed",
        "attention-window",
        "wire-cut",
        "wire-rate-lowered",
    }:  # the less is left, the graver the fault
        growing.reverse()
    assert growing == sorted(set(growing))


@pytest.mark.parametrize("spec", FAULTS.values(), ids=str)
def test_every_fault_has_a_milder_dose(spec) -> None:
    assert spec.doses


@pytest.mark.parametrize("spec", FAULTS.values(), ids=str)
def test_what_a_fault_breaks_is_one_sentence(spec) -> None:
    assert spec.breaks[0].isupper()
    assert spec.breaks.endswith(".")
    assert len(spec.breaks) <= 100


def test_fault_is_read_with_its_dose() -> None:
    assert parse_fault("stale-row=2", FAULTS) == Fault("stale-row", 2.0)


def test_fault_without_dose_has_the_default() -> None:
    assert parse_fault("stale-row", FAULTS) == Fault("stale-row", 8.0)


def test_unknown_fault_is_refused() -> None:
    with pytest.raises(UnknownFault):
        parse_fault("stale-rows", FAULTS)


@pytest.mark.parametrize(
    ("fault", "model"),
    [
        (Fault("kv-heads-permuted", 1), {"kv_heads": 1}),
        (Fault("routing-depends-on-cache", 1), {"experts": 2}),
        (Fault("routing-depends-on-cache", 1), {"experts": 0}),
        (Fault("dense-dispatch", 1), {"experts": 0}),
        (Fault("dense-dispatch", 0), {}),
        (Fault("weights-not-renormalised", 1), {"experts": 2}),
        (Fault("router-top-k-off", 1), {"experts": 2}),
        (Fault("router-collapsed", 0.5), {"experts": 2}),
        (Fault("router-collapsed", 0.5), {"experts": 0}),
        (Fault("router-collapsed", 0), {}),
        (Fault("logits-perturbed", 0), {}),
        (Fault("logits-not-finite", 0), {"experts": 0}),
        (Fault("stale-row", 0), {}),
        (Fault("slow-clock", 0.9), {}),  # there is no bound to stay below
        (Fault("rope-base", 2), {}),  # it is in a file, of which a model's dimensions know nothing
    ],
    ids=str,
)
def test_fault_that_would_change_nothing_cannot_be_planted(fault, model) -> None:
    with pytest.raises(CannotPlant):
        prepare(fault, None, **POCKET | model)

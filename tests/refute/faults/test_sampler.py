from dataclasses import replace

import pytest

from refute.faults.base import Fault
from refute.faults.sampler import misread
from refute.targets.base import CannotPlant, Sampling

ASKED = Sampling(temperature=0.8, top_k=4, top_p=0.9, min_p=0.01, repetition_penalty=1.2, seed=7)


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        (Fault("seed-ignored", 1), {"seed": None}),
        (Fault("seed-fixed", 1), {"seed": 0}),
        (Fault("temperature-scaled", 1.5), {"temperature": 0.8 * 1.5}),
        (Fault("top-k-widened", 3), {"top_k": 7}),
        (Fault("greedy-sampled", 1.0), {}),
        (Fault("penalty-twice", 1), {"repetition_penalty": 1.2**2}),
    ],
    ids=str,
)
def test_fault_changes_one_setting(fault, changed) -> None:
    assert misread(fault, ASKED) == replace(ASKED, **changed)


@pytest.mark.parametrize("name", ["temperature-scaled", "top-k-widened", "penalty-twice"])
def test_settings_that_are_off_stay_off(name) -> None:
    assert misread(Fault(name, 2), Sampling()) == Sampling()


def test_greedy_is_sampled_at_the_dose() -> None:
    assert misread(Fault("greedy-sampled", 0.25), Sampling()) == Sampling(temperature=0.25)


def test_top_k_of_one_is_widened_too() -> None:
    assert misread(Fault("top-k-widened", 1), Sampling(temperature=5.0, top_k=1)).top_k == 2


def test_faults_of_other_seams_are_refused() -> None:
    with pytest.raises(CannotPlant):
        misread(Fault("stale-row", 1), ASKED)

from dataclasses import replace

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.faults.sampler import SamplerFault, mispenalised, misread
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


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        (Fault("penalty-ignored", 1), {"repetition_penalty": 1.0}),
        (Fault("penalty-ignored", 0.5), {"repetition_penalty": 1.2**0.5}),
        (Fault("penalty-twice", 0.5), {"repetition_penalty": 1.2**1.5}),
        (Fault("penalty-at-one", 0.3), {}),
        (Fault("penalty-sign", 1), {"repetition_penalty": 1.0}),
    ],
    ids=str,
)
def test_penalty_faults_change_the_penalty_alone(fault, changed) -> None:
    assert misread(fault, ASKED) == replace(ASKED, **changed)


def test_penalty_of_one_is_run_above_it() -> None:
    assert misread(Fault("penalty-at-one", 0.25), Sampling()) == Sampling(repetition_penalty=1.25)


@pytest.mark.parametrize("name", ["seed-ignored", "seed-fixed"])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_dose_is_the_share_of_requests_whose_seed_is_lost(name, share) -> None:
    fault = SamplerFault(Fault(name, share))
    lost = [fault.settings(ASKED) != ASKED for _ in range(400)]
    assert sum(lost) / 400 == pytest.approx(share, abs=0.06)
    again = SamplerFault(Fault(name, share))
    assert [again.settings(ASKED) != ASKED for _ in range(400)] == lost


LOGITS = np.array([4.0, -4.0, 4.0, -4.0, 1.0], np.float32)
PAST = [0, 1, 1, 0, 2]  # the first two are the prompt; 3 and 4 never occurred


@pytest.mark.parametrize(
    ("fault", "scores"),
    [
        (Fault("penalty-per-occurrence", 1), [1.0, -16.0, 2.0, -4.0, 1.0]),
        (Fault("penalty-per-occurrence", 0.5), [2**0.5, -4 * 2**1.5, 2.0, -4.0, 1.0]),
        (Fault("penalty-sign", 1), [2.0, -2.0, 2.0, -4.0, 1.0]),
        (Fault("penalty-sign", 0.5), [2.0, -4.0, 2.0, -4.0, 1.0]),
    ],
    ids=str,
)
def test_penalty_is_misapplied_at_the_dose(fault, scores) -> None:
    assert mispenalised(fault, LOGITS, PAST, 2, 2.0) == pytest.approx(scores)
    assert LOGITS[0] == 4.0


@pytest.mark.parametrize(("dose", "kept"), [(1, [7, 8]), (2, [8]), (1000, [8])])
def test_window_loses_the_first_tokens_of_the_prompt_alone(dose, kept) -> None:
    logits = np.ones(9, np.float32)
    scores = mispenalised(Fault("penalty-window", dose), logits, [6, 7, 8], 2, 2.0)
    assert np.flatnonzero(scores != 1).tolist() == kept


@pytest.mark.parametrize("name", ["penalty-per-occurrence", "penalty-sign", "penalty-window"])
def test_misapplied_penalty_of_one_changes_nothing(name) -> None:
    assert mispenalised(Fault(name, 1), LOGITS, PAST, 2, 1.0).tolist() == LOGITS.tolist()


def test_other_faults_leave_the_logits_alone() -> None:
    assert SamplerFault(Fault("penalty-twice", 1)).logits(LOGITS, PAST, 2, ASKED) is LOGITS

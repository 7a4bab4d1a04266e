"""Faults of the model in the simulated engine."""

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.faults.specs_logits import MODEL
from refute.targets.base import CannotPlant, Request
from refute.targets.fake import FakeTarget

TOKENS = tuple(range(60, 124))
NOT_THERE = {"type-misread", "merge-dropped"}  # no tensor types and no merges in the simulated model
PLANTED = [spec for spec in MODEL if spec.name not in NOT_THERE]


def scores(target):
    return target.session(len(TOKENS), prompt=len(TOKENS)).extend(TOKENS, routing=True)


def error(fault):
    target = FakeTarget()
    with target.plant(fault) as faulty:
        return float(np.abs(scores(faulty).logits - target.logits(TOKENS)).max())


@pytest.mark.parametrize("spec", PLANTED, ids=lambda spec: spec.name)
def test_a_larger_dose_moves_the_logits_further(spec):
    errors = [error(Fault(spec.name, dose)) for dose in (*spec.doses, spec.default)]
    assert errors[0] > 0
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


@pytest.mark.parametrize("spec", PLANTED, ids=lambda spec: spec.name)
def test_logits_and_reference_stay_those_of_the_unchanged_model(spec):
    target = FakeTarget()
    forced = target.reference.prompts(1, 0)[0]
    with target.plant(Fault(spec.name, spec.default)) as faulty:
        np.testing.assert_array_equal(faulty.logits(TOKENS), target.logits(TOKENS))
        np.testing.assert_array_equal(
            faulty.reference.scores(forced).logits, target.reference.scores(forced).logits
        )


@pytest.mark.parametrize("spec", PLANTED, ids=lambda spec: spec.name)
def test_generation_and_sessions_agree(spec):
    with FakeTarget().plant(Fault(spec.name, spec.default)) as faulty:
        first = faulty.generate(Request(TOKENS, 1)).tokens[0]
        assert first == scores(faulty).logits[-1].argmax()


def test_swapped_experts_move_only_the_tokens_that_go_to_them():
    target = FakeTarget()
    with target.plant(Fault("experts-swapped", 1000)) as faulty:
        ours, theirs = scores(faulty), scores(target)
    moved = (ours.logits != theirs.logits).any(axis=1)
    np.testing.assert_array_equal(moved, (theirs.experts <= 1).any(axis=(1, 2)))
    assert 0 < moved.sum() < len(TOKENS)
    np.testing.assert_array_equal(ours.experts, theirs.experts)


def test_a_scaled_router_sharpens_the_shares():
    target = FakeTarget()
    with target.plant(Fault("router-scaled", 2.0)) as faulty:
        ours, theirs = scores(faulty), scores(target)
    assert (ours.weights.max(axis=-1) > theirs.weights.max(axis=-1)).all()
    np.testing.assert_allclose(ours.weights.sum(axis=-1), 1)
    np.testing.assert_array_equal(ours.experts, theirs.experts)


def test_a_scaled_tensor_scales_all_logits():
    target = FakeTarget()
    with target.plant(Fault("tensor-scaled", 1.5)) as faulty:
        np.testing.assert_array_equal(scores(faulty).logits, target.logits(TOKENS) * np.float32(1.5))


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        *((FakeTarget(), Fault(name, 1)) for name in sorted(NOT_THERE)),
        (FakeTarget(), Fault("qk-norm-ones", 0)),
        (FakeTarget(), Fault("rope-base", 1)),
        *(
            (FakeTarget(dense=True), Fault(name, 2))
            for name in ("router-scaled", "experts-swapped", "expert-zeroed")
        ),
    ],
)
def test_what_changes_nothing_cannot_be_planted(target, fault):
    with pytest.raises(CannotPlant), target.plant(fault):
        pass

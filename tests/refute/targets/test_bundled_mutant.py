"""Faults of the model in the bundled runtime: an engine on a changed copy of the file."""

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.faults.specs_logits import MODEL
from refute.select import embedded_model
from refute.targets.base import CannotPlant, Request
from refute.targets.bundled import BundledTarget

TOKENS = tuple(range(300, 332))
OF_LOGITS = [spec for spec in MODEL if spec.name != "merge-dropped"]


@pytest.fixture(scope="module")
def target():
    target = BundledTarget(embedded_model(), "array", "cpu", model_sha256="of the unchanged file")
    yield target
    target.close()


@pytest.fixture(scope="module")
def honest(target):
    return scores(target)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary copies go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def scores(target):
    return target.session(len(TOKENS), prompt=len(TOKENS)).extend(TOKENS, routing=True).logits


@pytest.mark.parametrize("spec", OF_LOGITS, ids=lambda spec: spec.name)
def test_the_mildest_dose_changes_the_scores_and_only_while_it_is_planted(spec, target, honest, folder):
    with target.plant(Fault(spec.name, spec.doses[0])) as faulty:
        assert len(list(folder.iterdir())) == 1
        assert not np.array_equal(scores(faulty), honest)
        np.testing.assert_array_equal(scores(target), honest)
    assert not list(folder.iterdir())


def test_both_arms_have_it(target, folder):
    prompt = target.encode("def main():\n    return ")
    with target.plant(Fault("kv-weights-permuted", 1000)) as faulty:
        for cache in (True, False):
            request = Request(prompt, 4, cache=cache)
            assert faulty.generate(request).tokens != target.generate(request).tokens


def test_logits_and_identity_stay_those_of_the_unchanged_file(target, honest, folder):
    with target.plant(Fault("rope-base", 10)) as faulty:
        np.testing.assert_array_equal(faulty.logits(TOKENS), target.logits(TOKENS))
        assert faulty.identity == target.identity


def test_dropped_merges_change_the_tokens_and_not_the_text(target, folder):
    words = [target.decode([token]) for token in target.ordinary_tokens[-100:]]
    with target.plant(Fault("merge-dropped", 100)) as faulty:
        assert any(faulty.encode(word) != target.encode(word) for word in words)
        assert all(faulty.decode(faulty.encode(word)) == word for word in words)


def test_a_second_fault_is_refused(target, folder):
    with (
        target.plant(Fault("rope-base", 10)) as faulty,
        pytest.raises(CannotPlant, match="has rope-base=10 already"),
        faulty.plant(Fault("stale-row", 1)),
    ):
        pass


def test_a_dose_without_sense_leaves_nothing(target, folder):
    with pytest.raises(CannotPlant), target.plant(Fault("rope-base", 1)):
        pass
    assert not list(folder.iterdir())

"""The committed reference belongs to the shipped model, is read strictly, and goes only with `array`."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from tiny_gguf import write_tiny

from refute.faults.base import Fault
from refute.select import embedded_model
from refute.targets.base import TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.references import CommittedReference
from refute.targets.scores import Forced, implementation

STORED = embedded_model().with_name("reference.npz")
LARGEST = 1_300_000  # bytes


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def committed():
    return CommittedReference(STORED)


@pytest.fixture(scope="module")
def pocket():
    target = BundledTarget(embedded_model(), "array", "cpu", model_sha256=digest)
    yield target
    target.close()


def test_it_belongs_to_the_shipped_model(committed) -> None:
    assert committed.model_sha256 == digest(embedded_model())
    assert STORED.stat().st_size <= LARGEST


def test_it_says_who_gave_the_numbers(committed, pocket) -> None:
    assert committed.identity["engine"] == "transformers 5.23.0, torch 2.13.0+cpu"
    assert (committed.identity["numerics"], committed.identity["digest"]) == ("f32", digest(STORED))
    assert committed.identity.keys() == implementation(pocket.identity).keys()
    assert committed.identity != implementation(pocket.identity)


def test_it_holds_enough_to_be_compared_with(committed, pocket) -> None:
    known = committed.prompts(99, seed=0)
    assert len(set(known)) == len(known) >= 16
    assert all(len(forced.answer) >= 8 for forced in known)
    assert min(len(forced.prompt) for forced in known) == 1
    specials = set(range(pocket.identity.vocabulary)) - set(pocket.ordinary_tokens)
    assert sum(bool(specials & set(forced.prompt)) for forced in known) >= 3
    assert sum(not specials & set(forced.prompt) for forced in known) >= 3


def test_its_order_follows_from_the_seed(committed) -> None:
    assert committed.prompts(5, seed=1) == committed.prompts(99, seed=1)[:5]
    assert committed.prompts(99, seed=1) != committed.prompts(99, seed=2)


def test_its_scores_have_one_row_per_position(committed, pocket) -> None:
    identity = pocket.identity
    for forced in committed.prompts(99, seed=0):
        scores = committed.scores(forced)
        rows = 1 + len(forced.answer)
        assert scores.logits.shape == (rows, identity.vocabulary)
        assert scores.experts.shape == scores.weights.shape == (rows, identity.layers, 2)
        assert (np.diff(scores.experts, axis=-1) > 0).all()
        assert scores.gaps.min() > 1e-6  # no tie, so that no rounding may choose another expert
        np.testing.assert_allclose(scores.weights.sum(axis=-1), 1, atol=1e-6)


def test_a_sequence_that_is_not_stored_is_refused(committed) -> None:
    with pytest.raises(TargetError, match="no numbers for a prompt of 2 tokens"):
        committed.scores(Forced((1, 2), (3,)))


def test_the_array_backend_on_the_shipped_file_has_it_wherever_it_lies(pocket, tmp_path) -> None:
    assert "reference" in pocket.capabilities
    assert pocket.reference.identity["engine"].startswith("transformers")
    with pocket.plant(Fault("dense-dispatch", 1)) as faulty:
        assert faulty.reference is pocket.reference


@pytest.mark.parametrize("sha256", [None, digest])
def test_another_file_or_one_that_nobody_knows_has_none(sha256, tmp_path) -> None:
    target = BundledTarget(write_tiny(tmp_path / "tiny.gguf"), "array", "cpu", model_sha256=sha256)
    assert "reference" not in target.capabilities
    with pytest.raises(TargetError, match="no reference"):
        _ = target.reference
    target.close()


def parts() -> dict[str, np.ndarray]:
    with np.load(STORED) as stored:
        return dict(stored)


def without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in parts().items() if key != name}


def cut(name: str) -> dict[str, np.ndarray]:
    return parts() | {name: parts()[name][..., 1:]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (without("gaps"), "gaps missing or unknown"),
        (parts() | {"notes": np.array("x")}, "notes missing or unknown"),
        (parts() | {"logits": parts()["logits"].astype(np.float16)}, "logits is float16"),
        (cut("weights"), "weights is float32"),
        (cut("answers"), "9 positions"),
        (cut("prompts"), "prompt tokens"),
        (parts() | {"gaps": np.full_like(parts()["gaps"], np.nan)}, "not finite"),
        (parts() | {"experts": np.array([{}])}, "no reference can be read"),
    ],
    ids=["missing", "unknown", "type", "shape", "answers", "prompts", "not finite", "pickle"],
)
def test_a_file_that_is_not_exactly_a_reference_is_refused(wrong, message, tmp_path) -> None:
    path = tmp_path / "reference.npz"
    np.savez(path, **wrong)
    with pytest.raises(TargetError, match=message):
        CommittedReference(path).prompts(1, seed=0)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", STORED.read_bytes()[:5000]])
def test_a_broken_file_is_refused_with_its_name(content, tmp_path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(TargetError, match=r"reference\.npz"):
        CommittedReference(path)

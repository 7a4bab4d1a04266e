import numpy as np
import pytest

from refute.faults.backend import CountedForwards, HonestOperations, wrap_backend
from refute.faults.base import Fault
from refute.targets.base import CannotPlant

LAYERS, EXPERTS, PER_TOKEN, HIDDEN = 3, 5, 2, 4


class Operations:
    """A backend whose experts multiply by their id + 1, and whose router has fixed weights."""

    name = "honest"
    router = np.random.default_rng(0).standard_normal((EXPERTS, HIDDEN)).astype(np.float32)

    def routed(self, layer: int) -> bool:
        return layer != 1

    def project(self, x, weight):
        assert weight.endswith(".ffn_gate_inp.weight")
        return x @ self.router.T

    def route(self, layer, x):
        scores = np.exp(x @ self.router.T)
        ranked = np.argsort(-scores, axis=-1, kind="stable")
        chosen = np.sort(ranked[:, :PER_TOKEN], axis=-1)
        weights = np.take_along_axis(scores, chosen, axis=-1)
        return chosen, weights / weights.sum(axis=-1, keepdims=True), np.full(len(x), 0.25, np.float32)

    def experts(self, layer, x, chosen, weights):
        return x * ((chosen + 1) * weights).sum(axis=-1, keepdims=True)

    def dense(self, layer, x):
        return -x

    def embed(self, tokens):
        return np.ones((len(tokens), HIDDEN), np.float32)

    def logits(self, x):
        return x


def tokens(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, HIDDEN)).astype(np.float32)


def test_honest_operations_are_the_backends_own() -> None:
    backend = HonestOperations(Operations())
    assert (backend.name, backend.routed(1)) == ("honest", False)


@pytest.mark.parametrize(("layers", "routed"), [(1, [False, False, True]), (3, [False, False, False])])
def test_dense_dispatch_denies_its_routers(layers, routed) -> None:
    backend = wrap_backend(Fault("dense-dispatch", layers), Operations(), layers=layers, of=LAYERS)
    assert [backend.routed(layer) for layer in range(LAYERS)] == routed


def test_dense_dispatch_runs_one_expert_with_full_weight() -> None:
    backend = wrap_backend(Fault("dense-dispatch", 1), Operations(), layers=1, of=LAYERS)
    x = tokens(3)
    np.testing.assert_array_equal(backend.dense(0, x), x)  # expert 0 multiplies by 1


def test_dense_dispatch_leaves_dense_layers_dense() -> None:
    backend = wrap_backend(Fault("dense-dispatch", 1), Operations(), layers=1, of=LAYERS)
    x = tokens(3)
    np.testing.assert_array_equal(backend.dense(1, x), -x)


def test_one_token_takes_the_next_expert() -> None:
    backend = wrap_backend(Fault("routing-depends-on-cache", 1), Operations(), layers=1, of=LAYERS)
    x = tokens(1)
    chosen, weights, gap = backend.route(LAYERS - 1, x)
    scores = np.exp(x @ Operations.router.T)[0]
    first, _, third = np.argsort(-scores)[:3]
    assert chosen.tolist() == [sorted([first, third])]
    np.testing.assert_allclose(weights[0], scores[chosen[0]] / scores[chosen[0]].sum(), rtol=1e-6)
    assert gap.tolist() == [0.25]


@pytest.mark.parametrize(("layer", "count"), [(LAYERS - 1, 2), (0, 1)], ids=["prefill", "other layer"])
def test_routing_is_honest_elsewhere(layer, count) -> None:
    backend = wrap_backend(Fault("routing-depends-on-cache", 1), Operations(), layers=1, of=LAYERS)
    x = tokens(count)
    for ours, theirs in zip(backend.route(layer, x), Operations().route(layer, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_faults_of_other_seams_are_refused() -> None:
    with pytest.raises(CannotPlant):
        wrap_backend(Fault("stale-row", 1), Operations(), layers=1, of=LAYERS)


def test_forwards_are_counted_when_they_begin() -> None:
    backend = CountedForwards(Operations())
    assert backend.embed([1, 2]).shape == (2, HIDDEN)
    backend.embed([3])
    assert backend.begun == 2


def test_lowest_logit_of_the_first_forwards_is_not_finite() -> None:
    backend = wrap_backend(Fault("guard-fires", 2), Operations(), layers=0, of=LAYERS)
    x = tokens(2)
    honest = x.copy()
    for _ in range(2):
        logits = backend.logits(x)
        assert np.isneginf(logits).sum() == 1
        assert np.isneginf(logits[-1, honest[-1].argmin()])
    np.testing.assert_array_equal(backend.logits(x), honest)

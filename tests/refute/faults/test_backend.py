import numpy as np
import pytest

from refute.faults.backend import CountedForwards, HonestOperations, misstate, wrap_backend
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


def probabilities(x):
    scores = np.exp(x @ Operations.router.T)
    return scores / scores.sum(axis=-1, keepdims=True)


def planted(name: str, dose: float = 1.0, layers: int = 1):
    return wrap_backend(Fault(name, dose), Operations(), layers=layers, of=LAYERS)


def test_weights_that_are_not_renormalised_are_shares_of_all_experts() -> None:
    x = tokens(4)
    chosen, weights, gap = planted("weights-not-renormalised").route(LAYERS - 1, x)
    honest = Operations().route(LAYERS - 1, x)
    np.testing.assert_array_equal(chosen, honest[0])
    np.testing.assert_array_equal(gap, honest[2])
    np.testing.assert_allclose(weights, np.take_along_axis(probabilities(x), chosen, axis=-1), rtol=1e-5)
    assert (weights.sum(axis=-1) < 0.999).all()


def test_top_k_off_takes_the_experts_after_the_best() -> None:
    x = tokens(4)
    chosen, weights, _ = planted("router-top-k-off").route(LAYERS - 1, x)
    ranked = np.argsort(-probabilities(x), axis=-1)
    np.testing.assert_array_equal(chosen, np.sort(ranked[:, 1 : PER_TOKEN + 1], axis=-1))
    kept = np.take_along_axis(probabilities(x), chosen, axis=-1)
    np.testing.assert_allclose(weights, kept / kept.sum(axis=-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", ["weights-not-renormalised", "router-top-k-off"])
def test_a_fault_of_one_layer_spares_the_others(name) -> None:
    x = tokens(4)
    for ours, theirs in zip(planted(name).route(0, x), Operations().route(0, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_collapsed_router_sends_its_share_to_the_first_experts() -> None:
    x = tokens(400)
    honest, _, _ = Operations().route(0, x)
    chosen, weights, _ = planted("router-collapsed", 0.25).route(0, x)
    moved = (chosen != honest).any(axis=-1)
    assert (chosen[moved] == np.arange(PER_TOKEN)).all()
    first = (honest == np.arange(PER_TOKEN)).all(axis=-1)
    assert 0.15 < moved[~first].mean() < 0.35
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_a_collapsed_router_treats_a_token_alike_in_any_forward() -> None:
    x = tokens(20)
    together, _, _ = planted("router-collapsed", 0.5).route(0, x)
    alone = [planted("router-collapsed", 0.5).route(0, row[None])[0][0] for row in x]
    np.testing.assert_array_equal(together, alone)


def test_a_perturbation_is_the_same_for_every_row_and_within_its_dose() -> None:
    honest = np.random.default_rng(1).standard_normal((3, 1000)).astype(np.float32)
    wrong = misstate(Fault("logits-perturbed", 0.5), honest)
    noise = wrong - honest
    assert wrong.dtype == np.float32
    assert 0.45 < np.abs(noise).max() <= 0.5
    np.testing.assert_allclose(noise - noise[0], 0, atol=1e-5)


def test_a_share_of_the_positions_has_one_logit_that_is_no_number() -> None:
    honest = np.random.default_rng(1).standard_normal((400, 50)).astype(np.float32)
    wrong = misstate(Fault("logits-not-finite", 0.25), honest)
    holes = np.isnan(wrong)
    assert (holes.sum(axis=-1) <= 1).all()
    assert 0.15 < holes.any(axis=-1).mean() < 0.35
    np.testing.assert_array_equal(wrong[~holes], honest[~holes])
    assert np.isfinite(honest).all()


@pytest.mark.parametrize("fault", [None, Fault("dense-dispatch", 1)])
def test_other_faults_leave_the_logits_alone(fault) -> None:
    honest = tokens(2)
    assert misstate(fault, honest) is honest


@pytest.mark.parametrize("name", ["logits-perturbed", "logits-not-finite"])
def test_a_fault_of_the_logits_is_planted_in_the_output_layer(name) -> None:
    class Output(Operations):
        def logits(self, x):
            return x

    backend = wrap_backend(Fault(name, 1.0), Output(), layers=LAYERS, of=LAYERS)
    assert not np.array_equal(backend.logits(tokens(2)), tokens(2))


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

"""The forward's counters, guards and routing; its logits are judged by test_oracle."""

import numpy as np
import pytest
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends.array import ArrayBackend
from refute_runtime.cache import KVCache
from refute_runtime.config import ModelConfig
from refute_runtime.model import Counters, Model
from refute_runtime.weights import GgufFile, Weights

TOKENS = [3, 1, 4, 1, 5]


def load(path):
    file = GgufFile.open(path)
    config = ModelConfig.from_metadata(file.metadata, file.tensors)
    return Model(config, ArrayBackend(config, Weights(file, config)))


@pytest.fixture(scope="module")
def moe(tmp_path_factory):
    return load(write_tiny(tmp_path_factory.mktemp("model") / "m.gguf", TinyModel(layers=3)))


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return load(write_tiny(tmp_path_factory.mktemp("model") / "m.gguf", TinyModel(architecture="qwen3")))


class Wrapped:
    """A cache that may change what it returns."""

    def __init__(self, inner, change):
        self._inner, self._change = inner, change

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def rows(self, layer):
        return tuple(map(self._change, self._inner.rows(layer)))


def test_counters_of_a_prefill_and_a_decode_step(moe):
    cache = moe.backend.new_cache(8)
    assert moe.forward(TOKENS, cache).counters == Counters(1, 3, 0, 3 * 5 * 3, 0, 0)
    assert moe.forward([7], cache).counters == Counters(1, 3, 0, 3 * 1 * 3, 3 * 5, 0)


def test_a_dense_model_counts_dense_layers(dense):
    cache = dense.backend.new_cache(8)
    assert dense.forward(TOKENS, cache).counters == Counters(1, 0, 2, 0, 0, 0)


def test_an_expert_chosen_twice_for_a_token_runs_once(moe):
    class Repeating:
        def __getattr__(self, name):
            return getattr(moe.backend, name)

        def route(self, layer, x):
            return np.array([[2, 2, 4]] * len(x)), np.full((len(x), 3), 1 / 3, np.float32), np.ones(len(x))

    model = Model(moe.config, Repeating())
    assert model.forward(TOKENS, moe.backend.new_cache(8)).counters.experts_run == 3 * 5 * 2


def test_the_backend_decides_which_layers_are_routed(moe):
    class Dense:
        def __getattr__(self, name):
            return getattr(moe.backend, name)

        def routed(self, layer):
            return layer != 1

        def dense(self, layer, x):
            return x

    forward = Model(moe.config, Dense()).forward(TOKENS, moe.backend.new_cache(8), routing=True)
    assert (forward.counters.moe_layers, forward.counters.dense_layers) == (2, 1)
    assert forward.routing[1].experts.shape == (5, 0)
    assert forward.routing[1].gap.tolist() == [1] * 5


def test_sums_of_counters():
    assert Counters(1, 2, 3, 4, 5, 6) + Counters(10, 20, 30, 40, 50, 60) == Counters(11, 22, 33, 44, 55, 66)


@pytest.mark.parametrize(
    ("change", "read"), [(lambda rows: rows[1:], 3 * 4), (lambda rows: np.concatenate([rows, rows]), 3 * 11)]
)
def test_a_cache_that_returns_another_number_of_rows_fires_a_guard_per_layer(moe, change, read):
    cache = moe.backend.new_cache(8)
    moe.forward(TOKENS, cache)
    forward = moe.forward([7], Wrapped(cache, change))
    assert forward.counters.guards_fired == 3
    assert forward.counters.cache_positions_read == read
    assert np.isfinite(forward.logits).all()


def test_a_cache_that_lost_rows_of_the_forward_itself_does_not_crash(moe):
    forward = moe.forward(TOKENS, Wrapped(moe.backend.new_cache(8), lambda rows: rows[2:]), last_only=False)
    assert forward.logits.shape == (5, moe.config.vocabulary)
    assert forward.counters.guards_fired == 3


def test_logits_that_are_not_finite_fire_a_guard(tmp_path):
    values = {"output_norm.weight": np.full(64, np.inf, np.float32)}
    model = load(write_tiny(tmp_path / "m.gguf", TinyModel(), values=values))
    assert model.forward(TOKENS, model.backend.new_cache(5)).counters.guards_fired == 1


def test_last_only_gives_the_last_row(moe):
    last = moe.forward(TOKENS, moe.backend.new_cache(5)).logits
    every = moe.forward(TOKENS, moe.backend.new_cache(5), last_only=False).logits
    assert last.shape == (1, moe.config.vocabulary)
    np.testing.assert_allclose(last[0], every[-1], atol=1e-5)


def test_routing_is_reported_where_asked_for(moe):
    assert moe.forward(TOKENS, moe.backend.new_cache(5)).routing is None
    routing = moe.forward(TOKENS, moe.backend.new_cache(5), routing=True).routing
    assert [layer.experts.shape for layer in routing] == [(5, 3)] * 3
    assert [layer.gap.shape for layer in routing] == [(5,)] * 3
    assert all((np.diff(layer.experts) > 0).all() for layer in routing)


def test_positions_come_from_the_cache(moe):
    class Shifted(KVCache):
        def positions(self, count):
            return super().positions(count) + (100 if self.length else 0)

    config = moe.config
    honest, shifted = moe.backend.new_cache(8), Shifted(config.layers, config.kv_heads, config.head_dim, 8)
    for cache in (honest, shifted):
        moe.forward(TOKENS, cache)
    difference = moe.forward([7], honest).logits - moe.forward([7], shifted).logits
    assert np.abs(difference).max() > 1e-2

"""The array backend against loops over single numbers."""

import dataclasses
import math

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends.array import QUERY_BLOCK, ArrayBackend, namespace
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.weights import GgufFile, Weights

MODEL = TinyModel()


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    file = GgufFile.open(write_tiny(tmp_path_factory.mktemp("array") / "m.gguf", MODEL))
    config = ModelConfig.from_metadata(file.metadata, file.tensors)
    return ArrayBackend(config, Weights(file, config))


def weight(backend, name):
    return backend._weights.tensor(name).astype(np.float64)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def naive_attention(q, k, v):
    (T, N, D), (R, G, _) = q.shape, k.shape
    out = np.zeros((T, N, D))
    for t in range(T):
        seen = max(R - T + t, 0) + 1
        for n in range(N):
            g = n // (N // G)
            scores = [float(q[t, n].astype(np.float64) @ k[r, g]) / math.sqrt(D) for r in range(seen)]
            shares = np.exp(np.array(scores) - max(scores))
            out[t, n] = (shares / shares.sum()) @ v[:seen, g].astype(np.float64)
    return out.reshape(T, N * D)


@pytest.mark.parametrize(("T", "R"), [(1, 1), (1, 9), (4, 4), (4, 9), (5, 3)])
def test_attention_sees_the_rows_up_to_its_own(backend, T, R):
    q, k, v = noise(T, 6, 16), noise(R, 2, 16, seed=1), noise(R, 2, 16, seed=2)
    np.testing.assert_allclose(backend.attention(q, k, v), naive_attention(q, k, v), atol=2e-6)


def test_attention_in_blocks_equals_attention_at_once(backend):
    T, R = QUERY_BLOCK + 3, QUERY_BLOCK + 10
    q, k, v = noise(T, 6, 16), noise(R, 2, 16, seed=1), noise(R, 2, 16, seed=2)
    expected = np.concatenate(
        [backend.attention(q[t : t + 1], k[: R - T + t + 1], v[: R - T + t + 1]) for t in range(T)]
    )
    np.testing.assert_allclose(backend.attention(q, k, v), expected, atol=2e-6)


def test_attention_without_any_row_is_a_failure(backend):
    with pytest.raises(RuntimeFailure, match="returned no rows"):
        backend.attention(noise(1, 6, 16), noise(0, 2, 16), noise(0, 2, 16))


def test_rope_turns_pairs_of_half_a_head_apart(backend):
    x, D = noise(2, 1, 16), 16
    turned = backend._rotate(x, np.array([3, 1000]))
    for t, position in enumerate((3, 1000)):
        for i in range(D // 2):
            angle = position * MODEL.rope_base ** (-2 * i / D)
            pair = complex(x[t, 0, i], x[t, 0, i + D // 2]) * complex(math.cos(angle), math.sin(angle))
            assert turned[t, 0, i] == pytest.approx(pair.real, abs=1e-6)
            assert turned[t, 0, i + D // 2] == pytest.approx(pair.imag, abs=1e-6)


def test_rope_takes_any_position_a_cache_names(backend):
    x = noise(1, 1, 16)
    there = backend._rotate(x, np.array([-5]))
    np.testing.assert_allclose(backend._rotate(there, np.array([5])), x, atol=1e-6)


def test_norm_divides_by_the_root_of_the_mean_square(backend):
    x = noise(3, 64)
    scale = np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + MODEL.rms_eps)
    expected = x / scale * weight(backend, "blk.0.attn_norm.weight")
    np.testing.assert_allclose(backend.norm(x, "blk.0.attn_norm.weight"), expected, rtol=1e-5)


@pytest.mark.parametrize("T", [1, 7])
def test_experts_are_a_weighted_sum_of_swiglus(backend, T):
    x = noise(T, 64)
    chosen, weights, _ = backend.route(0, x)
    gate, up, down = (weight(backend, f"blk.0.ffn_{part}_exps.weight") for part in ("gate", "up", "down"))
    expected = np.zeros((T, 64))
    for t in range(T):
        for e, share in zip(chosen[t], weights[t], strict=True):
            g = gate[e] @ x[t]
            expected[t] += share * (down[e] @ (g / (1 + np.exp(-g)) * (up[e] @ x[t])))
    np.testing.assert_allclose(backend.experts(0, x, chosen, weights), expected, atol=1e-5)


def test_the_router_takes_the_most_probable_experts(backend):
    x = noise(9, 64)
    chosen, weights, gap = backend.route(1, x)
    scores = x.astype(np.float64) @ weight(backend, "blk.1.ffn_gate_inp.weight").T
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    for t in range(9):
        ranked = sorted(range(5), key=lambda e: -p[t, e])
        assert chosen[t].tolist() == sorted(ranked[:3])
        assert gap[t] == pytest.approx(p[t, ranked[2]] - p[t, ranked[3]], abs=1e-6)
        np.testing.assert_allclose(weights[t], p[t, chosen[t]] / p[t, ranked[:3]].sum(), rtol=1e-5)


def test_a_tie_goes_to_the_lower_expert(tmp_path):
    rows = np.zeros((5, 64), np.float32)
    rows[4] = 1  # expert 4 wins where the token is positive, the others tie
    path = write_tiny(tmp_path / "m.gguf", MODEL, values={"blk.0.ffn_gate_inp.weight": rows})
    with GgufFile.open(path) as file:
        config = ModelConfig.from_metadata(file.metadata, file.tensors)
        chosen, _, gap = ArrayBackend(config, Weights(file, config)).route(0, np.ones((1, 64), np.float32))
    assert chosen.tolist() == [[0, 1, 4]]
    assert gap.tolist() == [0]


def test_where_every_expert_is_chosen_the_gap_is_the_last_ones_probability(tmp_path):
    path = write_tiny(tmp_path / "m.gguf", dataclasses.replace(MODEL, experts=3))
    with GgufFile.open(path) as file:
        config = ModelConfig.from_metadata(file.metadata, file.tensors)
        chosen, weights, gap = ArrayBackend(config, Weights(file, config)).route(0, noise(4, 64))
    assert chosen.tolist() == [[0, 1, 2]] * 4
    np.testing.assert_allclose(gap, weights.min(-1), rtol=1e-6)


def test_the_same_forward_of_one_token_gives_the_same_bits(backend):
    x = noise(1, 64)
    assert backend.logits(x).tobytes() == backend.logits(x.copy()).tobytes()


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_while_computing_and_its_own_number_again_after(backend):
    before = blas_threads()
    with backend.computing():
        assert blas_threads() <= {1}
    assert blas_threads() == before


def test_a_device_of_another_name_is_refused():
    with pytest.raises(UnsupportedError, match="device is 'tpu', expected 'auto', 'cpu' or 'gpu'"):
        namespace("tpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert namespace("auto") is np
    with pytest.raises(UnsupportedError, match="needs CuPy and a GPU"):
        namespace("gpu")


def test_workspace_grows_with_the_scores_of_one_block(backend) -> None:
    weights, least = backend.memory(0, 1)
    for tokens, rows in ((3, 7), (QUERY_BLOCK, 500), (2 * QUERY_BLOCK, 900)):
        held = MODEL.heads * min(tokens, QUERY_BLOCK) * rows * 4 * 4
        assert backend.memory(tokens, rows) == (weights, least + held)

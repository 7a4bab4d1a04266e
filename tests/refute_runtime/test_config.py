"""The model's dimensions from metadata: what is read, and everything that is refused."""

from typing import Any

import pytest
from tiny_gguf import TinyModel, metadata

from refute_runtime.config import ModelConfig
from refute_runtime.errors import FormatError, UnsupportedError

MOE = TinyModel()
DENSE = TinyModel(architecture="qwen3", tied=True)


def plain(model: TinyModel) -> dict[str, Any]:
    return {"general.architecture": model.architecture, **{k: v for k, (v, _) in metadata(model).items()}}


def config(changes: dict[str, Any], model: TinyModel = MOE) -> ModelConfig:
    """Read the model's metadata with changes; None removes a key, `.x` is the architecture's `x`."""
    values = plain(model)
    for key, value in changes.items():
        full = f"{model.architecture}{key}" if key.startswith(".") else key
        values.pop(full, None)
        if value is not None:
            values[full] = value
    return ModelConfig.from_metadata(values, model.shapes(), source="m.gguf")


def test_moe_fields_are_read() -> None:
    assert config({}) == ModelConfig(
        architecture="qwen3moe",
        name="tiny-qwen3moe",
        layers=2,
        hidden=64,
        heads=6,
        kv_heads=2,
        head_dim=16,
        rms_eps=1e-5,
        rope_base=5e5,
        context=256,
        vocabulary=273,
        experts=5,
        experts_per_token=3,
        expert_ffn=32,
        dense_ffn=0,
        tied=False,
    )


def test_dense_fields_are_read() -> None:
    found = config({}, DENSE)
    assert (found.moe, found.dense_ffn, found.experts, found.tied) == (False, 160, 0, True)


@pytest.mark.parametrize("model", [MOE, DENSE, TinyModel(tied=True), TinyModel(architecture="qwen3")])
def test_tensor_shapes_are_those_of_the_writer(model: TinyModel) -> None:
    assert config({}, model).tensor_shapes() == model.shapes()


def test_absent_optional_keys_have_the_usual_meaning() -> None:
    absent = {
        ".attention.head_count_kv": None,
        ".attention.key_length": None,
        ".attention.value_length": None,
    }
    found = config({**absent, ".attention.head_count": 4, "general.name": None})
    assert (found.kv_heads, found.head_dim, found.name) == (4, 16, "unnamed")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (".rope.scaling.type", "none"),
        (".rope.scaling.factor", 1.0),
        (".rope.dimension_count", 16),
        (".attention.sliding_window", 0),
        (".expert_weights_norm", True),
        (".expert_weights_scale", 1.0),
        (".expert_gating_func", 1),
        (".expert_shared_count", 0),
        (".expert_shared_feed_forward_length", 0),
        (".vocab_size", 273),
        ("otherarch.rope.scaling.type", "yarn"),
    ],
)
def test_keys_that_change_nothing_are_accepted(key: str, value: object) -> None:
    assert config({key: value}) == config({})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("general.architecture", None, "general.architecture is missing; expected a string"),
        ("general.architecture", 7, "general.architecture is 7; expected a string"),
        ("general.name", 7, "general.name is 7; expected a string"),
        (".block_count", None, "qwen3moe.block_count is missing; expected an integer"),
        (".block_count", 0, "block_count is 0; expected an integer from 1"),
        (".block_count", -1, "block_count is -1; expected an integer from 1"),
        (".block_count", True, "block_count is True; expected an integer"),
        (".block_count", 2.0, "block_count is 2.0; expected an integer"),
        (".block_count", "2", "block_count is '2'; expected an integer"),
        (".block_count", 2**31 - 1, "block_count is 2147483647; expected no more layers than tensors, 27"),
        (
            ".embedding_length",
            2**31,
            "embedding_length is 2147483648; expected an integer from 1 to 2147483647",
        ),
        (
            ".attention.head_count_kv",
            4,
            "attention.head_count is 6; expected a multiple of attention.head_count_kv, 4",
        ),
        (".attention.key_length", 15, "attention.key_length is 15; expected an even number"),
        (
            ".attention.layer_norm_rms_epsilon",
            0.0,
            "layer_norm_rms_epsilon is 0.0; expected a finite number above 0",
        ),
        (".attention.layer_norm_rms_epsilon", float("nan"), "is nan; expected a finite number above 0"),
        (".rope.freq_base", float("inf"), "rope.freq_base is inf; expected a finite number above 0"),
        (".rope.freq_base", None, "rope.freq_base is missing; expected a finite number above 0"),
        (".rope.freq_base", "x", "rope.freq_base is 'x'; expected a finite number above 0"),
        (".expert_count", 0, "expert_count is 0; expected an integer from 1"),
        (".expert_used_count", 6, "expert_used_count is 6; expected at most expert_count, 5"),
        (".expert_feed_forward_length", None, "expert_feed_forward_length is missing"),
        (".context_length", 0, "context_length is 0; expected an integer from 1"),
        (".vocab_size", 274, "vocab_size is 274; expected the number of tokenizer.ggml.tokens, 273"),
        (
            "tokenizer.ggml.tokens",
            None,
            "tokenizer.ggml.tokens is missing; expected an array with at least one token",
        ),
        (
            "tokenizer.ggml.tokens",
            [],
            "tokenizer.ggml.tokens is an array; expected an array with at least one token",
        ),
        (
            "tokenizer.ggml.tokens",
            "abc",
            "tokenizer.ggml.tokens is 'abc'; expected an array with at least one token",
        ),
        (
            "tokenizer.ggml.tokens",
            [1, 2],
            "tokenizer.ggml.tokens is an array of numbers; expected an array of tokens",
        ),
    ],
)
def test_impossible_values_are_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(FormatError, match=r"^m\.gguf: ") as caught:
        config({key: value})
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("general.architecture", "llama", "is 'llama', which is not supported; expected qwen3 or qwen3moe"),
        (".attention.head_count", [6, 6], "attention.head_count differs by layer"),
        (
            ".attention.value_length",
            32,
            "value_length is 32, which is not supported; expected the size of a head, 16",
        ),
        (
            ".rope.dimension_count",
            8,
            "dimension_count is 8, which is not supported; expected the size of a head, 16",
        ),
        (".rope.scaling.type", "yarn", "scaling.type is 'yarn', which is not supported; expected 'none'"),
        (".rope.scaling.type", "linear", "scaling.type is 'linear', which is not supported; expected 'none'"),
        (".rope.scaling.factor", 4.0, "scaling.factor is 4.0, which is not supported; expected 0.0 or 1.0"),
        (".rope.scaling.yarn_log_multiplier", 0.1, "yarn_log_multiplier is not known to this runtime"),
        (".attention.sliding_window", 4096, "sliding_window is 4096, which is not supported; expected 0"),
        (
            ".attention.sliding_window",
            [0, 9],
            "sliding_window is an array, which is not supported; expected 0",
        ),
        (".attention.causal", False, "attention.causal is False, which is not supported; expected True"),
        (
            ".expert_weights_norm",
            False,
            "expert_weights_norm is False, which is not supported; expected True",
        ),
        (".expert_weights_scale", 2.5, "expert_weights_scale is 2.5, which is not supported"),
        (".expert_gating_func", 2, "expert_gating_func is 2, which is not supported; expected 0 or 1"),
        (".expert_shared_count", 1, "expert_shared_count is 1, which is not supported; expected 0"),
        (".leading_dense_block_count", 1, "leading_dense_block_count is 1, which is not supported"),
        (".logit_scale", 0.5, "the key qwen3moe.logit_scale is not known to this runtime"),
    ],
)
def test_values_that_would_compute_something_else_are_refused(key: str, value: object, expected: str) -> None:
    with pytest.raises(UnsupportedError, match=r"^m\.gguf: ") as caught:
        config({key: value})
    assert expected in str(caught.value)

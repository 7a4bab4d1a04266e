"""What models take of a GPU, by arithmetic alone."""

import math

import pytest
from gguf import GGMLQuantizationType as TensorType

from refute_runtime.backends.gpu import plan
from refute_runtime.backends.gpu.layers import Sizes
from refute_runtime.backends.gpu.layouts import row_bytes
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure

GB, GIB = 10**9, 1 << 30
LARGE = ModelConfig(
    architecture="qwen3moe", name="30B-A3B", layers=48, hidden=2048, heads=32, kv_heads=4, head_dim=128,
    rms_eps=1e-6, rope_base=1e7, context=262_144, vocabulary=151_936, experts=128, experts_per_token=8,
    expert_ffn=768, dense_ffn=0, tied=False,
)  # fmt: skip


def weights_of_q4_k_m(config):
    """Bytes on the device of all tensors, with the types of a Q4_K_M file."""
    total = 0
    for name, shape in config.tensor_shapes().items():
        if len(shape) == 1:
            total += 4 * shape[0]
            continue
        block, _, part = name.partition(".")[2].partition(".")
        better = part.startswith(("attn_v", "ffn_down")) and (
            int(block) < 6 or int(block) >= 42 or (int(block) - 6) % 3 == 2
        )
        kind = (
            TensorType.F32
            if "ffn_gate_inp" in name
            else TensorType.Q6_K
            if better or name == "output.weight"
            else TensorType.Q4_K
        )
        total += math.prod(shape[:-1]) * row_bytes(kind, shape[-1])
    return total


def test_a_card_of_24_gb_holds_the_30b_model_with_32k_positions():
    weights = weights_of_q4_k_m(LARGE)
    assert abs(weights - 18.55 * GB) < 0.1 * GB  # as in the file, but that rows of planes are padded
    rows, row = 32_768, 2 * LARGE.cache_row_elements
    assert rows * row == 3_221_225_472
    work = plan.workspace(Sizes.in_config(LARGE), 512, rows)
    assert weights + rows * row + work < 24 * GB
    plan.check_model(24 * GIB - GIB, weights, row, work, rows, "a file")  # a GiB is the driver's


def test_what_does_not_fit_says_what_would():
    with pytest.raises(RuntimeFailure) as caught:
        plan.check_model(10 * GIB, 8 * GIB, 1 << 20, GIB, 2048, "m.gguf")
    assert str(caught.value) == (
        "m.gguf needs 11.00 GiB (8.00 GiB of weights, 2.00 GiB of keys and values for 2048 positions, 1.00 "
        "GiB of work space), but the GPU has 10.00 GiB free; 1024 positions would fit: use a GPU with more "
        "memory, a smaller file, or --backend cpu"
    )


def test_without_room_for_weights_no_context_fits():
    with pytest.raises(RuntimeFailure, match=r"; no context would fit: use"):
        plan.check_model(GIB, 2 * GIB, 1 << 20, 0, 1, "m.gguf")


def test_exactly_enough_is_enough():
    plan.check_model(3 * GIB, 2 * GIB, 1 << 20, 1 << 29, 512, "m.gguf")

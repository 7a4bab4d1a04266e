"""The small models that backends are compared on, opened, and what asks a backend operation by operation."""

from gguf import GGMLQuantizationType as TensorType
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.config import ModelConfig
from refute_runtime.resident import blocks_of
from refute_runtime.weights import GgufFile, Weights

BLOCKS = TinyModel(
    hidden=256, heads=8, head_dim=32, kv_heads=2, expert_ffn=256, context=1024, type=TensorType.Q4_K,
    types={"attn_v": TensorType.Q6_K, "ffn_down_exps": TensorType.Q6_K, "attn_k": TensorType.Q8_0,
           "attn_output": TensorType.Q5_K, "output": TensorType.F16},
)  # fmt: skip
DENSE = TinyModel(architecture="qwen3", hidden=256, dense_ffn=512, type=TensorType.Q4_K, heads=16, tied=True)
FLOATS = TinyModel(context=1024)


class Wrapped:
    """A backend or a cache that is asked operation by operation."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


def opened(model, folder):
    """File, configuration, and weights with their blocks."""
    file = GgufFile.open(write_tiny(folder / "m.gguf", model))
    config = ModelConfig.from_metadata(file.metadata, file.tensors)
    weights = Weights(file, config)
    weights.blocks = blocks_of(file)
    return file, config, weights

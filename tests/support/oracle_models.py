"""The models of the oracle: dimensions that nothing hard-wired fits, weights from a seed, bit for bit.

`tests/oracle/make_golden.py` runs another implementation on them, the tests run ours. Weights come from the
raw stream of PCG64, which NumPy keeps stable, so that only logits need storing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from tiny_gguf import TinyModel


@dataclass(frozen=True, slots=True)
class OracleCase:
    """A model and how many random tokens go through it."""

    model: TinyModel
    tokens: int = 24


CASES: Mapping[str, OracleCase] = MappingProxyType({
    "moe": OracleCase(
        TinyModel(hidden=64, heads=6, kv_heads=2, head_dim=16, experts=6, experts_per_token=3, expert_ffn=40,
                  rope_base=1e4, rms_eps=1e-6, seed=1), tokens=40),
    "moe-one-kv-head": OracleCase(
        TinyModel(hidden=80, heads=5, kv_heads=1, head_dim=24, experts=7, experts_per_token=5, expert_ffn=24,
                  rope_base=5e5, rms_eps=1e-5, seed=2)),
    "moe-every-head-tied": OracleCase(
        TinyModel(layers=3, hidden=48, heads=4, kv_heads=4, head_dim=20, experts=4, experts_per_token=1,
                  expert_ffn=56, rope_base=1e7, rms_eps=1e-6, tied=True, seed=3)),
    "moe-every-expert": OracleCase(
        TinyModel(layers=1, hidden=40, heads=6, kv_heads=3, head_dim=8, experts=3, experts_per_token=3,
                  expert_ffn=96, rope_base=1e6, rms_eps=1e-3, seed=4)),
    "moe-long": OracleCase(
        TinyModel(hidden=32, heads=4, kv_heads=2, head_dim=12, experts=6, experts_per_token=3, expert_ffn=16,
                  rope_base=1e4, rms_eps=1e-6, context=1024, seed=5), tokens=300),
    "dense": OracleCase(
        TinyModel(architecture="qwen3", hidden=48, heads=6, kv_heads=2, head_dim=16, dense_ffn=104,
                  rope_base=5e5, rms_eps=1e-5, seed=6)),
    "dense-tied": OracleCase(
        TinyModel(architecture="qwen3", layers=3, hidden=56, heads=3, kv_heads=1, head_dim=32, dense_ffn=72,
                  rope_base=1e7, rms_eps=1e-6, tied=True, seed=7)),
})  # fmt: skip


def oracle_weights(model: TinyModel) -> dict[str, np.ndarray]:
    """Uniform float32 values of every tensor: norms around 1, matrices of unit gain."""
    stream = np.random.PCG64(model.seed)
    values = {}
    for name, shape in model.shapes().items():
        raw = stream.random_raw(int(np.prod(shape))).reshape(shape)
        noise = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1  # [-1, 1)
        if "norm" in name:
            value = 1 + 0.5 * noise
        elif name == "token_embd.weight":
            value = noise
        else:
            value = noise * np.sqrt(3 / shape[-1])
        values[name] = value.astype(np.float32)
    return values


def oracle_tokens(case: OracleCase) -> list[int]:
    """Random token ids."""
    count = oracle_weights(case.model)["token_embd.weight"].shape[0]
    raw = np.random.PCG64(1000 + case.model.seed).random_raw(case.tokens)
    return [int(value) for value in raw % np.uint64(count)]


def weights_digest(values: Mapping[str, np.ndarray]) -> str:
    """sha256 over names and bytes."""
    total = hashlib.sha256()
    for name, value in values.items():
        total.update(f"{name}\0{value.shape}\0".encode() + value.astype("<f4").tobytes())
    return total.hexdigest()

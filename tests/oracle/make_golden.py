"""Write the golden logits: Hugging Face's Qwen3-MoE and Qwen3 on the models of `oracle_models.py`.

Run from the repository root in an environment of its own; see README.md beside this file.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from oracle_models import CASES, OracleCase, oracle_tokens, oracle_weights, weights_digest  # noqa: E402

GOLDEN = ROOT / "tests" / "refute_runtime" / "golden"

BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_model(case: OracleCase, values: dict[str, np.ndarray]) -> torch.nn.Module:
    """Hugging Face's model of the case, in float32, with these weights and no others."""
    model = case.model
    common = {
        "vocab_size": len(values["token_embd.weight"]),
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "rms_norm_eps": model.rms_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        "max_position_embeddings": model.context,
        "tie_word_embeddings": model.tied,
        "attention_bias": False,
        "hidden_act": "silu",
        "attn_implementation": "eager",
    }
    if model.architecture == "qwen3moe":
        config = Qwen3MoeConfig(
            **common,
            moe_intermediate_size=model.expert_ffn,
            num_experts=model.experts,
            num_experts_per_tok=model.experts_per_token,
            norm_topk_prob=True,
            decoder_sparse_step=1,
            mlp_only_layers=[],
        )
        hf = Qwen3MoeForCausalLM(config)
    else:
        hf = Qwen3ForCausalLM(Qwen3Config(**common, intermediate_size=model.dense_ffn))

    state = {
        "model.embed_tokens.weight": values["token_embd.weight"],
        "model.norm.weight": values["output_norm.weight"],
        "lm_head.weight": values["token_embd.weight" if model.tied else "output.weight"],
    }
    for layer in range(model.layers):
        ours, theirs = f"blk.{layer}", f"model.layers.{layer}"
        for name, hf_name in BLOCK.items():
            if f"{ours}.{name}.weight" in values:
                state[f"{theirs}.{hf_name}.weight"] = values[f"{ours}.{name}.weight"]
        if model.architecture == "qwen3moe":
            gate, up = (values[f"{ours}.ffn_{part}_exps.weight"] for part in ("gate", "up"))
            state[f"{theirs}.mlp.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
            state[f"{theirs}.mlp.experts.down_proj"] = values[f"{ours}.ffn_down_exps.weight"]
    hf.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=True)
    return hf.float().eval()


def main() -> None:
    """Write one file per case."""
    for name, case in CASES.items():
        values, tokens = oracle_weights(case.model), oracle_tokens(case)
        with torch.no_grad():
            logits = hf_model(case, values)(torch.tensor([tokens])).logits[0].numpy()
        np.savez_compressed(
            GOLDEN / f"{name}.npz",
            tokens=np.array(tokens, np.int64),
            logits=logits.astype(np.float32),
            weights_sha256=np.array(weights_digest(values)),
        )
        print(f"{name}: {logits.shape}, standard deviation {logits.std():.2f}")  # noqa: T201


if __name__ == "__main__":
    main()

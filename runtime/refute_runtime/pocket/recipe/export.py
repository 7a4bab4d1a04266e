"""Write a checkpoint as GGUF: float32 first, then Q4_K_M through llama.cpp's own quantizer."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import gguf
import numpy as np
import torch
from model import Pocket, Shape
from tokenizer import CONTROL, USER_DEFINED
from torch import Tensor

TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def write_f32(model: Pocket, tokenizer: Path, context: int, output: Path) -> None:
    """Write all tensors and metadata that llama.cpp needs."""
    shape = model.shape
    writer = gguf.GGUFWriter(output, "qwen3moe")
    writer.add_name("refute pocket")
    writer.add_description("A Qwen3-MoE of 8 M parameters, trained from scratch as a test fixture")
    writer.add_license("psf-2.0")
    writer.add_block_count(shape.layers)
    writer.add_context_length(context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.expert_size * shape.experts_used)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_used)
    writer.add_expert_feed_forward_length(shape.expert_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_tokenizer(writer, tokenizer)
    for name, tensor in gguf_names(model):
        writer.add_tensor(name, np.ascontiguousarray(tensor.detach().float().numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize(source: Path, output: Path) -> None:
    """Quantize to Q4_K_M."""
    import llama_cpp  # only here: the float32 file needs no llama.cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    parameters.nthread = 2
    status = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(output), parameters)
    if status != 0:
        raise RuntimeError(f"llama.cpp's quantizer returned {status}")


def _add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    ids = dict(document["model"]["vocab"])
    ids.update({token["content"]: token["id"] for token in document["added_tokens"]})
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = dict.fromkeys(CONTROL, gguf.TokenType.CONTROL)
    kinds.update(dict.fromkeys(USER_DEFINED, gguf.TokenType.USER_DEFINED))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in document["model"]["merges"]])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE.read_text(encoding="utf-8"))


def gguf_names(model: Pocket) -> list[tuple[str, Tensor]]:
    """Return (GGUF name, tensor); the axes are the reverse of those in the file."""
    width = model.shape.expert_size
    tensors = [("token_embd.weight", model.embedding.weight)]
    for i, block in enumerate(model.blocks):
        attention, experts = block.attention, block.experts
        tensors += [
            (f"blk.{i}.{name}.weight", tensor)
            for name, tensor in (
                ("attn_norm", block.attention_norm.weight),
                ("attn_q", attention.q.weight),
                ("attn_k", attention.k.weight),
                ("attn_v", attention.v.weight),
                ("attn_q_norm", attention.q_norm.weight),
                ("attn_k_norm", attention.k_norm.weight),
                ("attn_output", attention.o.weight),
                ("ffn_norm", block.experts_norm.weight),
                ("ffn_gate_inp", experts.router.weight),
                ("ffn_gate_exps", experts.w_in[:, :width]),
                ("ffn_up_exps", experts.w_in[:, width:]),
                ("ffn_down_exps", experts.w_out),
            )
        ]
    return [*tensors, ("output_norm.weight", model.norm.weight), ("output.weight", model.head.weight)]


def main() -> None:
    """Export a checkpoint of train.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "checkpoint", type=Path, help="a checkpoint, or `random` for untrained weights (seed 0)"
    )
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json")
    parser.add_argument("output", type=Path, help="the Q4_K_M file; FILE.f32.gguf is written beside it")
    parser.add_argument("--context", type=int, default=2048, help="context length to declare")
    parser.add_argument("--f32-only", action="store_true", help="stop before quantizing")
    arguments = parser.parse_args()
    model = Pocket(Shape())
    if str(arguments.checkpoint) == "random":
        model.initialise(0)
    else:
        model.load_state_dict(torch.load(arguments.checkpoint, weights_only=True)["model"])
    full = arguments.output.with_suffix(".f32.gguf")
    write_f32(model, arguments.tokenizer, arguments.context, full)
    if not arguments.f32_only:
        quantize(full, arguments.output)


if __name__ == "__main__":
    main()

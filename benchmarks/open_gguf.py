"""Time to open a GGUF file with the vocabulary of the real model, beside `gguf.GGUFReader`.

    python benchmarks/open_gguf.py [FILE]

Without FILE a small model with 151,936 tokens and 151,387 merges is written first: what takes time is the
metadata, not the weights, which nobody reads here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from refute_runtime.config import ModelConfig
from refute_runtime.weights import GgufFile, Weights

TOKENS = 151_936  # of Qwen3
MERGES = 151_387


def words(count: int) -> list[str]:
    """Distinct words of growing length, six characters on average as in a real vocabulary."""
    lengths = (itertools.product(string.ascii_letters, repeat=n) for n in (1, 2, 3, 6))
    return ["".join(letters) for letters in itertools.islice(itertools.chain(*lengths), count)]


def write(path: Path) -> None:
    """Write a qwen3moe file with one small layer and the large vocabulary."""
    hidden, heads, kv_heads, head_dim, experts, ffn = 32, 2, 1, 32, 4, 32
    tokens = words(TOKENS)
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(ffn)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * TOKENS)
    writer.add_token_merges([f"{word[:-1] or word} {word[-1]}" for word in tokens[:MERGES]])
    shapes = {
        "token_embd": (TOKENS, hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.attn_q": (heads * head_dim, hidden),
        "blk.0.attn_k": (kv_heads * head_dim, hidden),
        "blk.0.attn_v": (kv_heads * head_dim, hidden),
        "blk.0.attn_q_norm": (head_dim,),
        "blk.0.attn_k_norm": (head_dim,),
        "blk.0.attn_output": (hidden, heads * head_dim),
        "blk.0.ffn_norm": (hidden,),
        "blk.0.ffn_gate_inp": (experts, hidden),
        "blk.0.ffn_gate_exps": (experts, ffn, hidden),
        "blk.0.ffn_up_exps": (experts, ffn, hidden),
        "blk.0.ffn_down_exps": (experts, hidden, ffn),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def open_checked(path: Path) -> None:
    """Do what an engine does before it reads the first weight."""
    with GgufFile.open(path) as file:
        Weights(file, ModelConfig.from_metadata(file.metadata, file.tensors))


def seconds(action: Callable[[Path], object], path: Path, runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        action(path)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--peer-runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "large-vocabulary.gguf"
        if arguments.file is None:
            write(path)
        ours = seconds(open_checked, path, arguments.runs)
        peer = seconds(gguf.GGUFReader, path, arguments.peer_runs)
        size = path.stat().st_size
    print(f"refute_runtime  median {statistics.median(ours):.3f} s, slowest of {len(ours)} {max(ours):.3f} s")
    print(f"GGUFReader      median {statistics.median(peer):.3f} s, slowest of {len(peer)} {max(peer):.3f} s")
    print(json.dumps({"file_bytes": size, "refute_runtime_s": ours, "gguf_reader_s": peer}))


if __name__ == "__main__":
    main()

"""Write a GGUF model of a real model's shape with random weights, for measuring speed and memory.

    python benchmarks/make_gguf.py medium /tmp/models/medium.gguf

embedded  the embedded model itself, copied (5 MB)
medium    12 layers of the shape of Qwen3-30B-A3B with 32 of its 128 experts (1.7 GB)
30b       that shape whole: 48 layers, 128 experts (18.6 GB)

The types are those of a Q4_K_M file: Q6_K for the output layer and, in half of the layers, for values and
down projections, F32 for norms and routers, Q4_K for the rest. A byte-level BPE tokenizer of 151,936 tokens
and a chat template are in the file, so engines load it as any other. What the model says means nothing, and
its experts are chosen evenly; those of a trained model are not. A few tensors at a time are in memory. Two
files of a size have the same bytes.
"""

import argparse
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path

import gguf
import numpy as np
from blocks import random_rows
from gguf import GGMLQuantizationType as TensorType

import refute_runtime

EMBEDDED = Path(refute_runtime.__file__).parent / "pocket" / "pocket.gguf"

_LETTERS = "etaoinshrdlcumwfgypbvkjxqz"
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
_MOSTLY_Q4_K_M = 15
_MAKERS = 2  # threads; as many tensors, and one more, are in memory


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a model; by default those of Qwen3-30B-A3B."""

    layers: int = 48
    experts: int = 128
    experts_per_token: int = 8
    hidden: int = 2048
    expert_ffn: int = 768
    heads: int = 32
    kv_heads: int = 4
    head_dim: int = 128
    vocabulary: int = 151_936
    words: int = 151_643  # tokens of plain text; control tokens and unused ones follow
    context: int = 40_960


SHAPES = {"medium": Shape(layers=12, experts=32), "30b": Shape()}
SIZES = ("embedded", *SHAPES)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to write. shape: NumPy's. std: of its values; None for a norm, whose values are near 1."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    std: float | None


def tensors(shape: Shape) -> Iterator[Tensor]:
    """List the tensors of a model, in the order of the file."""
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    h, e, f, n = shape.hidden, shape.experts, shape.expert_ffn, shape.layers
    low, high, whole = TensorType.Q4_K, TensorType.Q6_K, TensorType.F32
    yield Tensor("token_embd.weight", (shape.vocabulary, h), low, 0.02)
    for layer in range(n):
        # llama.cpp's rule for Q4_K_M: the first and last eighth of the layers, and every third between
        more = layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2
        block: dict[str, tuple[tuple[int, ...], TensorType]] = {
            "attn_norm": ((h,), whole),
            "attn_q": ((wide, h), low),
            "attn_k": ((narrow, h), low),
            "attn_v": ((narrow, h), high if more else low),
            "attn_q_norm": ((shape.head_dim,), whole),
            "attn_k_norm": ((shape.head_dim,), whole),
            "attn_output": ((h, wide), low),
            "ffn_norm": ((h,), whole),
            "ffn_gate_inp": ((e, h), whole),
            "ffn_gate_exps": ((e, f, h), low),
            "ffn_up_exps": ((e, f, h), low),
            "ffn_down_exps": ((e, h, f), high if more else low),
        }
        for name, (extents, kind) in block.items():
            std = 1 / sqrt(extents[-1]) if len(extents) > 1 else None
            yield Tensor(f"blk.{layer}.{name}.weight", extents, kind, std)
    yield Tensor("output_norm.weight", (h,), whole, None)
    yield Tensor("output.weight", (shape.vocabulary, h), high, 1 / sqrt(h))


def vocabulary(count: int) -> tuple[list[str], list[str]]:
    """The 256 bytes and words of frequent letters, with and without a space; the merges that make them.

    A merge adds one letter to an earlier token, so every prefix of a word is a token too.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    tokens = [chr(byte) for byte in printable]
    tokens += [chr(256 + i) for i in range(256 - len(printable))]  # GPT-2's names of the other bytes
    merges: list[str] = []
    space = chr(256 + 32)  # 0x20 is the 33rd byte that is not printable
    words = [space, *_LETTERS]
    for left in words:  # it grows meanwhile
        for right in _LETTERS:
            if len(tokens) == count:
                return tokens, merges
            words.append(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    raise AssertionError


def write(path: Path, shape: Shape, name: str, seed: int = 0) -> None:
    """Write a model. Beside `path` until it is whole: what has the name is complete."""
    part = path.with_name(f"{path.name}.part")
    writer = gguf.GGUFWriter(part, "qwen3moe")
    _metadata(writer, shape, name)
    listed = list(tensors(shape))
    for tensor in listed:
        elements, size = gguf.GGML_QUANT_SIZES[tensor.type]
        nbytes = prod(tensor.shape) // elements * size
        if tensor.type is TensorType.F32:
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), nbytes)
        else:  # the writer wants the shape in bytes of what is no NumPy type
            in_bytes = (*tensor.shape[:-1], tensor.shape[-1] // elements * size)
            writer.add_tensor_info(tensor.name, in_bytes, np.dtype(np.uint8), nbytes, raw_dtype=tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with ThreadPoolExecutor(_MAKERS) as pool:
        coming: deque[Future[np.ndarray]] = deque()
        for index, tensor in enumerate(listed):
            coming.append(pool.submit(_values, tensor, seed, index))
            if len(coming) > _MAKERS:
                writer.write_tensor_data(coming.popleft().result())
        for values in coming:
            writer.write_tensor_data(values.result())
    writer.close()
    part.replace(path)


def _values(tensor: Tensor, seed: int, index: int) -> np.ndarray:
    rng = np.random.Generator(np.random.SFC64([seed, index]))
    if tensor.std is None:
        norm: np.ndarray = 1 + 0.1 * rng.standard_normal(tensor.shape, dtype=np.float32)
        return norm
    rows = prod(tensor.shape[:-1])
    return random_rows(tensor.type, rows, tensor.shape[-1], tensor.std, rng)


def _metadata(writer: gguf.GGUFWriter, shape: Shape, name: str) -> None:
    writer.add_name(name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.expert_ffn * shape.experts_per_token)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_expert_count(shape.experts)
    writer.add_expert_used_count(shape.experts_per_token)
    writer.add_expert_feed_forward_length(shape.expert_ffn)
    writer.add_file_type(_MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    tokens, merges = vocabulary(shape.words)
    unused = [f"[unused{i}]" for i in range(shape.vocabulary - shape.words - len(_SPECIALS))]
    kinds = [_NORMAL] * len(tokens) + [_CONTROL] * len(_SPECIALS) + [_UNUSED] * len(unused)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *_SPECIALS, *unused])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    end_of_text, end_of_turn = shape.words, shape.words + 2
    writer.add_bos_token_id(end_of_text)
    writer.add_pad_token_id(end_of_text)
    writer.add_eos_token_id(end_of_turn)
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)


def file_bytes(size: str) -> int:
    """About how large a file gets; the metadata are a few megabytes."""
    if size == "embedded":
        return EMBEDDED.stat().st_size
    sizes = (
        prod(tensor.shape) // gguf.GGML_QUANT_SIZES[tensor.type][0] * gguf.GGML_QUANT_SIZES[tensor.type][1]
        for tensor in tensors(SHAPES[size])
    )
    return sum(sizes) + (8 << 20)


def make(size: str, path: Path) -> None:
    """Write a file of a size. Raises OSError, also where the disk has no room for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needed, free = file_bytes(size), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(
            f"{path}: the model has {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free there; "
            "make room or name another folder"
        )
    if size == "embedded":
        shutil.copyfile(EMBEDDED, path)
    else:
        write(path, SHAPES[size], f"random-{size}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        make(arguments.size, arguments.path)
    except OSError as error:
        sys.exit(f"make_gguf: {error}")
    written, seconds = arguments.path.stat().st_size, time.perf_counter() - start
    print(f"{arguments.path}: {written:,} bytes in {seconds:.1f} s, {written / seconds / 1e9:.2f} GB/s")


if __name__ == "__main__":
    main()

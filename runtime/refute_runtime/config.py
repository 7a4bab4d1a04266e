"""The model's dimensions, read and checked from GGUF metadata."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from refute_runtime.errors import FormatError, UnsupportedError

ARCHITECTURES = ("qwen3", "qwen3moe")

_LARGEST = 2**31 - 1  # of any dimension: products of three stay far below 2**128, and no array has more

# Keys that other models use to change the computation, with the values that change nothing here.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "attention.scale": (0.0,),
    "attention.sliding_window": (0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "expert_gating_func": (0, 1),  # unset, softmax
    "expert_group_count": (0, 1),
    "expert_group_used_count": (0, 1),
    "expert_shared_count": (0,),
    "expert_shared_feed_forward_length": (0,),
    "expert_weights_norm": (True,),
    "expert_weights_scale": (0.0, 1.0),
    "leading_dense_block_count": (0,),
    "rope.scale_linear": (0.0, 1.0),
    "rope.scaling.type": ("none",),
    "rope.scaling.factor": (0.0, 1.0),
    "rope.scaling.finetuned": (False,),
}
# Keys read below, and those that only describe.
_KNOWN = frozenset({
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length",
    "attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count",
    "rope.scaling.original_context_length", "expert_count", "expert_used_count", "expert_feed_forward_length",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Dimensions of a `qwen3moe` or `qwen3` model.

    The expert fields are 0 in a dense model, `dense_ffn` is 0 in a MoE one.
    """

    architecture: str
    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    rope_base: float
    context: int
    vocabulary: int
    experts: int
    experts_per_token: int
    expert_ffn: int
    dense_ffn: int
    tied: bool

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, object], tensor_names: Collection[str], *, source: str = "GGUF metadata"
    ) -> ModelConfig:
        """Read the configuration; `source` names the file in messages.

        Raises FormatError for a missing or impossible value, UnsupportedError for a sound one that this
        runtime would compute wrongly.
        """
        read = _Reader(metadata, source)
        architecture = read.text("general.architecture")
        if architecture not in ARCHITECTURES:
            known = " or ".join(ARCHITECTURES)
            raise UnsupportedError(
                f"{source}: general.architecture is {architecture!r:.60}, which is not supported; "
                f"expected {known}"
            )
        read.prefix = f"{architecture}."
        read.refuse_unknown_keys()
        moe = architecture == "qwen3moe"

        layers = read.size("block_count")
        if layers > len(tensor_names):  # before anything is listed per layer
            raise FormatError(
                f"{source}: {read.prefix}block_count is {layers}; expected no more layers than tensors, "
                f"{len(tensor_names)}"
            )
        hidden, heads = read.size("embedding_length"), read.size("attention.head_count")
        kv_heads = read.size("attention.head_count_kv", default=heads)
        if heads % kv_heads:
            raise FormatError(
                f"{source}: {read.prefix}attention.head_count is {heads}; expected a multiple of "
                f"attention.head_count_kv, {kv_heads}"
            )
        config = cls(
            architecture=architecture,
            name=read.text("general.name", default="unnamed"),
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=read.head_dim(hidden, heads),
            rms_eps=read.positive("attention.layer_norm_rms_epsilon"),
            rope_base=read.positive("rope.freq_base"),
            context=read.size("context_length"),
            vocabulary=read.vocabulary(),
            experts=read.size("expert_count") if moe else 0,
            experts_per_token=read.size("expert_used_count") if moe else 0,
            expert_ffn=read.size("expert_feed_forward_length") if moe else 0,
            dense_ffn=0 if moe else read.size("feed_forward_length"),
            tied="output.weight" not in tensor_names,
        )
        if config.experts_per_token > config.experts:
            raise FormatError(
                f"{source}: {read.prefix}expert_used_count is {config.experts_per_token}; expected at most "
                f"expert_count, {config.experts}"
            )
        return config

    @property
    def moe(self) -> bool:
        return self.experts > 0

    @property
    def cache_row_elements(self) -> int:
        """Numbers that a KV cache holds of one position: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """NumPy shape (GGUF's dimensions reversed) of every tensor that the model needs."""
        h, wide, narrow = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        e, f = self.experts, self.expert_ffn
        block: dict[str, tuple[int, ...]] = {
            "attn_norm": (h,),
            "attn_q": (wide, h),
            "attn_k": (narrow, h),
            "attn_v": (narrow, h),
            "attn_q_norm": (self.head_dim,),
            "attn_k_norm": (self.head_dim,),
            "attn_output": (h, wide),
            "ffn_norm": (h,),
        }
        if self.moe:
            block["ffn_gate_inp"] = (e, h)
            block["ffn_gate_exps"] = (e, f, h)
            block["ffn_up_exps"] = (e, f, h)
            block["ffn_down_exps"] = (e, h, f)
        else:
            block["ffn_gate"] = (self.dense_ffn, h)
            block["ffn_up"] = (self.dense_ffn, h)
            block["ffn_down"] = (h, self.dense_ffn)
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocabulary, h),
            "output_norm.weight": (h,),
        }
        if not self.tied:
            shapes["output.weight"] = (self.vocabulary, h)
        for layer in range(self.layers):
            shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
        return shapes


class _Reader:
    """Typed access to metadata, with errors that name the key, the value found and what was expected."""

    def __init__(self, metadata: Mapping[str, object], source: str) -> None:
        self._metadata = metadata
        self._source = source
        self.prefix = ""

    def _wrong(self, key: str, expected: str) -> FormatError:
        if key not in self._metadata:
            return FormatError(f"{self._source}: {key} is missing; expected {expected}")
        return FormatError(f"{self._source}: {key} is {self._shown(key)}; expected {expected}")

    def _shown(self, key: str) -> str:
        value = self._metadata[key]
        return f"{value!r:.60}" if isinstance(value, int | float | str) else "an array"

    def text(self, key: str, default: str | None = None) -> str:
        value = self._metadata.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def size(self, name: str, default: int | None = None) -> int:
        key = self.prefix + name
        value = self._metadata.get(key, default)
        if isinstance(value, Sequence) and not isinstance(value, str):
            raise UnsupportedError(
                f"{self._source}: {key} differs by layer, which is not supported; expected one value"
            )
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
            raise self._wrong(key, f"an integer from 1 to {_LARGEST}")
        return value

    def positive(self, name: str) -> float:
        key = self.prefix + name
        value = self._metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self._wrong(key, "a finite number above 0")
        return float(value)

    def head_dim(self, hidden: int, heads: int) -> int:
        """Size of a head: one for keys, values and rotation."""
        key = f"{self.prefix}attention.key_length"
        head_dim = self.size("attention.key_length", default=hidden // heads if hidden % heads == 0 else None)
        if head_dim % 2:
            raise FormatError(
                f"{self._source}: {key} is {head_dim}; expected an even number, for rotation in halves"
            )
        for name in ("attention.value_length", "rope.dimension_count"):
            other = self.size(name, default=head_dim)
            if other != head_dim:
                raise UnsupportedError(
                    f"{self._source}: {self.prefix}{name} is {other}, which is not supported; "
                    f"expected the size of a head, {head_dim}"
                )
        return head_dim

    def vocabulary(self) -> int:
        """Number of tokens."""
        key = "tokenizer.ggml.tokens"
        tokens = self._metadata.get(key)
        if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not tokens:
            raise self._wrong(key, "an array with at least one token")
        if not isinstance(tokens[0], str):  # arrays are of one type
            raise FormatError(f"{self._source}: {key} is an array of numbers; expected an array of tokens")
        stated = self.size("vocab_size", default=len(tokens))
        if stated != len(tokens):
            raise FormatError(
                f"{self._source}: {self.prefix}vocab_size is {stated}; expected the number of "
                f"tokenizer.ggml.tokens, {len(tokens)}"
            )
        return len(tokens)

    def refuse_unknown_keys(self) -> None:
        """Refuse every key of the architecture that may change results and that nobody would read."""
        for key, value in self._metadata.items():
            name = key.removeprefix(self.prefix)
            if name == key or name in _KNOWN:
                continue
            if name not in _NEUTRAL:
                raise UnsupportedError(
                    f"{self._source}: the key {key} is not known to this runtime, which would ignore it; "
                    f"expected only keys of a plain {self.prefix[:-1]} model"
                )
            neutral = _NEUTRAL[name]
            if not any(type(value) is type(plain) and value == plain for plain in neutral):
                accepted = " or ".join(map(repr, neutral))
                raise UnsupportedError(
                    f"{self._source}: {key} is {self._shown(key)}, which is not supported; "
                    f"expected {accepted}, or no such key"
                )

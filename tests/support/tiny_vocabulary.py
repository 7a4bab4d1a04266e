"""A small byte-level BPE vocabulary as GGUF metadata, and the same as a Hugging Face `tokenizer.json`."""

import json
from functools import cache

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
    "<think>",
    "</think>",
)
TEXT = (
    "The engine reads the prompt, then it writes one token after another.\n"
    "def add(first, second):\n    return first + second\n\n"
    "it's what they're saying; we'll see, I'd say you've seen 2026 and 1234567890.\n"
    "Zoë and François eat crème brûlée in Kraków; 日本語のテキスト, привет мир, 🙂🙂.\n"
    '<|im_start|>user\n<function=write>\n<parameter=path>\n{"name": "write", "arguments": {"path": "a.py"}}\n'
)


@cache
def _trained() -> tuple[list[str], list[list[str]]]:
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator([TEXT] * 4, trainer)
    model = json.loads(trained.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), model["merges"]


def metadata(**changes: object) -> dict[str, object]:
    """Return the metadata of a model with this vocabulary; keywords replace keys of `tokenizer.ggml`."""
    ordinary, merges = _trained()
    values: dict[str, object] = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": [*ordinary, *CONTROL, *USER_DEFINED, "[PAD0]"],
        "token_type": [1] * len(ordinary) + [3] * len(CONTROL) + [4] * len(USER_DEFINED) + [5],
        "merges": [" ".join(pair) for pair in merges],
        "eos_token_id": len(ordinary) + 2,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in {**values, **changes}.items()}


def hugging_face(*, nfc: bool = True) -> tokenizers.Tokenizer:
    """Assemble the tokenizer that Qwen publishes, from a `tokenizer.json`: it matches special tokens."""
    ordinary, merges = _trained()
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [
        {
            "id": len(ordinary) + index,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": text in CONTROL,
        }
        for index, text in enumerate([*CONTROL, *USER_DEFINED])
    ]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if nfc else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: index for index, text in enumerate(ordinary)},
            "merges": merges,
        },
    }
    return tokenizers.Tokenizer.from_str(json.dumps(document))

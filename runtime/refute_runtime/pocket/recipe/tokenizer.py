"""Train the 2,048-token byte-level BPE tokenizer (a few seconds).

The split rule is Qwen2's, so readers treat the file as `tokenizer.ggml.pre = qwen2`. During training a second
split keeps letters apart from everything else: no merge ever joins a space, quote or `=` to the word after it.
A word is therefore the same tokens wherever it stands, which makes copying a word never seen before possible
for a model this small. Readers need not know: without such merges Qwen2's rule gives the same tokens.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from corpus import load_corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCAB_SIZE = 2048
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")


def qwen2_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """Return the split that readers of the GGUF file apply."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Learn the merges and append the control and the tool tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(CONTROL) - len(USER_DEFINED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in USER_DEFINED])
    tokenizer.pre_tokenizer = qwen2_pre_tokenizer()
    if tokenizer.get_vocab_size() != VOCAB_SIZE:
        raise ValueError(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, expected {VOCAB_SIZE}")
    return tokenizer


def main() -> None:
    """Write the tokenizer file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the tokenizer.json to write")
    output = parser.parse_args().output
    corpus = load_corpus()
    train_tokenizer([*corpus.sources, *corpus.topics]).save(str(output))


if __name__ == "__main__":
    main()

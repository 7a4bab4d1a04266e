"""Write heldout.json, and break cache rows of the needle to see whether the answer changes.

The weights come from the GGUF file itself, dequantized, so that what is tested is what is shipped. A prompt is
run in two parts: the first fills the cache, then the rows of the needle's value are broken in every layer, then
the second part, which holds the question, is run over the broken cache.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import gguf
import numpy as np
import torch
from corpus import Corpus, load_corpus
from data import Lexicon, Sizes, Tasks, Words, build_lexicon, render, split_answers, test_documents, user
from export import gguf_names
from model import Pocket, Shape, rotation
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

Cache = list[tuple[Tensor, Tensor]]  # per layer: k, v (kv_heads, T, size)

FAULTS = ("lost", "zeroed", "shifted", "stale")
SIZES = Sizes(pairs=8, questions=1, items=6, filler=16, tools=2)
_STATEMENTS = ("{k}={v}", "{k}: {v}", "{k} is {v}", "{k} -> {v}", "The code of {k} is {v}.")


@dataclass(frozen=True, slots=True)
class Needle:
    """A rendered prompt that asks for a value stated once, in its first half."""

    prompt: str
    expected: str
    value: tuple[int, int]  # characters of the value in the prompt
    line: tuple[int, int]  # characters of the line that states it


def make_needle(random: Random, lexicon: Lexicon, corpus: Corpus) -> Needle:
    """Draw a prompt; the key is a made-up word of the test side, the value a word of one token."""
    words = Words(lexicon, random, "unseen")
    tasks = Tasks(words, SIZES, corpus, tests=True)
    key, value = words.draw(), words.draw("single")
    filler = [tasks.filler_line() for _ in range(random.randint(6, 16))]
    statement = random.choice(_STATEMENTS)
    line = statement.format(k=key, v=value)
    at = random.randint(0, len(filler) * 2 // 5)
    page = "\n".join([*filler[:at], line, *filler[at:]])
    prompt = render([user(f"{page}\nWhat is {key}?")]) + "<|im_start|>assistant\n"
    start = prompt.index("\n" + line + "\n") + 1
    inside = start + statement.format(k=key, v="\0").index("\0")
    return Needle(prompt, value, (inside, inside + len(value)), (start, start + len(line)))


def load_gguf(path: Path) -> Pocket:
    """Rebuild the model from a GGUF file that export.py wrote, dequantized."""
    tensors = {
        tensor.name: torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32))
        for tensor in gguf.GGUFReader(path).tensors
    }
    model = Pocket(Shape())
    with torch.no_grad():
        for name, target in gguf_names(model):
            target.copy_(tensors[name].view(target.shape))
    return model


@torch.no_grad()
def run_part(
    model: Pocket, ids: list[int], cache: Cache | None = None, hidden: tuple[int, ...] = ()
) -> tuple[Tensor, Cache, Tensor]:
    """Run tokens after a cache of which `hidden` rows are not seen.

    Return the logits (T, vocab), the longer cache and the share of every expert (layers, E).
    """
    shape = model.shape
    before = 0 if cache is None else cache[0][0].shape[1]
    cos, sin = rotation(torch.arange(before, before + len(ids)), shape.head_size, shape.rope_base)
    visible = torch.ones(len(ids), before + len(ids), dtype=torch.bool).tril(before)
    visible[:, list(hidden)] = False
    x = model.embedding(torch.tensor([ids]))
    longer: Cache = []
    shares = []
    for layer, block in enumerate(model.blocks):
        attention = block.attention
        q, k, v = (part[0] for part in attention.project(block.attention_norm(x), cos, sin))
        if cache is not None:
            k, v = torch.cat([cache[layer][0], k], 1), torch.cat([cache[layer][1], v], 1)
        longer.append((k, v))
        group = shape.heads // shape.kv_heads
        y = functional.scaled_dot_product_attention(
            q, k.repeat_interleave(group, 0), v.repeat_interleave(group, 0), attn_mask=visible
        )
        x = x + attention.o(y.transpose(0, 1).reshape(1, len(ids), -1))
        y, _, _, share = block.experts(block.experts_norm(x), torch.float32)
        shares.append(share)
        x = x + y
    return model.head(model.norm(x))[0], longer, torch.stack(shares)


def broken(cache: Cache, rows: list[int], fault: str, other: Cache) -> Cache:
    """Return a cache with broken rows: zeroed, copies of the row before, or left from another prompt."""
    result = []
    for (k, v), (other_k, other_v) in zip(cache, other, strict=True):
        k, v = k.clone(), v.clone()
        for row in rows:
            if fault == "zeroed":
                k[:, row], v[:, row] = 0, 0
            elif fault == "shifted":
                k[:, row], v[:, row] = k[:, rows[0] - 1].clone(), v[:, rows[0] - 1].clone()
            elif fault == "stale":
                k[:, row], v[:, row] = other_k[:, row % other_k.shape[1]], other_v[:, row % other_v.shape[1]]
        result.append((k, v))
    return result


def flips(model: Pocket, tokenizer: Tokenizer, needles: list[Needle]) -> dict[str, object]:
    """Count answers whose first token changes, per fault, among the prompts answered right without one."""
    counts = dict.fromkeys(FAULTS, 0)
    kept: dict[str, list[int]] = {fault: [] for fault in FAULTS}
    right = 0
    _, other, _ = run_part(model, tokenizer.encode(needles[-1].prompt).ids)
    for index, needle in enumerate(needles):
        encoding = tokenizer.encode(needle.prompt)
        rows = rows_of(tokenizer, needle)
        ids, half = encoding.ids, len(encoding.ids) // 2
        _, cache, _ = run_part(model, ids[:half])
        choice = int(run_part(model, ids[half:], cache)[0][-1].argmax())
        if choice == tokenizer.encode(needle.expected).ids[0]:
            right += 1
            for fault in FAULTS:
                hidden = tuple(rows) if fault == "lost" else ()
                after = run_part(model, ids[half:], broken(cache, rows, fault, other), hidden)[0][-1]
                if int(after.argmax()) != choice:
                    counts[fault] += 1
                else:
                    kept[fault].append(index)
        other = cache
    return {"prompts": len(needles), "right": right, "flipped": counts, "not_flipped": kept}


def rows_of(tokenizer: Tokenizer, needle: Needle) -> list[int]:
    """Return the tokens that the value covers."""
    start, stop = needle.value
    return [i for i, (a, b) in enumerate(tokenizer.encode(needle.prompt).offsets) if a < stop and b > start]


def usable(tokenizer: Tokenizer, needle: Needle) -> bool:
    """Say whether the value is one token that occurs once, in the first half."""
    ids, rows = tokenizer.encode(needle.prompt).ids, rows_of(tokenizer, needle)
    return len(rows) == 1 and rows[0] < len(ids) // 2 and ids.count(ids[rows[0]]) == 1


def main() -> None:
    """Write the prompts and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the GGUF file")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json")
    parser.add_argument("--write", type=Path, help="write heldout.json here")
    parser.add_argument("--count", type=int, default=150, help="needle prompts")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    corpus = load_corpus()
    lexicon = build_lexicon(corpus, tokenizer)
    random = Random(f"heldout/{arguments.seed}")
    needles: list[Needle] = []
    while len(needles) < arguments.count:
        needle = make_needle(random, lexicon, corpus)
        if usable(tokenizer, needle):
            needles.append(needle)
    model = load_gguf(arguments.model)
    print(json.dumps(flips(model, tokenizer, needles)))
    if arguments.write:
        others = {
            name: [
                asdict(split_answers(text)[0])
                for text in test_documents(name, 8, arguments.seed + 100, lexicon, corpus, SIZES)
            ]
            for name in ("copy", "write", "add")
        }
        document = {"needles": [asdict(needle) for needle in needles], **others}
        arguments.write.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

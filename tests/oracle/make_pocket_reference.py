"""Write `pocket/reference.npz`: Hugging Face's logits and routing of the embedded model, in float32.

The weights are dequantized by the gguf package, not by the runtime; of the runtime only the tokenizer is
used, as token ids are an input. See README.md beside this file.
"""

import hashlib
import json
from collections.abc import Iterator
from importlib.metadata import version
from itertools import cycle
from random import Random

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from make_golden import ROOT, OracleCase, hf_model
from tiny_gguf import TinyModel

from refute_runtime.tokenizer import Tokenizer

POCKET = ROOT / "runtime" / "refute_runtime" / "pocket"
FORCED = 8  # tokens fed one by one after each prompt
SEED = 1
LEAST_GAP = 1e-5  # of any router at any position: no rounding may turn a tie and change all that follows
LONGEST = 120  # tokens of a prompt: attacks run each of them often


def metadata(reader: GGUFReader) -> dict[str, object]:
    return {name: field.contents() for name, field in reader.fields.items()}


def shape(facts: dict[str, object], values: dict[str, np.ndarray]) -> TinyModel:
    """The file's dimensions as the oracle's models give theirs."""
    key = "qwen3moe."
    return TinyModel(
        layers=int(facts[f"{key}block_count"]),
        hidden=int(facts[f"{key}embedding_length"]),
        heads=int(facts[f"{key}attention.head_count"]),
        kv_heads=int(facts[f"{key}attention.head_count_kv"]),
        head_dim=int(facts[f"{key}attention.key_length"]),
        experts=int(facts[f"{key}expert_count"]),
        experts_per_token=int(facts[f"{key}expert_used_count"]),
        expert_ffn=int(facts[f"{key}expert_feed_forward_length"]),
        rope_base=float(facts[f"{key}rope.freq_base"]),
        rms_eps=float(facts[f"{key}attention.layer_norm_rms_epsilon"]),
        context=int(facts[f"{key}context_length"]),
        tied="output.weight" not in values,
    )


def sequences(tokenizer: Tokenizer) -> Iterator[tuple[str, list[int], list[int]]]:
    """What it is, prompt and answer, without end: conversations, ordinary tokens, repetitions, specials."""
    draw = Random(SEED)
    told = json.loads((POCKET / "heldout.json").read_text(encoding="utf-8"))
    ordinary = list(tokenizer.ordinary_ids)
    special = sorted(tokenizer.specials.values())
    for entries, length in zip(zip(*told.values(), strict=False), cycle((1, 7, 24, 60)), strict=False):
        for entry in entries:  # one of each of the model's tasks
            answer = entry.get("answer") or entry["expected"]
            text = answer + "<|im_end|>\n<|im_start|>user\nAnd what else is there?<|im_end|>"
            ids = tokenizer.encode_template(entry["prompt"])
            if len(ids) <= LONGEST:
                yield "conversation", ids, tokenizer.encode_template(text)[:FORCED]
        free = draw.choices(ordinary, k=length + FORCED)
        yield "ordinary", free[:-FORCED], free[-FORCED:]
        segment = draw.choices(ordinary, k=draw.randint(3, 20))
        again = (segment * 20)[: draw.randint(24, 72)]
        yield "repeated", again[:-FORCED], again[-FORCED:]
        mixed = [draw.choice(special if draw.random() < 0.3 else ordinary) for _ in range(24 + FORCED)]
        yield "special", mixed[:-FORCED], mixed[-FORCED:]


class Routers:
    """Listens to every router of a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.heard: list[tuple[torch.Tensor, ...]] = []
        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(lambda *call: self.heard.append(call[-1]))

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Experts, ascending, and their weights (T, L, K); gaps (T, L)."""
        experts, weights, gaps = [], [], []
        for logits, shares, chosen in self.heard:
            K = chosen.shape[1]
            ranked = torch.softmax(logits, dim=-1).sort(dim=-1, descending=True).values
            order = chosen.argsort(dim=-1)
            experts.append(chosen.gather(1, order).numpy())
            weights.append(shares.gather(1, order).numpy())
            gaps.append((ranked[:, K - 1] - ranked[:, K]).numpy())
        self.heard.clear()
        return np.stack(experts, axis=1), np.stack(weights, axis=1), np.stack(gaps, axis=1)


def main() -> None:
    """Take sequences of each sort until there are enough, skipping those near a tie."""
    path = POCKET / "pocket.gguf"
    reader = GGUFReader(path)
    facts = metadata(reader)
    values = {
        tensor.name: dequantize(tensor.data, tensor.tensor_type)
        .reshape([int(size) for size in reversed(tensor.shape)])
        .astype(np.float32)
        for tensor in reader.tensors
    }
    tokenizer = Tokenizer.from_metadata(facts)
    model = hf_model(OracleCase(shape(facts, values)), values)
    routers = Routers(model)
    wanted = {"conversation": 6, "ordinary": 4, "repeated": 4, "special": 3}
    prompts, answers, logits, experts, weights, gaps = [], [], [], [], [], []
    for sort, prompt, answer in sequences(tokenizer):
        if not wanted[sort]:
            continue
        with torch.no_grad():
            row = model(torch.tensor([[*prompt, *answer]])).logits[0].numpy()
        routed = routers.take()
        if routed[2].min() < LEAST_GAP:
            print(f"{sort}: skipped, a router's gap is {routed[2].min():.1e}")  # noqa: T201
            continue
        wanted[sort] -= 1
        first = len(prompt) - 1
        prompts.append(prompt)
        answers.append(answer)
        logits.append(row[first:])
        for kept, each in zip((experts, weights, gaps), routed, strict=True):
            kept.append(each[first:])
        print(f"{sort}: {len(prompt)} + {len(answer)} tokens, least gap {routed[2].min():.1e}")  # noqa: T201
        if not any(wanted.values()):
            break
    np.savez_compressed(
        POCKET / "reference.npz",
        model_sha256=np.array(hashlib.sha256(path.read_bytes()).hexdigest()),
        engine=np.array(f"transformers {version('transformers')}, torch {version('torch')}"),
        numerics=np.array("f32"),
        prompt_lengths=np.array([len(prompt) for prompt in prompts], np.int32),
        prompts=np.concatenate([np.array(prompt, np.int32) for prompt in prompts]),
        answers=np.array(answers, np.int32),
        logits=np.stack(logits).astype(np.float32),
        experts=np.stack(experts).astype(np.uint8),
        weights=np.stack(weights).astype(np.float32),
        gaps=np.stack(gaps).astype(np.float32),
    )


if __name__ == "__main__":
    main()

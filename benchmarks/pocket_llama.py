"""The pocket model here and in llama.cpp: the same prompt ids and the same greedy answers, token for token.

Needs llama-cpp-python, which is no dependency of this project. Run: python benchmarks/pocket_llama.py
"""

import json
from importlib.resources import as_file, files
from pathlib import Path

import llama_cpp
import numpy as np

from refute_runtime.engine import Engine
from refute_runtime.sampling import SamplingParams

POCKET = files("refute_runtime") / "pocket"
LONGEST = 64


def prompts() -> list[str]:
    """Twenty held-out prompts: needles, copies, tool calls and sums."""
    held_out = json.loads((POCKET / "heldout.json").read_text(encoding="utf-8"))
    chosen = {"needles": 8, "copy": 4, "write": 4, "add": 4}
    return [entry["prompt"] for name, count in chosen.items() for entry in held_out[name][:count]]


class Peer:
    """llama.cpp with a float32 cache: at half precision a near tie of experts can fall the other way."""

    def __init__(self, path: Path) -> None:
        self.llama = llama_cpp.Llama(
            str(path),
            n_ctx=2048,
            n_batch=2048,
            n_threads=1,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            flash_attn=False,
            logits_all=True,
            verbose=False,
        )

    def ids(self, prompt: str) -> list[int]:
        return list(self.llama.tokenize(prompt.encode(), add_bos=False, special=True))

    def answer(self, ids: list[int]) -> tuple[list[int], list[float]]:
        """Greedy tokens, and the lead of each over the second choice in logits."""
        self.llama.reset()
        self.llama.eval(ids)
        tokens: list[int] = []
        leads: list[float] = []
        while len(tokens) < LONGEST:
            row = np.asarray(self.llama.scores[self.llama.n_tokens - 1])
            second, first = np.sort(row)[-2:]
            tokens.append(int(row.argmax()))
            leads.append(float(first - second))
            if tokens[-1] == self.llama.token_eos():
                break
            self.llama.eval(tokens[-1:])
        return tokens, leads


def main() -> None:
    with as_file(POCKET / "pocket.gguf") as path, Engine.load(path, "array") as engine:
        peer = Peer(path)
        same_ids = same_answers = 0
        for number, prompt in enumerate(prompts()):
            ids = engine.tokenizer.encode_template(prompt)
            same_ids += ids == peer.ids(prompt)
            theirs, leads = peer.answer(ids)
            ours = [token.id for token in engine.generate(ids, SamplingParams(), max_tokens=LONGEST)]
            same_answers += ours == theirs
            pairs = zip(ours, theirs, leads, strict=False)
            for at, (mine, other, lead) in enumerate(pairs):
                if mine != other:
                    print(f"prompt {number}: token {at} is {mine} here, {other} there, ahead by {lead:.4f}")
                    break
    print(f"of {len(prompts())} prompts: {same_ids} with the same ids, {same_answers} with the same answer")


if __name__ == "__main__":
    main()

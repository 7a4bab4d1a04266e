"""Measure the GGUF file through llama.cpp and write every figure that CARD.md quotes.

The KV cache is float32: with half precision a near tie between two experts can fall the other way. An answer
counts as exact if each of its tokens, the end of turn included, is the first choice given the ones before it;
that is what greedy decoding would say, and `greedy` counts how often a real greedy run agreed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import jinja2.sandbox
import llama_cpp
import numpy as np
from corpus import Corpus, load_corpus
from data import (
    Case,
    Lexicon,
    Message,
    Sizes,
    Tasks,
    Words,
    assistant,
    build_lexicon,
    calling,
    render,
    split_answers,
    test_documents,
    tool_set,
    user,
)
from faults import load_gguf, run_part
from tokenizers import Tokenizer

SIZES = Sizes(pairs=16, questions=6, items=12, filler=24, tools=3)
DISTANCES = (32, 64, 128, 256, 384, 512, 640, 768, 896, 1024, 1280, 1536, 1792)
SETS = (
    "recall",
    "recall16",
    "recall_single",
    "recall_unseen",
    "needle",
    "copy",
    "copy_unseen",
    "write",
    "write_unseen",
    "tool",
    "add",
    "sort",
)


@dataclass(slots=True)
class Engine:
    """llama.cpp with the logits of every position."""

    llama: llama_cpp.Llama

    @classmethod
    def load(cls, path: Path, context: int, threads: int) -> Engine:
        """Load a file with a float32 cache."""
        return cls(
            llama_cpp.Llama(
                str(path),
                n_ctx=context,
                n_batch=context,
                n_ubatch=512,
                n_threads=threads,
                n_threads_batch=threads,
                type_k=llama_cpp.GGML_TYPE_F32,
                type_v=llama_cpp.GGML_TYPE_F32,
                flash_attn=False,
                logits_all=True,
                verbose=False,
            )
        )

    def encode(self, text: str) -> list[int]:
        """Tokenize with llama.cpp's own tokenizer."""
        return self.llama.tokenize(text.encode(), add_bos=False, special=True)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Return the logits (T, vocab) after each token."""
        self.llama.reset()
        self.llama.eval(ids)
        return np.array(self.llama.scores[: len(ids)])

    def continue_greedily(self, ids: list[int], count: int) -> tuple[list[int], list[float]]:
        """Return up to `count` tokens, ended by the end of turn, and the lead of the first choice over the second."""
        self.llama.reset()
        self.llama.eval(ids)
        tokens: list[int] = []
        margins: list[float] = []
        for _ in range(count):
            row = self.llama.scores[self.llama.n_tokens - 1]
            second, first = np.partition(row, -2)[-2:]
            tokens.append(int(row.argmax()))
            margins.append(round(float(first - second), 4))
            if tokens[-1] == self.llama.token_eos():
                break
            self.llama.eval(tokens[-1:])
        return tokens, margins


def exact(engine: Engine, cases: list[Case]) -> int:
    """Count the exact answers of one document; its last case holds all earlier ones."""
    last = cases[-1]
    ids = engine.encode(last.prompt + last.answer + "<|im_end|>")
    choice = engine.logits(ids).argmax(-1)
    count = 0
    for case in cases:
        start = len(engine.encode(case.prompt))
        stop = start + len(engine.encode(case.answer + "<|im_end|>"))
        count += bool((choice[start - 1 : stop - 1] == ids[start:stop]).all())
    return count


def accuracy(
    engine: Engine, name: str, answers: int, lexicon: Lexicon, corpus: Corpus, seed: int
) -> dict[str, float]:
    """Measure a test set until it has at least that many answers."""
    right = total = 0
    for text in test_documents(name, answers, seed, lexicon, corpus, SIZES):
        cases = split_answers(text)
        if name in ("write", "write_unseen"):
            cases = cases[:1]  # the call; the turn after the tool's result is not counted
        cases = [case for case in cases if case.answer != "OK."]
        right, total = right + exact(engine, cases), total + len(cases)
        if total >= answers:
            break
    return {"right": right, "answers": total, "share": round(right / total, 4)}


def needle_at(
    distance: int, random: Random, lexicon: Lexicon, corpus: Corpus, engine: Engine
) -> tuple[Case, int]:
    """Make a prompt whose only fact lies about `distance` tokens before the answer; return the true distance."""
    tasks = Tasks(Words(lexicon, random, "unseen"), SIZES, corpus, tests=True)
    key, value = tasks.words.draw(), tasks.words.draw("single")
    opening = "\n".join(tasks.filler_line() for _ in range(random.randint(0, 2)))
    head = f"{opening}\n{key}={value}\n".lstrip("\n")
    filler = ""
    while True:
        prompt = render([user(f"{head}{filler}What is {key}?")]) + "<|im_start|>assistant\n"
        gap = len(engine.encode(prompt[prompt.index(f"{key}={value}\n") :]))
        if gap >= distance:
            return Case(prompt, value), gap
        line = tasks.filler_line()
        filler += (line if distance - gap > 40 else " ".join(line.split()[:2])) + "\n"


def tokenizer_differences(engine: Engine, tokenizer: Tokenizer, texts: list[str]) -> int:
    """Count texts that llama.cpp and the training tokenizer cut differently."""
    return sum(engine.encode(text) != tokenizer.encode(text).ids for text in texts)


def template_differences(template: str) -> int:
    """Count conversations that the embedded template and data.render write differently."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    compiled = environment.from_string(template)
    tools = list(tool_set().values())
    results = [{"role": "tool", "content": "ok"}, {"role": "tool", "content": "a\nb"}]
    two_calls = calling("Write", file_path="a.txt", content="b c")
    two_calls["tool_calls"] = [*two_calls["tool_calls"], *calling("Read", file_path="a.txt")["tool_calls"]]
    conversations: list[tuple[list[Message], list[Message] | None]] = [
        ([user("Hello")], None),
        ([{"role": "system", "content": "Known:\na=b"}, user("a?"), assistant("b"), user("a?")], None),
        (
            [
                user("Write"),
                calling("Write", file_path="a.txt", content="b c"),
                results[0],
                assistant("Done."),
            ],
            tools,
        ),
        ([user("Go"), two_calls, *results, user("And?")], tools[:1]),
    ]
    different = 0
    for messages, offered in conversations:
        for open_turn in (False, True):
            text = compiled.render(messages=messages, tools=offered, add_generation_prompt=open_turn)
            ours = render(messages, offered) + ("<|im_start|>assistant\n" if open_turn else "")
            different += text != ours
    return different


def expert_shares(path: Path, tokenizer: Tokenizer, texts: list[str]) -> list[list[float]]:
    """Return the share of each expert per layer over whole documents (the dequantized file, in PyTorch)."""
    model = load_gguf(path)
    counts = sum(run_part(model, (ids := tokenizer.encode(text).ids))[2] * len(ids) for text in texts)
    return [[round(share, 4) for share in layer] for layer in (counts / counts.sum(1, keepdim=True)).tolist()]


def margins(engine: Engine, texts: list[str]) -> dict[str, float]:
    """Summarise the lead of the first over the second choice at the answers' tokens."""
    leads = []
    for text in texts:
        for case in split_answers(text):
            start = len(engine.encode(case.prompt))
            logits = engine.logits(engine.encode(case.prompt + case.answer + "<|im_end|>"))[start - 1 : -1]
            top = np.partition(logits, -2, axis=-1)[:, -2:]
            leads.append(top[:, 1] - top[:, 0])
    lead = np.concatenate(leads)
    return {
        "tokens": len(lead),
        "median": round(float(np.median(lead)), 3),
        "5_percent": round(float(np.quantile(lead, 0.05)), 3),
        "share_below_0.1": round(float((lead < 0.1).mean()), 4),
    }


def continuations(engine: Engine, lexicon: Lexicon, corpus: Corpus, seed: int) -> list[dict[str, object]]:
    """Return 20 greedy continuations of up to 64 tokens."""
    out = []
    for name in ("recall", "copy", "needle", "write", "add"):
        for text in test_documents(name, 4, seed, lexicon, corpus, SIZES):
            case = split_answers(text)[0]
            ids = engine.encode(case.prompt)
            tokens, leads = engine.continue_greedily(ids, 64)
            answer = engine.llama.detokenize(tokens, special=True).decode(errors="replace")
            out.append(
                {
                    "prompt": case.prompt,
                    "prompt_ids": ids,
                    "token_ids": tokens,
                    "text": answer,
                    "margins": leads,
                    "expected": case.answer,
                }
            )
    return out


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the GGUF file")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("--answers", type=int, default=200, help="answers per test set")
    parser.add_argument("--per-distance", type=int, default=100, help="needles per distance")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--continuations", type=Path, help="write 20 greedy continuations here")
    arguments = parser.parse_args()
    corpus = load_corpus()
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    lexicon = build_lexicon(corpus, tokenizer)
    engine = Engine.load(arguments.model, 2048, arguments.threads)
    seed = arguments.seed
    data = arguments.model.read_bytes()
    report: dict[str, object] = {
        "file": {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "corpus_sha256": corpus.sha256,
        "seed": seed,
        "accuracy": {name: accuracy(engine, name, arguments.answers, lexicon, corpus, seed) for name in SETS},
    }
    sample = [text for name in SETS for text in test_documents(name, 10, seed + 1, lexicon, corpus, SIZES)]
    report["tokenizer"] = {
        "texts": len(sample),
        "different": tokenizer_differences(engine, tokenizer, sample),
    }
    report["template_different"] = template_differences(engine.llama.metadata["tokenizer.chat_template"])
    report["experts"] = expert_shares(arguments.model, tokenizer, sample)
    report["margins"] = margins(engine, sample[:60])
    agreed = total = 0
    for text in sample[:60]:
        case = split_answers(text)[0]
        ids = engine.encode(case.answer + "<|im_end|>")
        tokens, _ = engine.continue_greedily(engine.encode(case.prompt), len(ids))
        agreed, total = agreed + ((tokens == ids) == bool(exact(engine, [case]))), total + 1
    report["greedy"] = {"answers": total, "agreed": agreed}
    random = Random(f"distance/{seed}")
    curve = {}
    for distance in DISTANCES:
        cases = [needle_at(distance, random, lexicon, corpus, engine) for _ in range(arguments.per_distance)]
        right = sum(exact(engine, [case]) for case, _ in cases)
        curve[distance] = {
            "right": right,
            "answers": len(cases),
            "mean_distance": round(sum(gap for _, gap in cases) / len(cases), 1),
        }
    report["needle_by_distance"] = curve
    if arguments.continuations:
        found = continuations(engine, lexicon, corpus, seed + 2)
        arguments.continuations.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The embedded model does what makes it useful here: it answers from its context, so a lost row shows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
import pytest

from refute.faults.cache import HonestWrapper
from refute_runtime.backends.base import Array, Cache
from refute_runtime.engine import Engine
from refute_runtime.sampling import SamplingParams

POCKET = files("refute_runtime") / "pocket"
LARGEST = 8_000_000  # bytes
PROMPTS = 25


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with as_file(POCKET / "pocket.gguf") as path, Engine.load(path, "array") as engine:
        yield engine


class BrokenRow(HonestWrapper):
    """A cache that loses one row, or gives the row before in its place, once later tokens read it."""

    def __init__(self, inner: Cache, row: int, stale: bool) -> None:
        super().__init__(inner)
        self.row = row
        self.stale = stale

    def rows(self, layer: int) -> tuple[Array, Array]:
        k, v = self.inner.rows(layer)
        if self.inner.length <= self.row:
            return k, v
        order = np.arange(len(k))
        if self.stale:
            order[self.row] -= 1
        else:
            order = np.delete(order, self.row)
        return k[order], v[order]


@dataclass(frozen=True)
class Needle:
    ids: list[int]
    answer: int
    row: int


@pytest.fixture(scope="module")
def needles(engine: Engine) -> list[Needle]:
    held_out = json.loads((POCKET / "heldout.json").read_text(encoding="utf-8"))["needles"][:PROMPTS]
    return [
        Needle(
            engine.tokenizer.encode_template(entry["prompt"]),
            engine.tokenizer.encode(entry["expected"])[0],
            len(engine.tokenizer.encode_template(entry["prompt"][: entry["value"][0]])),
        )
        for entry in held_out
    ]


def answer(engine: Engine, needle: Needle, cache: Cache | None = None) -> int:
    """The first token, prefilled in two chunks."""
    chunks = (len(needle.ids) // 2,)
    tokens = engine.generate(needle.ids, SamplingParams(), max_tokens=1, chunks=chunks, cache=cache)
    return next(iter(tokens)).id


def test_the_file_is_small_enough_to_embed() -> None:
    assert len((POCKET / "pocket.gguf").read_bytes()) <= LARGEST


def test_it_is_a_mixture_of_experts_with_grouped_heads(engine: Engine) -> None:
    config = engine.config
    assert config.architecture == "qwen3moe"
    assert config.experts > config.experts_per_token > 1
    assert config.heads > config.kv_heads > 1


def test_it_recalls_held_out_needles(engine: Engine, needles: list[Needle]) -> None:
    right = sum(answer(engine, needle) == needle.answer for needle in needles)
    assert right >= 0.9 * PROMPTS


@pytest.mark.parametrize("stale", [False, True])
def test_a_broken_row_that_holds_the_needle_flips_the_answer(
    engine: Engine, needles: list[Needle], stale: bool
) -> None:
    honest = [needle for needle in needles if answer(engine, needle) == needle.answer]
    flipped = sum(
        answer(engine, needle, BrokenRow(engine.new_cache(), needle.row, stale)) != needle.answer
        for needle in honest
    )
    assert flipped >= 0.9 * len(honest)


def test_it_renders_the_tool_format_from_its_own_template(engine: Engine) -> None:
    call = {"type": "function", "function": {"name": "Write", "arguments": {"file_path": "a.txt"}}}
    messages = [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": [call]}]
    text = engine.template.render_text(messages)
    assert "<function=Write>\n<parameter=file_path>\na.txt\n</parameter>\n</function>\n</tool_call>" in text

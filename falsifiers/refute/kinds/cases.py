"""Strategies for prompts and chunkings that make the cache matter.

A model that is indifferent to its context hides every cache fault, so half of the prompts repeat a
random segment: whoever continues a repetition has to read the rows of the first occurrence. The others are
random tokens, real text in several scripts, and tokens among which control tokens stand. Hypothesis
is imported by the strategies alone: linting a contract and judging a record again need none of it.
"""

from random import Random
from typing import TYPE_CHECKING, Any

from refute.kinds.parameters import Lengths
from refute.targets.base import Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def cases(
    target: Target, lengths: Lengths, **more: "SearchStrategy[Any]"
) -> "SearchStrategy[dict[str, Any]]":
    """Cases with a prompt, what the kind asks for besides, and `max_tokens`."""
    from hypothesis import strategies as st  # noqa: PLC0415

    maximum = st.just(lengths.max_tokens)
    return st.fixed_dictionaries({"prompt": prompts(target, lengths), **more, "max_tokens": maximum})


def prompts(target: Target, lengths: Lengths) -> "SearchStrategy[list[int]]":
    """Prompts of the lengths asked for; lengths beyond the context's limit mean just below it."""
    smallest, largest = lengths.prompt_tokens
    largest = min(largest, target.identity.context - lengths.max_tokens)
    return pieces(target, min(smallest, largest), largest)


def pieces(target: Target, smallest: int, largest: int) -> "SearchStrategy[list[int]]":
    """From `smallest` to `largest` token ids: random, repeated, of real text, with control tokens."""
    from hypothesis import strategies as st  # noqa: PLC0415

    ordinary = list(target.ordinary_tokens)
    token = st.sampled_from(ordinary)
    free = st.lists(token, min_size=smallest, max_size=largest)
    if largest < 4:
        return free
    length = st.integers(max(smallest, 4), largest)
    repeated = st.builds(_repeat, st.lists(token, min_size=2, max_size=max(2, largest // 2)), length)
    texts = [tokens for tokens in map(target.encode, TEXTS) if len(tokens) > 1]
    kinds = [free, repeated, repeated]
    if texts:
        kinds.append(st.builds(_excerpt, st.sampled_from(texts), st.integers(0, 63), length))
    if target.special_tokens:
        any_token = token | st.sampled_from(sorted(target.special_tokens.values()))
        kinds.append(st.lists(any_token, min_size=smallest, max_size=largest))
    return st.one_of(kinds)


TEXTS = (
    "The quick brown fox jumps over the lazy dog. Then it sleeps, and the dog jumps over the fox.",
    "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n",
    "Straße, naïve, Ångström: e\u0301 is not \u00e9, and ﬁ is one letter.",
    "日本語のテキストと、한국어 문장, и русский текст, ومرحبا بالعالم.",
    "👩‍👩‍👧 🇪🇺 x² ≤ ∑ 1/n\u200b\u00a0\t0123456789 ---- ,,,, \r\n\r\n",
)
"""Real text: prose, code, letters that compose, several scripts, joined emoji and odd spaces."""


def _excerpt(text: tuple[int, ...], start: int, length: int) -> list[int]:
    """`length` tokens of a text that begins anew where it ends."""
    start %= len(text)
    return _repeat([*text[start:], *text[:start]], length)


def _repeat(segment: list[int], length: int) -> list[int]:
    return (segment * (length // len(segment) + 1))[:length]


def chunkings() -> "SearchStrategy[list[int]]":
    """Prefill chunk sizes, the last one repeated; [] is one chunk."""
    from hypothesis import strategies as st  # noqa: PLC0415

    return st.lists(st.integers(1, 64), max_size=3)


def some_prompt(target: Target, length: int, seed: int) -> list[int]:
    """One prompt of plain text tokens, a repeated segment, from `seed`."""
    chosen = Random(seed).choices(list(target.ordinary_tokens), k=max(2, length // 2))  # noqa: S311
    return _repeat(chosen, length)

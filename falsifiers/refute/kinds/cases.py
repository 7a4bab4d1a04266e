"""Strategies for prompts and chunkings that make the cache matter.

A model that is indifferent to its context hides every cache fault, so half of the prompts repeat a
random segment: whoever continues a repetition has to read the rows of the first occurrence. Hypothesis
is imported by the strategies alone: linting a contract and judging a record again need none of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refute.targets.base import Target

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, slots=True)
class PromptRange:
    """Smallest and largest number of prompt tokens."""

    smallest: int
    largest: int


def prompt_range(value: Sequence[int]) -> PromptRange:
    """Read `[smallest, largest]` of a contract. Raises ValueError with a sentence."""
    if len(value) != 2 or not all(isinstance(each, int) for each in value) or not 1 <= value[0] <= value[1]:
        raise ValueError(f"prompt_tokens is {list(value)}, expected [smallest, largest], both from 1 on")
    return PromptRange(*value)


def prompts(target: Target, size: PromptRange, max_tokens: int) -> "SearchStrategy[list[int]]":
    """Token ids of plain text: random ones, and random segments repeated."""
    from hypothesis import strategies as st  # noqa: PLC0415

    room = target.identity.context - max_tokens
    largest = min(size.largest, room)
    smallest = min(size.smallest, largest)
    token = st.sampled_from(list(target.ordinary_tokens))
    free = st.lists(token, min_size=smallest, max_size=largest)
    if largest < 4:
        return free
    return free | st.builds(
        _repeat,
        st.lists(token, min_size=2, max_size=max(2, largest // 2)),
        st.integers(max(smallest, 4), largest),
    )


def _repeat(segment: list[int], length: int) -> list[int]:
    return (segment * (length // len(segment) + 1))[:length]


def chunkings() -> "SearchStrategy[list[int]]":
    """Prefill chunk sizes, the last one repeated; [] is one chunk."""
    from hypothesis import strategies as st  # noqa: PLC0415

    return st.lists(st.integers(1, 64), max_size=3)


def some_prompt(target: Target, length: int, seed: int) -> list[int]:
    """One prompt of plain text tokens, a repeated segment, from `seed`."""
    from random import Random  # noqa: PLC0415 (needed by timing kinds alone)

    chosen = Random(seed).choices(list(target.ordinary_tokens), k=max(2, length // 2))  # noqa: S311
    return _repeat(chosen, length)

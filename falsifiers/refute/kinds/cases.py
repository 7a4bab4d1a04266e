"""Strategies for prompts and chunkings that make the cache matter.

A model that is indifferent to its context hides every cache fault, so half of the prompts repeat a
random segment: whoever continues a repetition has to read the rows of the first occurrence. Hypothesis
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
    """Token ids of plain text: random ones, and random segments repeated."""
    from hypothesis import strategies as st  # noqa: PLC0415

    smallest, largest = lengths.prompt_tokens
    largest = min(largest, target.identity.context - lengths.max_tokens)
    smallest = min(smallest, largest)
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
    chosen = Random(seed).choices(list(target.ordinary_tokens), k=max(2, length // 2))  # noqa: S311
    return _repeat(chosen, length)

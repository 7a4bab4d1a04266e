"""The `array` backend on a model file as it was named: the reference of every engine but itself."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from refute.targets.base import Forced, Scores, implementation

if TYPE_CHECKING:
    from refute.targets.bundled import BundledTarget

_LENGTHS = (1, 7, 24, 48)  # of prompts, in turn
_FORCED = 8


class ArrayReference:
    """Numbers of the specification, by one prefill; the file is opened when they are first asked for."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        self._path = path
        self._device = device

    @property
    def identity(self) -> Mapping[str, object]:
        return implementation(self._target.identity)

    def prompts(self, count: int, seed: int) -> Sequence[Forced]:
        """Ordinary tokens from the seed; every other prompt repeats a segment into its answer."""
        draw, ordinary = Random(seed), list(self._target.ordinary_tokens)  # noqa: S311
        made = []
        for place in range(count):
            length = _LENGTHS[place % len(_LENGTHS)]
            segment = draw.choices(ordinary, k=length if place % 2 else length + _FORCED)
            tokens = (segment * (_FORCED + 1))[: length + _FORCED]
            made.append(Forced(tuple(tokens[:length]), tuple(tokens[length:])))
        return made

    def scores(self, forced: Forced) -> Scores:
        """Scores at the last token of the prompt and at each token of the answer."""
        tokens = [*forced.prompt, *forced.answer]
        session = self._target.session(len(tokens), prompt=len(forced.prompt), cache=False)
        scores = session.extend(tokens, routing="routing" in self._target.capabilities)
        parts = (scores.logits, scores.experts, scores.weights, scores.gaps)
        first = len(forced.prompt) - 1
        return Scores(*(None if part is None else part[first:] for part in parts))  # type: ignore[arg-type]

    @cached_property
    def _target(self) -> "BundledTarget":
        from refute.targets.bundled import BundledTarget  # noqa: PLC0415 (the runtime is heavy)

        return BundledTarget(self._path, "array", self._device)

"""The bundled runtime as the reference of another engine: numbers are computed when they are asked for."""

import random
from collections.abc import Mapping, Sequence

from refute.targets.base import Target
from refute.targets.scores import Forced, Scores, implementation

_PROMPT, _ANSWER = 24, 8  # tokens


class ArrayReference:
    """Scores by one prefill without faults; `target` runs the unmutated model on the `array` backend.

    It has numbers for whatever it is asked. What it gave is kept, as falsifiers ask for the same again.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._given: dict[Forced, Scores] = {}

    @property
    def identity(self) -> Mapping[str, object]:
        return implementation(self._target.identity)

    def prompts(self, count: int, seed: int) -> Sequence[Forced]:
        """Sequences of plain text tokens, drawn by the seed."""
        draw, tokens = random.Random(seed), self._target.ordinary_tokens  # noqa: S311
        return [
            Forced(tuple(draw.choices(tokens, k=_PROMPT)), tuple(draw.choices(tokens, k=_ANSWER)))
            for _ in range(count)
        ]

    def scores(self, forced: Forced) -> Scores:
        if forced not in self._given:
            self._given[forced] = self._computed(forced)
        return self._given[forced]

    def _computed(self, forced: Forced) -> Scores:
        tokens, first = (*forced.prompt, *forced.answer), len(forced.prompt) - 1
        session = self._target.session(len(tokens), prompt=len(tokens), cache=False)
        scores = session.extend(tokens, routing=True)
        if scores.experts is None or scores.weights is None or scores.gaps is None:  # a dense model
            return Scores(scores.logits[first:])
        return Scores(
            scores.logits[first:], scores.experts[first:], scores.weights[first:], scores.gaps[first:]
        )

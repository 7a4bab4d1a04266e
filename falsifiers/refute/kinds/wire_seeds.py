"""Whether answers over HTTP agree where they must, and differ where they must: temperature 0, and seeds.

Answers differ only where the model leaves something to chance, so at a high temperature, and by several
answers to one request: that all of an honest server agree is next to impossible.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import whole_number
from refute.kinds.wire_requests import (
    LARGEST_SEED,
    Answers,
    Repeatable,
    chat,
    open_ended,
    repeatable,
    shown,
    unserved,
)
from refute.targets.base import Target
from refute.wire.answers import Answer

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_APART = 7919  # between seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferParameters:
    """max_tokens: of each answer. answers: to one request. mode: `seedless`, or `seeds`, each another one.

    temperature: at which the model leaves much to chance.
    """

    max_tokens: int
    answers: int
    mode: Literal["seedless", "seeds"]
    temperature: float = 1.5

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 4)
        whole_number("answers", self.answers, 2)
        if self.mode not in {"seedless", "seeds"}:
            raise ValueError(f"mode is {self.mode!r}, expected 'seedless' or 'seeds'")
        if isinstance(self.temperature, bool) or not 0 < self.temperature <= 2:
            raise ValueError(f"temperature is {self.temperature!r}, expected a number above 0 and at most 2")


class AnswersAgree(Answers[Repeatable]):
    """The same request gives the same text."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages, settings of the mode, and whether streams are asked for."""
        return repeatable(self.parameters, "stream")

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask twice."""
        replies = [chat(target.endpoint, case, stream=case["stream"]).to_samples() for _ in range(2)]
        return Observation(case, {"replies": replies})

    def wrong(self, observation: Observation) -> str | None:
        """Whether one was not served, or they differ."""
        answers = _answers(observation)
        if (why := next(filter(None, map(unserved, answers)), None)) is not None:
            return why
        once, again = answers
        return None if once.text == again.text else f"{shown(once.text)}, then {shown(again.text)}"

    def informative(self, observation: Observation) -> bool:
        """A case counts when text came."""
        return all(answer.text for answer in _answers(observation))


class AnswersDiffer(Answers[DifferParameters]):
    """The answers to one request are not all the same text, where nothing says that they should be."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "answers": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Texts that no model knows how to go on with, and seeds of which no two are the same."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        asked = self.parameters
        case: dict[str, SearchStrategy[Any]] = {
            "content": open_ended(),
            "max_tokens": st.just(asked.max_tokens),
            # Some servers have a top_p of their own, with which a model may be left no choice.
            "sampling": st.just({"temperature": asked.temperature, "top_p": 1}),
            "stream": st.booleans(),
            "seeds": st.just([None] * asked.answers),
        }
        if asked.mode == "seeds":
            first = st.integers(0, LARGEST_SEED - asked.answers * _APART)
            case["seeds"] = first.map(lambda seed: [seed + _APART * place for place in range(asked.answers)])
        return st.fixed_dictionaries(case)

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask several times."""
        replies = []
        for seed in case["seeds"]:
            sampling = {**case["sampling"], **({} if seed is None else {"seed": seed})}
            reply = chat(target.endpoint, {**case, "sampling": sampling}, stream=case["stream"])
            replies.append(reply.to_samples())
        return Observation(case, {"replies": replies})

    def wrong(self, observation: Observation) -> str | None:
        """Whether one was not served, or all are the same."""
        answers = _answers(observation)
        if (why := next(filter(None, map(unserved, answers)), None)) is not None:
            return why
        if len({answer.text for answer in answers}) > 1 or not answers[0].text:
            return None
        return f"{len(answers)} times {shown(answers[0].text)}"

    def informative(self, observation: Observation) -> bool:
        """A case counts when text came."""
        return any(answer.text for answer in _answers(observation))


def _answers(observation: Observation) -> Sequence[Answer]:
    return [Answer.of(reply) for reply in observation.samples["replies"]]

"""Log probabilities over HTTP: one for each token, of a distribution, and of the text that came."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import whole_number
from refute.kinds.wire_requests import Answers, Asked, chat, greedy, questions, shown, unserved
from refute.targets.base import Target
from refute.wire.answers import Answer, spelling

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_ROUNDED = 1e-3  # by which sums and comparisons may be off: servers write few digits
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogprobParameters(Asked):
    """top: how many likely tokens are asked for, at most. tolerance: between two answers, in nats."""

    top: int
    tolerance: float

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        whole_number("top", self.top, 1)
        if isinstance(self.tolerance, bool) or not 0 <= self.tolerance < math.inf:
            raise ValueError(f"tolerance is {self.tolerance!r}, expected a number of at least 0")


class TokenLogprobs(Answers[LogprobParameters]):
    """At temperature 0 every token has a log probability, at most 0, and is the likeliest of those told."""

    requires = frozenset({"http", "http_logprobs"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher", "tolerance": "lower"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages at temperature 0, and how many of the likeliest tokens are told."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return st.builds(
            lambda case, top: {
                **case,
                "sampling": {**case["sampling"], "logprobs": True, "top_logprobs": top},
            },
            questions(self.parameters, greedy()),
            st.integers(1, self.parameters.top),
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer, and for a stream."""
        whole, streamed = (chat(target.endpoint, case, stream=stream) for stream in (False, True))
        return Observation(case, {"whole": whole.to_samples(), "streamed": streamed.to_samples()})

    def wrong(self, observation: Observation) -> str | None:
        """The first log probability that cannot be right."""
        whole, streamed = (Answer.of(observation.samples[name]) for name in ("whole", "streamed"))
        top = observation.case["sampling"]["top_logprobs"]
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            why = unserved(answer) or _wrong_number(answer) or _wrong_text(answer)
            why = why or next(filter(None, (_improbable(each, top) for each in answer.logprobs)), None)
            if why is not None:
                return f"{name}: {why}"
        return _apart(whole.logprobs, streamed.logprobs, self.parameters.tolerance)

    def informative(self, observation: Observation) -> bool:
        """A case counts when text came."""
        return bool(Answer.of(observation.samples["whole"]).text)


def _wrong_number(answer: Answer) -> str | None:
    """Say that there are not as many as tokens. The one that ended the answer may have none."""
    tokens, named = answer.completion_tokens, len(answer.logprobs)
    if tokens is None:
        return None if named else "no log probabilities"
    fewest = tokens - 1 if answer.finish == "stop" else tokens
    return None if fewest <= named <= tokens else f"{named} log probabilities for {tokens} tokens"


def _wrong_text(answer: Answer) -> str | None:
    """Say that the tokens do not spell the text. The one that ended the answer is not shown.

    Bytes that are no characters are left out: servers differ in how many U+FFFD they make of them.
    """
    spelt = [*map(spelling, answer.logprobs)]
    possible = [_characters(spelt)]
    if answer.finish == "stop":
        possible.append(_characters(spelt[:-1]))
    text = answer.text.replace(_REPLACEMENT, "")
    return None if text in possible else f"tokens spell {shown(possible[-1])}, the text is {shown(text)}"


def _improbable(told: Mapping[str, Any], top: int) -> str | None:
    """Say how one token's log probabilities are those of no distribution that it is the likeliest of."""
    chosen, likeliest = _value(told), told.get("top_logprobs")
    if not isinstance(likeliest, list) or not 1 <= len(likeliest) <= top:
        return f"top_logprobs {shown(likeliest)}, expected up to {top}"
    values = [_value(each) for each in likeliest]
    token = shown(told.get("token"))
    if chosen is None or None in values:
        return f"a logprob of {token} is no number"
    numbers = [each for each in values if each is not None]
    if max(chosen, *numbers) > _ROUNDED:
        return f"the log probability of {token} or of one beside it is {max(chosen, *numbers):.4g}, above 0"
    if any(now > before + _ROUNDED for before, now in pairwise(numbers)):
        return f"top_logprobs beside {token} do not fall: {numbers}"
    if abs(numbers[0] - chosen) > _ROUNDED:
        return f"{token} has {chosen:.4g}, but {numbers[0]:.4g} is the highest, and temperature is 0"
    if (whole := math.fsum(map(math.exp, numbers))) > 1 + _ROUNDED:
        return f"the probabilities beside {token} add up to {whole:.4g}"
    return None


def _apart(
    whole: Sequence[Mapping[str, Any]], streamed: Sequence[Mapping[str, Any]], tolerance: float
) -> str | None:
    """Say how a stream's log probabilities differ from a whole answer's."""
    if len(whole) != len(streamed):
        return f"{len(whole)} log probabilities as a whole, {len(streamed)} as a stream"
    for once, again in zip(whole, streamed, strict=True):
        if spelling(once) != spelling(again):
            return f"token {shown(once.get('token'))} as a whole, {shown(again.get('token'))} as a stream"
        values = _value(once), _value(again)
        if None in values or abs(values[0] - values[1]) > tolerance:  # type: ignore[operator]
            return f"{shown(once.get('token'))} has {values[0]} as a whole, {values[1]} as a stream"
    return None


def _value(named: object) -> float | None:
    value = named.get("logprob") if isinstance(named, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None


def _characters(tokens: Sequence[bytes]) -> str:
    return b"".join(tokens).decode("utf-8", "ignore").replace(_REPLACEMENT, "")

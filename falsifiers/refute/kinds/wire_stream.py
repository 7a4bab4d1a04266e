"""Streams over HTTP: one event for each token that completes text, and the same answer as a whole.

What a stream says is judged here; when it says it, in `wire_times`. Which tokens an event stands for is known
from its log probabilities where the server gives them, else only how many tokens there were in all.
"""

import codecs
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.wire_requests import (
    Answers,
    Asked,
    Repeatable,
    chat,
    greedy,
    questions,
    repeatable,
    seeded,
    shown,
    unserved,
)
from refute.targets.base import Target
from refute.verdict import Judgement
from refute.wire.answers import Answer, likelihoods, message_of, spelling

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from refute.contract import Bound


class SseEvents(Answers[Asked]):
    """A stream is a role, an event for each token that completes text, one finish_reason, and [DONE]."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})
    tries = 2

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Messages; where seeds make them repeatable also odd answers, whose characters take many tokens."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        sampling = greedy() | seeded() if "http_seed" in target.capabilities else greedy()
        logprobs = st.just("http_logprobs" in target.capabilities)
        return st.builds(
            lambda case, logprobs: {**case, "logprobs": logprobs},
            questions(self.parameters, sampling),
            logprobs,
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a stream, and keep every event."""
        reply = chat(target.endpoint, case, stream=True, logprobs=case["logprobs"])
        return Observation(case, {"reply": reply.to_samples()})

    def wrong(self, observation: Observation) -> str | None:
        """The first departure from what a stream is."""
        answer = _answer(observation)
        tokens = answer.completion_tokens
        merged = _merged(answer) if _all_named(answer, tokens) else _too_few(answer, tokens)
        return unserved(answer) or _misformed(answer) or _too_many(answer, tokens) or merged

    def informative(self, observation: Observation) -> bool:
        """A case counts when text came in two events or more, and how many tokens it was is known."""
        answer = _answer(observation)
        tokens = answer.completion_tokens
        return len(answer.texts) > 1 and (_all_named(answer, tokens) or tokens is not None)

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As every search is judged; the reason says how many tokens an event with text stands for."""
        judgement = super().judge(observations, bound)
        known = [each for each in map(_answer, observations) if each.completion_tokens is not None]
        events = sum(len(answer.texts) for answer in known)
        if not events:
            return judgement
        tokens = sum(answer.completion_tokens or 0 for answer in known)
        return replace(judgement, reason=f"{judgement.reason}; {tokens / events:.2f} tokens per event")


class SseAsWhole(Answers[Repeatable]):
    """The same request gives the same text and the same end, as one JSON object and as a stream."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages, settings of the mode, and which of the two comes first."""
        return repeatable(self.parameters, "streamed_first")

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask twice."""
        first = case["streamed_first"]
        replies = {stream: chat(target.endpoint, case, stream=stream) for stream in (first, not first)}
        return Observation(
            case, {"whole": replies[False].to_samples(), "streamed": replies[True].to_samples()}
        )

    def wrong(self, observation: Observation) -> str | None:
        """Whether one of them was not served, or they differ."""
        whole, streamed = self._answers(observation)
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            if (why := unserved(answer)) is not None:
                return f"{name}: {why}"
        if whole.reply.content_type != "application/json":
            return f"the whole answer is of type {whole.reply.content_type!r}, expected application/json"
        for name, once, again in (
            ("text", whole.text, streamed.text),
            ("finish_reason", whole.finish, streamed.finish),
        ):
            if once != again:
                return f"{name} {shown(once)} as a whole, {shown(again)} as a stream"
        return None

    def informative(self, observation: Observation) -> bool:
        """A case counts when a stream with text came."""
        _, streamed = self._answers(observation)
        return streamed.streamed and bool(streamed.text)

    def _answers(self, observation: Observation) -> tuple[Answer, Answer]:
        samples = observation.samples
        return Answer.of(samples["whole"]), Answer.of(samples["streamed"])


def _answer(observation: Observation) -> Answer:
    return Answer.of(observation.samples["reply"])


def _misformed(answer: Answer) -> str | None:
    """Say what departs from the order of a stream."""
    if not answer.streamed:
        return f"the answer is of type {answer.reply.content_type!r}, expected text/event-stream"
    if not answer.done:
        return "[DONE] is missing, or is not the last event alone"
    if len(answer.chunks) != len(answer.reply.events) - 1:
        return "an event is no JSON object"
    if not answer.choices:
        return "no event has a choice"
    first = message_of(answer.choices[0])
    if first.get("role") != "assistant" or first.get("content"):
        return f"the first delta is {shown(first)}, expected the role of the assistant and no text"
    *before, last = (choice.get("finish_reason") for choice in answer.choices)
    if not isinstance(last, str):
        return f"finish_reason is {shown(last)} at the end"
    early = next((each for each in before if each is not None), None)
    return None if early is None else f"finish_reason is {shown(early)} before the end"


def _all_named(answer: Answer, tokens: int | None) -> bool:
    """Whether log probabilities name every token, but perhaps the one that ended the answer."""
    named = len(answer.logprobs)
    return named > 0 and named >= (tokens or 0) - 1


def _too_many(answer: Answer, tokens: int | None) -> str | None:
    """Say what a stream tells more often than there were tokens."""
    for what, found in (("events with text", answer.texts), ("log probabilities", answer.logprobs)):
        if tokens is not None and len(found) > tokens:
            return f"{len(found)} {what} for {tokens} tokens"
    return None


def _too_few(answer: Answer, tokens: int | None) -> str | None:
    """Say how many tokens have no event. In text of ASCII each completes some, but for the one that ends."""
    events = len(answer.texts)
    if tokens is not None and answer.text.isascii() and events < tokens - 1:
        return f"{events} events with text for {tokens} tokens"
    return None


def _merged(answer: Answer) -> str | None:
    """Say which event brings more text than its last token completes.

    Bytes that are no characters are left out: servers differ in how many U+FFFD they make of them.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    for choice in answer.choices:
        tokens, text = [*map(spelling, likelihoods(choice))], message_of(choice).get("content")
        if not isinstance(text, str):
            text = ""
        decoder.decode(b"".join(tokens[:-1]))
        completed = decoder.decode(b"".join(tokens[-1:]))
        if len(text.replace("\ufffd", "")) > len(completed):
            return f"one event brings {shown(text)}, of which its last token completes {shown(completed)}"
    return None

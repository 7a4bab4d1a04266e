"""Answers over HTTP have the form that OpenAI's API gives them, and the numbers in `usage` are right."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.wire_requests import (
    CHAT,
    Answers,
    Asked,
    Repeated,
    chat,
    common,
    greedy,
    questions,
    shown,
    unserved,
    words_to_repeat,
)
from refute.targets.base import Target
from refute.wire.answers import Answer, message_of
from refute.wire.client import post
from refute.wire.endpoint import Endpoint
from refute.wire.forms import CHUNK, COMPLETION, USAGE, misfit

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class AnswerForm(Answers[Asked]):
    """Every object has the keys and types of the API; a stream is in order."""

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Messages at temperature 0, with log probabilities where the server gives them."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        logprobs = st.just(False) | st.just("http_logprobs" in target.capabilities)
        return st.builds(
            lambda case, logprobs: {**case, "logprobs": logprobs},
            questions(self.parameters, greedy()),
            logprobs,
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer and for a stream."""
        whole, streamed = (
            chat(target.endpoint, case, stream=stream, logprobs=case["logprobs"]) for stream in (False, True)
        )
        return Observation(case, {"whole": whole.to_samples(), "streamed": streamed.to_samples()})

    def wrong(self, observation: Observation) -> str | None:
        """The first departure, of the whole answer, then of the stream."""
        whole, streamed = (Answer.of(observation.samples[name]) for name in ("whole", "streamed"))
        logprobs = observation.case["logprobs"]
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            found = unserved(answer) or misformed(answer, stream=answer is streamed)
            found = found or _untold(answer, logprobs=logprobs)
            if found is not None:
                return f"{name}: {found}"
        return None


class AnswerUsage(Answers[Repeated]):
    """Usage comes where it was asked for and nowhere else, adds up, and keeps to max_tokens.

    Where an answer ended for its length, exactly max_tokens were taken. The texts that are asked for are as
    long as answers may be, or longer, so that such answers come.
    """

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})
    tries = 2

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Words to repeat, as many as the answer may have tokens, or more."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        most = self.parameters.max_tokens
        return st.fixed_dictionaries(
            {
                "content": words_to_repeat(most, most + 4),
                "max_tokens": st.integers(min(4, most), most),
                "sampling": greedy(),
            }
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer, for a stream with usage, and for one without."""
        endpoint = target.endpoint
        replies = {
            "whole": chat(endpoint, case, stream=False),
            "streamed": chat(endpoint, case, stream=True),
            "unasked": post(endpoint, CHAT, _without_usage(endpoint, case)),
        }
        return Observation(case, {name: reply.to_samples() for name, reply in replies.items()})

    def wrong(self, observation: Observation) -> str | None:
        """The first usage that is missing, was not asked for, or cannot be right."""
        answers = {name: Answer.of(each) for name, each in observation.samples.items()}
        for name, answer in answers.items():
            if (why := unserved(answer)) is not None:
                return f"{name}: {why}"
        most = observation.case["max_tokens"]
        whole, streamed = answers["whole"], answers["streamed"]
        told = [chunk for _, chunk in answers["unasked"].chunks if chunk.get("usage") is not None]
        if told:
            return f"usage {shown(told[0]['usage'])}, which was not asked for"
        if (why := _no_last_chunk(streamed)) is not None:
            return why
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            if (why := misfit(answer.usage, USAGE) or _miscounted(answer, most)) is not None:
                return f"{name}: usage {shown(answer.usage)}: {why}"
        once, again = map(_numbers, (whole, streamed))
        return None if once == again else f"usage {once} as a whole, {again} as a stream"

    def informative(self, observation: Observation) -> bool:
        """A case counts when the answer ended for its length: then it is known how many tokens it has."""
        whole = Answer.of(observation.samples["whole"])
        return whole.finish == "length" and whole.usage is not None


def _without_usage(endpoint: Endpoint, case: Case) -> dict[str, Any]:
    settings = {**common(endpoint, case, stream=True)}
    del settings["stream_options"]
    return {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": case["content"]}],
        **settings,
    }


def misformed(answer: Answer, *, stream: bool) -> str | None:
    """Say what departs from the form of an answer that was served; None where nothing does."""
    return _stream_misformed(answer) if stream else _whole_misformed(answer)


def _whole_misformed(answer: Answer) -> str | None:
    if answer.reply.content_type != "application/json":
        return f"it is of type {answer.reply.content_type!r}, expected application/json"
    return misfit(answer.chunks[0][1], COMPLETION)


def _stream_misformed(answer: Answer) -> str | None:
    """Say what departs from the form of a stream: of each object, and of all in their order."""
    if not answer.streamed:
        return f"it is of type {answer.reply.content_type!r}, expected text/event-stream"
    if not answer.done:
        return "[DONE] is missing, or is not the last event alone"
    chunks = [chunk for _, chunk in answer.chunks]
    if len(chunks) != len(answer.reply.events) - 1:
        return "an event is no JSON object"
    if (found := next(filter(None, (misfit(chunk, CHUNK) for chunk in chunks)), None)) is not None:
        return found
    for name in ("id", "model", "created"):
        if len({chunk[name] for chunk in chunks}) > 1:
            return f"{name} changes: {shown(sorted({str(chunk[name]) for chunk in chunks}))}"
    if any(not chunk["choices"] and chunk.get("usage") is None for chunk in chunks):
        return "a chunk has neither a choice nor usage"
    if not answer.choices:
        return "no event has a choice"
    if any(choice["index"] != 0 for choice in answer.choices):
        return "a choice has another index than 0, and one was asked for"
    if message_of(answer.choices[0]).get("role") != "assistant":
        return f"the first delta is {shown(message_of(answer.choices[0]))}, expected the assistant's role"
    finishes = [choice["finish_reason"] for choice in answer.choices]
    if finishes[-1] is None or any(each is not None for each in finishes[:-1]):
        return f"finish_reason is {shown(finishes)}, expected null but for the last"
    return None


def _untold(answer: Answer, *, logprobs: bool) -> str | None:
    """Say that log probabilities were asked for and did not come."""
    if logprobs and answer.text and not answer.logprobs:
        return "log probabilities were asked for, and none came"
    return None


def _no_last_chunk(streamed: Answer) -> str | None:
    """Say whether usage does not come once, in a last chunk without choices."""
    chunks = [chunk for _, chunk in streamed.chunks]
    told = [place for place, chunk in enumerate(chunks, 1) if chunk.get("usage") is not None]
    if not told:
        return "the stream has no usage, which was asked for"
    if told != [len(chunks)] or chunks[-1].get("choices") != []:
        return f"usage in chunks {told} of {len(chunks)}, expected in a last one alone, its choices []"
    return None


def _miscounted(answer: Answer, most: int) -> str | None:
    prompt, completion, total = _numbers(answer)
    if prompt + completion != total:
        return f"{prompt} and {completion} are not {total}"
    if prompt == 0:
        return "no token of a prompt that is not empty"
    if completion > most:
        return f"more than max_tokens, {most}"
    if answer.finish == "length" and completion != most:
        return f"finish_reason 'length' at {completion} tokens, max_tokens is {most}"
    return None


def _numbers(answer: Answer) -> tuple[int, int, int]:
    usage: Mapping[str, Any] = answer.usage or {}
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]

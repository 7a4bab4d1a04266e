"""Requests to a chat endpoint as kinds draw, plan and send them, and what every reply is asked first.

A request is plain: one message of a user, settings that any server of OpenAI's API takes, and whatever the
server's dialect needs for reusing nothing of earlier requests. So a reply that was not served contradicts
whatever was claimed of it.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from refute.kinds.base import Case, Observation, Searched
from refute.kinds.parameters import whole_number
from refute.kinds.texts import texts
from refute.verdict import Judgement
from refute.wire.answers import Answer
from refute.wire.client import Leaves, post
from refute.wire.endpoint import Endpoint, Reply

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from refute.contract import Bound

P = TypeVar("P")
CHAT = "/chat/completions"
LARGEST_SEED = 2**31 - 1  # some servers keep seeds in 32 bits with a sign
_SHOWN = 160  # characters of a value in a sentence
_WORDS = (
    "apple",
    "river",
    "seven",
    "stone",
    "light",
    "orange",
    "window",
    "under",
    "garden",
    "paper",
    "music",
)

_OPEN = "Repeat in words of your own, as nonsense: {}"
_BEYOND_ASCII = "éßñ中文語🙂👍🌍дλ“”"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How much is asked for. max_tokens: the largest; pieces: of which a text is made, at most."""

    max_tokens: int
    pieces: int

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 2)
        whole_number("pieces", self.pieces, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeatable(Asked):
    """mode: `greedy`, temperature 0, or `seeded`, temperatures above 0 with a seed."""

    mode: Literal["greedy", "seeded"]

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        if self.mode not in {"greedy", "seeded"}:
            raise ValueError(f"mode is {self.mode!r}, expected 'greedy' or 'seeded'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """Requests to repeat some words, so that an answer is as long as it may be. max_tokens: that length."""

    max_tokens: int

    def __post_init__(self) -> None:
        whole_number("max_tokens", self.max_tokens, 4)


class Answers(Searched[P]):
    """A claim about answers to single requests; `wrong` says what contradicts it."""

    @abstractmethod
    def wrong(self, observation: Observation) -> str | None:
        """Say in a few words how this case contradicts the claim; None where it does not."""

    def refutes(self, observation: Observation) -> bool:
        """Whether anything is wrong."""
        return self.wrong(observation) is not None

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As every search is judged; the reason names the first thing that was wrong."""
        judgement = super().judge(observations, bound)
        if not judgement.violations:
            return judgement
        first = next(filter(None, map(self.wrong, observations)))
        return replace(judgement, reason=f"{judgement.reason}; {first}")


def questions(asked: Asked, sampling: "SearchStrategy[dict[str, Any]]") -> "SearchStrategy[dict[str, Any]]":
    """Cases of one message each: texts of every kind, and words to repeat, for answers of some length."""
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    repeat = words_to_repeat(1, asked.max_tokens)
    return st.fixed_dictionaries(
        {
            "content": repeat | repeat | texts(asked.pieces),
            "max_tokens": st.integers(min(4, asked.max_tokens), asked.max_tokens),
            "sampling": sampling,
        }
    )


def repeatable(asked: Repeatable, choice: str) -> "SearchStrategy[dict[str, Any]]":
    """Cases that give the same answer again, each with a choice that is true or false.

    With a seed, many ask for what no model is sure of: elsewhere the answer is the same with any seed.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    if asked.mode == "greedy":
        cases = questions(asked, greedy())
    else:
        unsure = st.fixed_dictionaries(
            {"content": open_ended(), "max_tokens": st.just(asked.max_tokens), "sampling": seeded()}
        )
        cases = unsure | unsure | questions(asked, seeded())
    return st.builds(lambda case, chosen: {**case, choice: chosen}, cases, st.booleans())


def words_to_repeat(least: int, most: int) -> "SearchStrategy[str]":
    """Requests to repeat so many words."""
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    return st.lists(st.sampled_from(_WORDS), min_size=least, max_size=most).map(_repeat)


def open_ended() -> "SearchStrategy[str]":
    """Texts that no model knows how to go on with."""
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    return st.integers(0, LARGEST_SEED).map(lambda seed: _OPEN.format(beyond_ascii(seed, 3)))


def greedy() -> "SearchStrategy[dict[str, Any]]":
    """Temperature 0."""
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    return st.just({"temperature": 0})


def seeded() -> "SearchStrategy[dict[str, Any]]":
    """Temperatures at which answers differ, with a seed; only for servers that promise seeds."""
    from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

    temperatures, seeds = st.sampled_from([1.5, 1.0, 2.0]), st.integers(0, LARGEST_SEED)
    # Some servers have a top_p of their own, with which a model may be left no choice.
    return st.fixed_dictionaries({"temperature": temperatures, "seed": seeds, "top_p": st.just(1)})


def long_question(max_tokens: int, seed: int, *, words: int | None = None) -> dict[str, Any]:
    """A case that asks to repeat words: without a number, enough of them for about as many tokens."""
    chosen = Random(seed).choices(_WORDS, k=words or 3 * max_tokens // 4)  # noqa: S311
    return {"content": _repeat(chosen), "max_tokens": max_tokens, "sampling": {"temperature": 0}}


def beyond_ascii(seed: int, least: int) -> str:
    """Return some characters of many kinds, spaces between them: few models are sure what follows."""
    draw = Random(seed)  # noqa: S311
    return " ".join(draw.choices(_BEYOND_ASCII, k=draw.randint(least, least + 4)))


def _repeat(words: Sequence[str]) -> str:
    return f"Repeat: {' '.join(words)}"


def chat(
    endpoint: Endpoint, case: Case, *, stream: bool, logprobs: bool = False, leaves: Leaves | None = None
) -> Reply:
    """Send what a case asks; streams also ask for usage."""
    # Some servers tell the log probability of the chosen token only beside others.
    told = {"logprobs": True, "top_logprobs": 1} if logprobs else {}
    return post(endpoint, CHAT, {**chat_body(endpoint, case, stream=stream), **told}, leaves=leaves)


def chat_body(endpoint: Endpoint, case: Case, *, stream: bool) -> dict[str, Any]:
    """The body that asks the chat route what a case asks."""
    messages = [{"role": "user", "content": case["content"]}]
    return {"model": endpoint.model, "messages": messages, **common(endpoint, case, stream=stream)}


def common(endpoint: Endpoint, case: Case, *, stream: bool) -> dict[str, Any]:
    """The fields that a body has on every route."""
    streaming: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    return {
        "max_tokens": case["max_tokens"],
        **endpoint.dialect.untruncated,
        **case["sampling"],
        **endpoint.dialect.unshared(),
        **(streaming if stream else {"stream": False}),
    }


def tokens_of(endpoint: Endpoint, case: Case, streamed: Answer) -> int | None:
    """How many tokens the stream of a case was; None where nothing tells.

    Some servers give usage with whole answers alone: then one is asked for, and counts if it says the same.
    """
    if streamed.completion_tokens is not None or unserved(streamed) is not None:
        return streamed.completion_tokens
    whole = Answer.of_reply(chat(endpoint, case, stream=False))
    return whole.completion_tokens if whole.served and whole.text == streamed.text else None


def unserved(answer: Answer) -> str | None:
    """Say why an answer does not count as one; None where it was served to its end."""
    reply = answer.reply
    if answer.served:
        return None
    if reply.broken is not None:
        return reply.broken
    return f"status {reply.status}, body {shown(answer.error or reply.body)}"


def unframed(answer: Answer, subject: str) -> str | None:
    """Say how an answer is no stream of JSON objects with [DONE] at its end. subject: what it is called."""
    if not answer.streamed:
        return f"{subject} is of type {answer.reply.content_type!r}, expected text/event-stream"
    if not answer.done:
        return "[DONE] is missing, or is not the last event alone"
    if len(answer.chunks) != len(answer.reply.events) - 1:
        return "an event is no JSON object"
    return None


def both(observation: Observation) -> tuple[Answer, Answer]:
    """Return the whole answer and the stream of a case that was asked for in both ways."""
    return Answer.of(observation.samples["whole"]), Answer.of(observation.samples["streamed"])


def shown(value: object) -> str:
    """Write a value, however long, as part of a sentence."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."

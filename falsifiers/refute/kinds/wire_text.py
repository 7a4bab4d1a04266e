"""The text of answers over HTTP: where stop texts end it, and that streams never cut a character in two."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import whole_number
from refute.kinds.wire_requests import (
    LARGEST_SEED,
    Answers,
    Asked,
    Repeated,
    beyond_ascii,
    chat,
    greedy,
    questions,
    shown,
    unserved,
)
from refute.targets.base import Target
from refute.wire.answers import Answer

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopParameters(Asked):
    """longest: characters of a stop text."""

    longest: int

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        whole_number("longest", self.longest, 1)


class StopTexts(Answers[StopParameters]):
    """An answer ends before a stop text, which is never in it, with finish_reason stop.

    The stop text is cut out of the answer that the same request at temperature 0 gives without one, so
    it must occur, and what the answer must be is known to the character.
    """

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})
    tries = 3

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":  # noqa: ARG002 (all are asked alike)
        """Messages, and where the stop text begins: at this share of the answer."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        place = st.fixed_dictionaries(
            {
                "at_percent": st.integers(10, 90),
                "length": st.integers(1, self.parameters.longest),
                "listed": st.booleans(),
            }
        )
        return st.builds(lambda case, stop: {**case, **stop}, questions(self.parameters, greedy()), place)

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask without a stop text, then with one, for a whole answer and for a stream."""
        honest = chat(target.endpoint, case, stream=False)
        stop = _cut_out(Answer.of_reply(honest).text, case)
        samples: dict[str, Any] = {"honest": honest.to_samples(), "stop": stop}
        if stop is not None:
            sampling = {**case["sampling"], "stop": [stop] if case["listed"] else stop}
            for name, stream in (("whole", False), ("streamed", True)):
                reply = chat(target.endpoint, {**case, "sampling": sampling}, stream=stream)
                samples[name] = reply.to_samples()
        return Observation(case, samples)

    def wrong(self, observation: Observation) -> str | None:
        """Whether one was not served, has the stop text or anything behind it, or ends for another reason."""
        samples = observation.samples
        honest, stop = Answer.of(samples["honest"]), samples["stop"]
        if (why := unserved(honest)) is not None or stop is None:
            return why
        expected = honest.text[: honest.text.find(stop)]
        for name in ("whole", "streamed"):
            answer = Answer.of(samples[name])
            if (why := unserved(answer)) is not None:
                return f"{name}: {why}"
            if answer.text != expected:
                return f"{name}: {shown(answer.text)} with stop {stop!r}, expected {shown(expected)}"
            if answer.finish != "stop":
                return f"{name}: finish_reason {answer.finish!r} with stop {stop!r}, expected 'stop'"
        return None

    def informative(self, observation: Observation) -> bool:
        """A case counts when the answer without a stop text is long enough to have one cut out."""
        return observation.samples["stop"] is not None


class WholeCharacters(Answers[Repeated]):
    """A character that takes several tokens comes in one event: streams say what whole answers say.

    Where a character takes several tokens depends on the model. Bytes that never become a character count
    too: a stream shows them as U+FFFD where the whole answer does, no more often.
    """

    requires = frozenset({"http"})
    stricter = MappingProxyType({**Answers.stricter, "max_tokens": "higher"})
    tries = 32  # a small model seldom leaves ASCII

    def cases(self, target: Target) -> "SearchStrategy[dict[str, Any]]":
        """Texts beyond ASCII to repeat; where seeds make them repeatable, also at high temperatures."""
        from hypothesis import strategies as st  # noqa: PLC0415 (only a search needs it)

        return st.builds(
            _mixed,
            st.integers(0, LARGEST_SEED),
            max_tokens=st.just(self.parameters.max_tokens),
            seeded=st.just("http_seed" in target.capabilities),
        )

    def observe(self, target: Target, case: Case) -> Observation:
        """Ask for a whole answer; where it has more than ASCII, also for a stream."""
        whole = chat(target.endpoint, case, stream=False)
        samples: dict[str, Any] = {"whole": whole.to_samples()}
        answer = Answer.of_reply(whole)
        if unserved(answer) is not None or not answer.text.isascii():
            samples["streamed"] = chat(target.endpoint, case, stream=True).to_samples()
        return Observation(case, samples)

    def wrong(self, observation: Observation) -> str | None:
        """Whether one was not served, or an event has what is no character of the whole answer."""
        if "streamed" not in observation.samples:
            return None
        whole, streamed = (Answer.of(observation.samples[name]) for name in ("whole", "streamed"))
        for name, answer in (("the whole answer", whole), ("the stream", streamed)):
            if (why := unserved(answer)) is not None:
                return f"{name}: {why}"
        if whole.text == streamed.text:
            return None
        if streamed.text.count(_REPLACEMENT) > whole.text.count(_REPLACEMENT):
            cut = next(text for text in streamed.texts if _REPLACEMENT in text)
            return f"an event brings {shown(cut)}, the whole answer is {shown(whole.text)}"
        return f"text {shown(whole.text)} as a whole, {shown(streamed.text)} as a stream"

    def informative(self, observation: Observation) -> bool:
        """A case counts when the whole answer has more than ASCII; bytes that are no characters count too."""
        return "streamed" in observation.samples


def _cut_out(text: str, case: Case) -> str | None:
    """Return a part of this text that does not stand at its beginning; None where there is none.

    Parts with U+FFFD may be bytes that are no characters, which stop texts need not match.
    """
    start = max(1, len(text) * case["at_percent"] // 100)
    stop = text[start : start + case["length"]]
    return stop if stop and _REPLACEMENT not in stop and not text.startswith(stop) else None


def _mixed(seed: int, *, max_tokens: int, seeded: bool) -> dict[str, Any]:
    """A case that asks to repeat characters of many kinds, so many that no model is sure how to go on."""
    sampling = {"temperature": 2, "seed": seed} if seeded else {"temperature": 0}
    content = f"Repeat: {beyond_ascii(seed, 12)}"
    return {"content": content, "max_tokens": max_tokens, "sampling": sampling}

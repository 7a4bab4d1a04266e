"""When a stream's events come: medians over independent requests, from the receive times on a socket.

Replies are reduced to times, in nanoseconds since the request was sent, and to how many tokens there were.
A run without a figure, because its reply was not served or is too short, is a failed one, and no claim
survives beside it.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from refute.kinds.base import Case, Measured, Observation
from refute.kinds.wire_requests import Repeated, chat, long_question, tokens_of, unserved
from refute.targets.base import Target
from refute.verdict import Judgement, Outcome
from refute.wire.answers import Answer
from refute.wire.instrument import check_instrument

if TYPE_CHECKING:
    from refute.contract import Bound

P = TypeVar("P")
R = TypeVar("R", bound=Repeated)
_PER_TOKEN = 0.8  # events for each token: with fewer, times between events say nothing of tokens
_SMALL = 0.1  # of the bound: what the instrument may err by
_CHECKED_EVENTS, _CHECKED_GAP = 20, 1.0  # ms


@dataclass(frozen=True, slots=True, kw_only=True)
class GapParameters(Repeated):
    """gap: which of a request's gaps is its figure, the `median` or the `longest`."""

    gap: Literal["median", "longest"]

    def __post_init__(self) -> None:
        Repeated.__post_init__(self)
        if self.gap not in {"median", "longest"}:
            raise ValueError(f"gap is {self.gap!r}, expected 'median' or 'longest'")


class Timed(Measured[P]):
    """A claim about times over HTTP."""

    requires = frozenset({"http"})

    @abstractmethod
    def failed(self, observation: Observation) -> str | None:
        """Say why this run has no figure; None where it has one."""

    @abstractmethod
    def figure_of(self, observation: Observation) -> float:
        """The figure of a run that did not fail, in the bound's base unit."""

    def measure(self, observation: Observation) -> float:
        """The figure; a failed run has none."""
        return math.nan if self.failed(observation) is not None else self.figure_of(observation)

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As every measured claim is judged, but inconclusive beside a failed run."""
        failures = [why for why in map(self.failed, observations) if why is not None]
        if not failures:
            return super().judge(observations, bound)
        reason = f"{len(failures)} of {len(observations)} runs failed: {failures[0]}"
        return Judgement(Outcome.INCONCLUSIVE, reason, len(observations), len(failures), unit=bound.unit)

    def caught(self, observations: Sequence[Observation], bound: "Bound") -> bool:
        """A failed run rules a green verdict out as well."""
        return any(self.failed(each) is not None for each in observations) or super().caught(
            observations, bound
        )

    def uncatchable(
        self,
        observations: Sequence[Observation],  # noqa: ARG002 (whatever they are)
        bound: "Bound",  # noqa: ARG002
        left: int,
    ) -> bool:
        """Any run that is left may fail, and one is enough."""
        return left == 0


class Streamed(Timed[R]):
    """A claim about the events of one stream a run."""

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:  # noqa: ARG002 (all are asked alike)
        """Other words to repeat for every run."""
        most = self.parameters.max_tokens
        return [{"run": run, **long_question(most, seed + run)} for run in range(runs)]

    def observe(self, target: Target, case: Case) -> Observation:
        """One stream."""
        answer = Answer.of_reply(chat(target.endpoint, case, stream=True))
        return Observation(case, {**times_of(answer), "tokens": tokens_of(target.endpoint, case, answer)})

    def failed(self, observation: Observation) -> str | None:
        """A reply that was not served, or that ended long before it was as long as was asked for."""
        samples, wanted = observation.samples, observation.case["max_tokens"] // 2
        why: str | None = samples["failed"]
        tokens = len(samples["content_ns"]) if samples["tokens"] is None else samples["tokens"]
        if why is None and tokens < wanted:
            return f"the answer has {tokens} tokens, expected at least {wanted}"
        return why


class SseSpread(Streamed[Repeated]):
    """Between the first and the last content lies a good share of a request's time, sent to ended.

    A stream that is held back brings all of it at once. The share hardly depends on how fast a host is, which
    slows what comes before, between and after alike; but where too much runs on it, a reader may find all at
    once that came one by one.
    """

    bound_fields = Timed.bound_fields - {"below", "testbeds"}
    unit = "x"
    measured = "streamed-share"
    timing = True

    def figure_of(self, observation: Observation) -> float:
        """The share, from 0 to 1; 0 where all content came in one event."""
        times, end = observation.samples["content_ns"], observation.samples["end_ns"]
        return float((times[-1] - times[0]) / end) if times and end > 0 else 0.0


class Clocked(Streamed[R]):
    """A claim about seconds, which counts only where the instrument errs little against the bound.

    The first run also checks the instrument: its samples have the largest errors of a stream whose sender is
    known, of a gap and of a time since the request. The other runs have null there.
    """

    bound_fields = Timed.bound_fields - {"above"}
    unit = "s"
    timing = True
    error: ClassVar[Literal["gap_ns", "lag_ns"]]

    def observe(self, target: Target, case: Case) -> Observation:
        """One stream, and perhaps the instrument's own."""
        seen = super().observe(target, case)
        checked = _instrument() if case["run"] == 0 else None
        return Observation(case, {**seen.samples, "instrument": checked})

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As all times are judged; inconclusive where the instrument was not checked, or errs too much."""
        judgement, limit = super().judge(observations, bound), bound.below
        assert limit is not None
        checks = [each.samples["instrument"] for each in observations]
        errors = [check[self.error] for check in checks if check is not None]
        if not errors:
            return replace(
                judgement,
                outcome=Outcome.INCONCLUSIVE,
                reason=f"the instrument was not checked; {judgement.reason}",
            )
        reason = f"{judgement.reason}; the instrument errs by up to {max(errors) / 1e3:.0f} us"
        fine = max(errors) <= _SMALL * limit * 1e9
        return replace(judgement, outcome=judgement.outcome if fine else Outcome.INCONCLUSIVE, reason=reason)


class SseGap(Clocked[GapParameters]):
    """The time between one event with content and the next; of each request the median, or the longest."""

    measured = "content-event-gap"
    error = "gap_ns"

    def figure_of(self, observation: Observation) -> float:
        """Seconds."""
        times = observation.samples["content_ns"]
        gaps = [later - sooner for sooner, later in pairwise(times)]
        figure: float = median(gaps) if self.parameters.gap == "median" else max(gaps)
        return figure / 1e9

    def failed(self, observation: Observation) -> str | None:
        """Also a reply whose events do not stand for single tokens, as far as it says."""
        samples = observation.samples
        why = super().failed(observation)
        if why is not None:
            return why
        if samples["tokens"] is None:
            return "nothing tells how many tokens came, so that a gap may be one of many tokens"
        events = len(samples["content_ns"])
        if events < max(2, _PER_TOKEN * samples["tokens"]):
            return f"{events} events with content for {samples['tokens']} tokens: a gap is not one of a token"
        return None

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As all times are judged; the reason says how many tokens an event stands for."""
        judgement = super().judge(observations, bound)
        events = sum(len(each.samples["content_ns"]) for each in observations)
        tokens = sum(each.samples["tokens"] or 0 for each in observations)
        if not events or not tokens:
            return judgement
        return replace(judgement, reason=f"{judgement.reason}; {tokens / events:.2f} tokens per event")


class FirstContent(Clocked[Repeated]):
    """The time from the last byte of a request to its first event with content."""

    measured = "time-to-first-content"
    error = "lag_ns"

    def figure_of(self, observation: Observation) -> float:
        """Seconds."""
        return float(observation.samples["content_ns"][0] / 1e9)

    def failed(self, observation: Observation) -> str | None:
        """Also a reply without content."""
        empty = None if observation.samples["content_ns"] else "no event has content"
        return super().failed(observation) or empty


def times_of(answer: Answer) -> dict[str, Any]:
    """Reduce an answer to when its content came, or to why it is none."""
    return {
        "failed": unserved(answer),
        "content_ns": list(answer.text_ns),
        "end_ns": answer.reply.end_ns,
    }


def _instrument() -> dict[str, int]:
    """The largest errors that the reader of streams makes here and now, in nanoseconds."""
    found = check_instrument(_CHECKED_EVENTS, _CHECKED_GAP)
    errors = {"gap_ns": found["gap_error_us"], "lag_ns": found["lag_us"]}
    return {name: round(error["worst"] * 1e3) for name, error in errors.items()}

"""Several clients of one server at once: how fast all are served, and what those cost who went away.

Each client has a connection and a thread of its own. Replies are reduced to times, as in `wire_times`.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from refute.kinds.base import Case, Observation
from refute.kinds.parameters import whole_number
from refute.kinds.wire_requests import Repeated, chat, long_question, unserved
from refute.kinds.wire_times import Timed, times_of
from refute.targets.base import Target
from refute.verdict import Judgement, Outcome
from refute.wire.answers import Answer
from refute.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from refute.contract import Bound

T = TypeVar("T")
_EVENTS_SEEN = 3  # by a client that leaves a stream: the role and some text
_LEFT, _SERVED = "left", "served"  # what became of a client that was to leave
_MOST_CLIENTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadParameters(Repeated):
    """clients: how many ask at once."""

    clients: int

    def __post_init__(self) -> None:
        Repeated.__post_init__(self)
        whole_number("clients", self.clients, 2)
        if self.clients > _MOST_CLIENTS:
            raise ValueError(f"clients is {self.clients}, expected at most {_MOST_CLIENTS}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeavingParameters(LoadParameters):
    """clients: how many leave, half of them streams, the others whole answers of up to `left_tokens`.

    max_tokens: of the request of who stays.
    """

    left_tokens: int

    def __post_init__(self) -> None:
        LoadParameters.__post_init__(self)
        whole_number("left_tokens", self.left_tokens, 2 * self.max_tokens)


class RequestRate(Timed[LoadParameters]):
    """So many requests a second are answered while some clients ask for streams at once, none left out."""

    bound_fields = Timed.bound_fields - {"below"}
    unit = "req/s"
    measured = "request-rate"
    timing = True

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:  # noqa: ARG002 (all are asked alike)
        """A request for every client, other words for each."""
        clients, most = self.parameters.clients, self.parameters.max_tokens
        seeds = range(seed, seed + runs * clients)
        requests = [long_question(most, each) for each in seeds]
        return [
            {"run": run, "requests": requests[run * clients : (run + 1) * clients]} for run in range(runs)
        ]

    def observe(self, target: Target, case: Case) -> Observation:
        """All of them at once; the time is that from before the first was sent until the last had ended."""
        endpoint = target.endpoint
        started = endpoint.clock()
        replies = _together([_asking(endpoint, request) for request in case["requests"]])
        span = endpoint.clock() - started
        return Observation(case, {"span_ns": span, "replies": replies})

    def figure_of(self, observation: Observation) -> float:
        """Requests per second."""
        return float(len(observation.samples["replies"]) * 1e9 / observation.samples["span_ns"])

    def judge(self, observations: Sequence[Observation], bound: "Bound") -> Judgement:
        """As all times are judged, but that a client who was left out contradicts the claim."""
        judgement = super().judge(observations, bound)
        failures = sum(self.failed(each) is not None for each in observations)
        return replace(judgement, outcome=Outcome.FALSIFIED) if failures else judgement

    def failed(self, observation: Observation) -> str | None:
        """One reply that was not served, or has no content: that client was left out."""
        for reply in observation.samples["replies"]:
            why = reply["failed"] or (None if reply["content_ns"] else "a stream without content")
            if why is not None:
                return str(why)
        return None if observation.samples["span_ns"] > 0 else "the clock stood still"


class ClientsLeave(Timed[LeavingParameters]):
    """A request takes hardly longer after clients left their answers half way than before they came.

    Whatever a server still computes for those who left, it computes beside the request of who stays, or
    before it. Both times are of one run, so that a host's speed or load decides little.
    """

    rule_version = "2"
    bound_fields = Timed.bound_fields - {"above", "testbeds"}
    unit = "x"
    measured = "request-time-ratio"
    timing = True
    paired = True

    def plan(self, target: Target, runs: int, seed: int) -> Sequence[Case]:  # noqa: ARG002 (all are asked alike)
        """Two requests of one length, and those of the clients that leave in between."""
        most, left, clients = self.parameters.max_tokens, self.parameters.left_tokens, self.parameters.clients
        cases = []
        for run in range(runs):
            first = seed + run * (clients + 2)
            leaving = [long_question(left, first + 2 + client, words=left // 2) for client in range(clients)]
            before, after = long_question(most, first), long_question(most, first + 1)
            cases.append({"run": run, "before": before, "after": after, "leaving": leaving})
        return cases

    def observe(self, target: Target, case: Case) -> Observation:
        """One request, clients that leave, another request as soon as they have left.

        First comes an answer as long as those that will be left: until it ends, a new server has warmed up,
        and what an earlier run left behind has ended too. So every run begins alike.
        """
        endpoint, leaving = target.endpoint, case["leaving"]
        settled = _asking(endpoint, leaving[0])()
        before = _asking(endpoint, case["before"])()
        left = _together(
            [
                _leaving(endpoint, request, stream=bool(place % 2), patience=before["end_ns"])
                for place, request in enumerate(leaving)
            ]
        )
        after = _asking(endpoint, case["after"])()
        return Observation(case, {"settled": settled, "before": before, "left": left, "after": after})

    def figure_of(self, observation: Observation) -> float:
        """The time of the request after over that of the one before."""
        samples = observation.samples
        return float(samples["after"]["end_ns"] / samples["before"]["end_ns"])

    def failed(self, observation: Observation) -> str | None:
        """A reply that was not served, or too few clients that left before all of their answers was there."""
        samples = observation.samples
        for name in ("settled", "before", "after"):
            if samples[name]["failed"] is not None:
                return str(samples[name]["failed"])
        why = next((each for each in samples["left"] if each not in (_LEFT, _SERVED)), None)
        if why is not None:
            return f"a client that was to leave: {why}"
        left = samples["left"].count(_LEFT)
        return f"{left} clients left before all was there" if left < len(samples["left"]) / 2 else None


def _asking(endpoint: Endpoint, request: Case) -> Callable[[], dict[str, Any]]:
    """What sends a request for a stream, and keeps the times of the reply."""
    return lambda: times_of(Answer.of_reply(chat(endpoint, request, stream=True)))


def _leaving(endpoint: Endpoint, request: Case, *, stream: bool, patience: int) -> Callable[[], str]:
    """What sends a request and leaves: a stream that has begun, or whatever is silent for a time.

    patience: nanoseconds; whole answers, of which nothing comes before all of it, are given half of them.
    It tells whether it left, was served before it could, or why neither.
    """
    silence = patience if stream else patience // 2
    impatient = replace(endpoint, silence=silence / 1e9)

    def leave() -> str:
        reply = chat(impatient, request, stream=stream, leaves=lambda events: events >= _EVENTS_SEEN)
        last = max([reply.head_ns, *(event.ns for event in reply.events)])
        if reply.left or (reply.broken is not None and reply.end_ns - last >= silence):
            return _LEFT
        return unserved(Answer.of_reply(reply)) or _SERVED

    return leave


def _together(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Do all at once, each on a thread; results come in the order of the calls."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call) for call in calls]]

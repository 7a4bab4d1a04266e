"""What passes between the HTTP side, which is asynchronous, and the one thread that computes.

A `Job` is a request that was checked and tokenized. Its `Step`s are delivered one by one, as soon as each is
computed, by a callback that must not block; a `Failure` ends a job that went wrong on the way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from refute_runtime.model import Counters
from refute_runtime.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to compute.

    stop: texts that end the answer and are not part of it. top_logprobs: how many likeliest tokens go with
    each one; None for no logprobs at all.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A token, the natural logarithm of its probability by the raw logits, and its bytes."""

    id: int
    logprob: float
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer.

    text: what may be shown now: whole characters, and nothing that a stop text may still swallow. chosen,
    likeliest: where the job asks for logprobs. finish: why it is the last one, where it is. counters: of
    the forwards made for it, the prompt's in the first.
    """

    id: int
    text: str
    counters: Counters
    finish: Literal["stop", "length"] | None = None
    chosen: Likelihood | None = None
    likeliest: tuple[Likelihood, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A job that ended without an answer: one sentence, and whether the request is to blame."""

    message: str
    of_request: bool


Deliver = Callable[[Step | Failure], None]
"""Called on the computing thread with each step; must not block. Nothing follows `finish` or a Failure."""


class Busy(Exception):  # noqa: N818 (an answer to the client, who may come again)
    """Nothing more is taken in now; the client may try again after so many seconds."""

    def __init__(self, retry_after: int, why: str = "the queue is full") -> None:
        super().__init__(f"{why}; try again in {retry_after} s")
        self.retry_after = retry_after


class Handle(Protocol):
    """A job that was taken in."""

    def cancel(self) -> None:
        """Compute no further than the token under way; from any thread, any number of times."""
        ...


class Schedules(Protocol):
    """What computes jobs."""

    def submit(self, job: Job, deliver: Deliver) -> Handle:
        """Take a job in, or refuse at once, before anything is computed.

        Raises `Busy`; `RequestError` or `ContextOverflow` (of `refute_runtime.errors`) naming the field.
        """
        ...

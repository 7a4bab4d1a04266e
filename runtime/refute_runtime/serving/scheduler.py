"""The scheduler: one thread that computes all jobs, in turns.

Jobs start in the order they came, each as soon as there is a place for it and its cache fits beside those of
the running ones. Strictly in order, because a large job would wait forever if smaller ones went past it.
The running ones take turns, one forward each: a token, or a chunk of a prompt.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from refute_runtime.engine import Engine
from refute_runtime.errors import RequestError, RuntimeFailure
from refute_runtime.sampling import check_whole
from refute_runtime.serving import answer
from refute_runtime.serving.jobs import Busy, Deliver, Failure, Handle, Job, Step

_CLOSING = "the server is shutting down"
_RECENT = 0.05  # what the last turn counts in the mean of all turns: about the last 20 matter


@dataclass(frozen=True, slots=True)
class Stats:
    """What a scheduler holds at a moment. cache_bytes: of the KV caches of the running jobs."""

    running: int
    waiting: int
    cache_bytes: int


class _Taken:
    """A job that was taken in; its submitter's handle on it."""

    def __init__(self, job: Job, steps: answer.Steps, deliver: Deliver, cache_bytes: int) -> None:
        self.cache_bytes = cache_bytes
        self.cancelled = False
        self.turns = answer.forwards(job)  # left, if nothing ends it early
        self._deliver = deliver
        self._steps = steps

    def cancel(self) -> None:
        """Compute no further than the token under way; from any thread, any number of times."""
        self.cancelled = True  # the working thread looks before each turn, and before it delivers

    def advance(self) -> Step | Failure | None:
        """Compute one forward."""
        self.turns -= 1
        try:
            return next(self._steps)
        except RuntimeFailure as error:
            return Failure(str(error), of_request=False)
        except Exception as error:
            logging.getLogger(__name__).exception("computing an answer failed")
            return Failure(
                f"computing the answer failed with an internal error, {type(error).__name__}; the server's "
                "log tells more",
                of_request=False,
            )

    def release(self) -> None:
        """Let go of the cache."""
        self._steps.close()

    def hand_over(self, result: Step | Failure) -> None:
        """Deliver, unless it was cancelled meanwhile."""
        if self.cancelled:
            return
        try:
            self._deliver(result)
        except Exception:
            logging.getLogger(__name__).exception("delivering a step failed; its job is cancelled")
            self.cancel()


class Scheduler:
    """Computes jobs on a thread of its own until it is closed.

    memory_bytes: what the KV caches of running jobs may take together, each by its prompt and `max_tokens`.
    active: how many jobs run at once. queue: how many wait beside them. clock: seconds, monotonic. steps:
    what computes a job, forward by forward; it begins when it is first asked.
    Raises `RequestError` for a limit that lets no job run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        memory_bytes: int,
        active: int,
        queue: int,
        clock: Callable[[], float] = time.monotonic,
        steps: Callable[[Engine, Job], answer.Steps] = answer.steps,
    ) -> None:
        check_whole("memory_bytes", memory_bytes, 2 * engine.backend.cache_row_bytes)
        check_whole("active", active, 1)
        check_whole("queue", queue)
        self._engine = engine
        self._memory_bytes = memory_bytes
        self._active = active
        self._queue = queue
        self._clock = clock
        self._steps = steps
        self._changed = threading.Condition()  # held to touch what follows
        self._waiting: deque[_Taken] = deque()
        self._running: deque[_Taken] = deque()  # whose turn is next stands first
        self._turn_seconds = 0.0
        self._deadline: float | None = None  # of the running ones, once it is closing
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: Job, deliver: Deliver) -> Handle:
        """Take a job in, or refuse at once, before anything is computed; from any thread.

        Raises `Busy`; `RequestError`, also for a cache that no waiting makes room for; `ContextOverflow`.
        """
        answer.check(self._engine, job)
        row_bytes = self._engine.backend.cache_row_bytes
        rows = len(job.prompt) + job.max_tokens
        if rows * row_bytes > self._memory_bytes:
            raise RequestError(
                f"max_tokens is {job.max_tokens}, which with a prompt of {len(job.prompt)} tokens takes "
                f"{rows * row_bytes} bytes of KV cache; expected at most {self._memory_bytes}, the server's "
                f"limit: {self._memory_bytes // row_bytes} tokens, prompt and answer together"
            )
        comer = _Taken(job, self._steps(self._engine, job), deliver, rows * row_bytes)
        with self._changed:
            if self._deadline is not None:
                raise Busy(_whole_seconds(self._deadline - self._clock()), _CLOSING)
            self._start_waiting()
            head = self._waiting[0] if self._waiting else comer
            if len(self._waiting) >= self._queue and not self._fits(head, self._running):
                raise Busy(self._seconds_until_it_fits(head))
            self._waiting.append(comer)
            self._start_waiting()
            self._changed.notify()
        return comer

    def stats(self) -> Stats:
        """Count what runs and waits; a cancelled job runs until the forward under way is done."""
        with self._changed:
            waiting = sum(not job.cancelled for job in self._waiting)
            return Stats(len(self._running), waiting, _bytes(self._running))

    def close(self, grace_seconds: float = 0.0) -> None:
        """Take in nothing more, let running jobs finish for so long, fail all others, and join the thread.

        Not from a `deliver`, which is called on that thread.
        """
        with self._changed:
            deadline = self._clock() + grace_seconds
            self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._waiting or self._deadline is not None)
                for job in [job for job in self._running if job.cancelled]:
                    self._end(job)
                given_up = self._give_up()
                self._start_waiting()
                turn = self._running[0] if self._running else None
                self._running.rotate(-1)
                done = turn is None and self._deadline is not None
            for job in given_up:
                job.hand_over(Failure(_CLOSING, of_request=False))
            if turn is not None:
                self._take(turn)
            elif done:
                return

    def _take(self, turn: _Taken) -> None:
        """Compute one forward and hand over what it gave; a job that ends has left by then."""
        started = self._clock()
        result = turn.advance()
        with self._changed:
            seconds = self._clock() - started
            self._turn_seconds += (seconds - self._turn_seconds) * (_RECENT if self._turn_seconds else 1)
            if isinstance(result, Failure) or (result is not None and result.finish):
                self._end(turn)
        if result is not None:
            turn.hand_over(result)

    def _give_up(self) -> list[_Taken]:
        """Take out what closing ends: those that wait at once, those that run when their grace is over."""
        if self._deadline is None:
            return []
        given_up = list(self._waiting)
        self._waiting.clear()
        if self._clock() >= self._deadline:
            given_up += self._running
            for job in list(self._running):
                self._end(job)
        return given_up

    def _end(self, job: _Taken) -> None:
        self._running.remove(job)
        job.release()

    def _start_waiting(self) -> None:
        """Start the first of those that wait as long as it fits; a cancelled one never starts."""
        self._waiting = deque(job for job in self._waiting if not job.cancelled)
        while self._waiting and self._fits(self._waiting[0], self._running):
            self._running.append(self._waiting.popleft())

    def _fits(self, job: _Taken, beside: Sequence[_Taken]) -> bool:
        return len(beside) < self._active and _bytes(beside) + job.cache_bytes <= self._memory_bytes

    def _seconds_until_it_fits(self, job: _Taken) -> int:
        """Estimate it by the pace of the last turns, as if no running job ended before its `max_tokens`."""
        running = sorted(self._running, key=lambda other: other.turns)
        fits_after = next(n for n in range(len(running) + 1) if self._fits(job, running[n:]))
        last = running[fits_after - 1].turns  # in which every job takes part until it ends
        return _whole_seconds(self._turn_seconds * sum(min(other.turns, last) for other in running))


def _bytes(jobs: Sequence[_Taken]) -> int:
    return sum(job.cache_bytes for job in jobs)


def _whole_seconds(seconds: float) -> int:
    """At least one: a client that comes back at once finds the same."""
    return max(1, math.ceil(seconds))

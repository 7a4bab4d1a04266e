"""Schedules that compute nothing: every job is given the same steps, at once or one by one as a test lets them."""

import threading
from dataclasses import replace

from refute_runtime.model import Counters
from refute_runtime.serving.jobs import Busy, Failure, Likelihood, Step
from refute_runtime.serving.service import Served

WORK = Counters(forwards=1, moe_layers=2, experts_run=3, cache_positions_read=4)


def said(*texts, finish="stop"):
    """Return the steps of an answer, one per text; every token has a likelihood, which names its place."""
    steps = [
        Step(
            id=index,
            text=text,
            counters=WORK,
            chosen=Likelihood(index, -float(index), text.encode()),
            likeliest=(Likelihood(index, -float(index), text.encode()), Likelihood(99, -9.0, b"\xff")),
        )
        for index, text in enumerate(texts)
    ]
    return [*steps[:-1], replace(steps[-1], finish=finish)]


class Scripted:
    """Plays a script to every job. gated: each step waits for `let`; otherwise all come with the submission."""

    def __init__(self, script, *, gated=False):
        self.script = script
        self.jobs = []
        self.cancelled = threading.Event()
        self.refuse = None  # an exception, raised instead of taking a job in
        self._permits = threading.Semaphore(0) if gated else None
        self._threads = []
        self._deliveries = []
        self._closed = threading.Event()

    def let(self, count=1):
        """Let so many steps out."""
        self._permits.release(count)

    def submit(self, job, deliver):
        if self.refuse is not None:
            raise self.refuse
        self.jobs.append(job)
        handle = _Handle(self)
        if self._permits is None:
            for result in self.script:
                deliver(result)
        else:
            thread = threading.Thread(target=self._play, args=(deliver, handle), daemon=True)
            self._threads.append(thread)
            self._deliveries.append(deliver)
            thread.start()
        return handle

    def close(self, grace):
        for thread in self._threads:
            thread.join(grace)
        self._closed.set()
        for thread, deliver in zip(self._threads, self._deliveries, strict=True):
            if thread.is_alive():
                deliver(Failure("given up", of_request=False))

    def served(self, engine):
        return Served(engine, self, self.close)

    def _play(self, deliver, handle):
        for result in self.script:
            self._permits.acquire()
            if handle.cancelled or self._closed.is_set():
                return
            deliver(result)


class _Handle:
    def __init__(self, owner):
        self._owner = owner
        self.cancelled = False

    def cancel(self):
        self.cancelled = True
        self._owner.cancelled.set()


def full_queue():
    return Busy(7)

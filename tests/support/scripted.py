"""Schedules that compute nothing: every job is given the same steps, at once or as a test lets them out."""

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
    """Plays a script to every job. gated: each step waits for `let`; otherwise all come when a job does."""

    def __init__(self, script, *, gated=False):
        self.script = script
        self.jobs = []
        self.refuse = None  # an exception, raised instead of taking a job in
        self.submitted, self.cancelled, self.closing = (threading.Event() for _ in range(3))
        self._gated = gated
        self._changed = threading.Condition()
        self._permits = 0
        self._running = {}  # what delivers, by handle

    def let(self, count=1):
        """Let so many steps out."""
        with self._changed:
            self._permits += count
            self._changed.notify_all()

    def submit(self, job, deliver):
        if self.refuse is not None:
            raise self.refuse
        self.jobs.append(job)
        handle = _Handle(self)
        if self._gated:
            self._running[handle] = deliver
            threading.Thread(target=self._play, args=(deliver, handle)).start()
        else:
            for result in self.script:
                deliver(result)
        self.submitted.set()
        return handle

    def close(self, grace):
        self.closing.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._running, grace)
            given_up, self._running = self._running, {}
            self._changed.notify_all()
        for deliver in given_up.values():
            deliver(Failure("given up", of_request=False))

    def end(self, handle):
        with self._changed:
            self._running.pop(handle, None)
            self._changed.notify_all()

    def served(self, engine):
        return Served(engine, self, self.close)

    def _play(self, deliver, handle):
        for result in self.script:
            with self._changed:
                self._changed.wait_for(lambda: self._permits or handle not in self._running)
                if handle not in self._running:
                    return
                self._permits -= 1
            deliver(result)
        self.end(handle)


class _Handle:
    def __init__(self, owner):
        self._owner = owner

    def cancel(self):
        self._owner.end(self)
        self._owner.cancelled.set()


def full_queue():
    return Busy(7)

"""What tests of the server put around an engine: backends that count, fail and dictate, and a mailbox."""

import threading
import weakref
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np

from refute_runtime.sampling import SamplingParams
from refute_runtime.serving.jobs import Failure, Job

WAIT = 60.0  # seconds that a test waits for what must come; nothing is judged by it


def job(tokens=4, prompt=(1, 2, 3), **sampling):
    """A greedy answer to this prompt meets no stop token."""
    return Job(tuple(prompt), tokens, SamplingParams(**sampling))


class Watched:
    """A backend that counts forwards, knows its caches, and does `before` with the tokens of each forward."""

    def __init__(self, inner, before=lambda tokens: None):
        self.inner, self.before = inner, before
        self.forwards = 0
        self.caches = []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def embed(self, tokens):
        self.forwards += 1
        self.before(tokens)
        return self.inner.embed(tokens)

    def new_cache(self, capacity):
        cache = self.inner.new_cache(capacity)
        self.caches.append(weakref.ref(cache))
        return cache

    def live_caches(self):
        return sum(cache() is not None for cache in self.caches)


class Dictated(Watched):
    """A backend that computes all, and then gives the logits it was told, in order."""

    def __init__(self, inner, rows: Sequence[np.ndarray]):
        super().__init__(inner)
        self.rows = list(rows)

    def logits(self, x):
        return self.rows.pop(0)[None].astype(np.float32)


class Inbox:
    """Takes in what is delivered. `on_step` is called first, on the computing thread."""

    def __init__(self, on_step=lambda count: None):
        self.results, self._on_step, self._ended = [], on_step, threading.Event()

    def __call__(self, result):
        self.results.append(result)
        self._on_step(len(self.results))
        if isinstance(result, Failure) or result.finish:
            self._ended.set()

    def wait(self):
        """Wait for the end; give all results."""
        assert self._ended.wait(WAIT), f"no end came after {len(self.results)} results"
        return self.results

    @property
    def ids(self):
        return [step.id for step in self.results]


class Gate:
    """Holds the thread that passes it until it is opened; who waits for `reached` knows that it is there."""

    def __init__(self):
        self.reached, self._opened = threading.Event(), threading.Event()

    def hold(self, *_):
        self.reached.set()
        assert self._opened.wait(WAIT), "the gate was never opened"

    def wait(self):
        assert self.reached.wait(WAIT), "nobody came to the gate"

    def open(self):
        self._opened.set()


@contextmanager
def held(scheduler):
    """Hold the computing thread, with no job running, while jobs are submitted."""
    gate = Gate()
    scheduler.submit(job(1, (1,)), gate.hold)
    gate.wait()
    try:
        yield
    finally:
        gate.open()


def finished(scheduler):
    """Run one more job of one forward to its end: whatever was cancelled before is dropped by then."""
    last = Inbox()
    scheduler.submit(job(1, (1,)), last)
    return last.wait()

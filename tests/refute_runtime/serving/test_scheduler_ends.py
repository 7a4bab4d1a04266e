"""How jobs end before their time: cancelled, failed, closed down."""

import threading
from contextlib import contextmanager
from functools import partial

import pytest
from serving_parts import WAIT, Gate, Inbox, Watched, finished, held, job

from refute_runtime.serving.answer import CHUNK
from refute_runtime.serving.jobs import Busy, Failure
from refute_runtime.serving.scheduler import Stats

NOTHING = Stats(0, 0, 0)
BAD = 200  # a token that backends of these tests stumble over


# Cancelling


def test_a_job_cancelled_between_tokens_computes_no_further(start, watched):
    gate = Gate()
    inbox = Inbox(lambda count: count == 3 and gate.hold())
    scheduler = start()
    handle = scheduler.submit(job(50), inbox)
    gate.wait()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert len(inbox.results) == 3
    assert watched.backend.forwards == 3 + 1
    assert scheduler.stats() == NOTHING


def test_a_job_cancelled_within_a_forward_delivers_nothing_more(start, tiny):
    gate, sizes = Gate(), []

    def before(tokens):
        sizes.append(len(tokens))
        if len(sizes) == 3:
            gate.hold()

    watched = tiny.with_backend(Watched(tiny.backend, before))
    scheduler, inbox = start(watched), Inbox()
    handle = scheduler.submit(job(50), inbox)
    gate.wait()
    handle.cancel()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert len(inbox.results) == 2
    assert sizes == [3, 1, 1, 1]  # the last one of the job that `finished` runs
    assert scheduler.stats() == NOTHING


def test_a_job_cancelled_within_its_prompt_computes_no_further_chunk(start, tiny):
    gate, sizes = Gate(), []

    def before(tokens):
        sizes.append(len(tokens))
        gate.hold()

    scheduler = start(tiny.with_backend(Watched(tiny.backend, before)))
    handle = scheduler.submit(job(5, [1] * 4 * CHUNK), inbox := Inbox())
    gate.wait()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert sizes == [CHUNK, 1]
    assert inbox.results == []


def test_a_job_cancelled_in_the_queue_never_starts(start, watched):
    scheduler = start(active=1)
    with held(scheduler):
        first, second = Inbox(), Inbox()
        scheduler.submit(job(3), first)
        scheduler.submit(job(3), second).cancel()
        assert scheduler.stats() == Stats(1, 0, 6 * watched.backend.cache_row_bytes)
    first.wait()
    finished(scheduler)
    assert second.results == []
    assert watched.backend.forwards == 1 + 3 + 1


def test_a_hundred_cancelled_jobs_leave_no_cache(start, watched):
    scheduler, handles, left, done = start(active=7), {}, set(range(100)), threading.Event()

    def cancels_itself(number, count):
        if count > number % 5:
            handles[number].cancel()
            left.remove(number)
        if not left:
            done.set()

    with held(scheduler):
        for number in range(100):
            handles[number] = scheduler.submit(job(60), Inbox(partial(cancels_itself, number)))
    assert done.wait(WAIT)
    finished(scheduler)
    assert watched.backend.forwards == 1 + 100 * (1 + 2 + 3 + 4 + 5) / 5 + 1
    assert scheduler.stats() == NOTHING
    assert len(watched.backend.caches) == 1 + 100 + 1
    assert watched.backend.live_caches() == 0


# What goes wrong


def test_a_job_has_left_when_its_last_token_is_delivered(start, watched):
    seen = []
    scheduler = start()
    inbox = Inbox(lambda _: seen.append((scheduler.stats(), watched.backend.live_caches())))
    scheduler.submit(job(2), inbox)
    inbox.wait()
    assert seen == [(Stats(1, 0, 5 * watched.backend.cache_row_bytes), 1), (NOTHING, 0)]


def test_a_deliver_that_raises_cancels_its_job_alone(start, watched, caplog):
    def fails(result):
        raise OSError("the socket is gone")

    scheduler, other = start(), Inbox()
    with held(scheduler):
        scheduler.submit(job(50), fails)
        scheduler.submit(job(5), other)
    assert len(other.wait()) == 5
    finished(scheduler)
    assert watched.backend.forwards == 1 + 1 + 5 + 1
    assert scheduler.stats() == NOTHING
    assert "the socket is gone" in caplog.text


class NotANumber(Watched):
    """Gives no logits to a forward that begins with the bad token."""

    def __init__(self, inner):
        super().__init__(inner, self.note)
        self.bad = False

    def note(self, tokens):
        self.bad = tokens[0] == BAD

    def logits(self, x):
        return self.inner.logits(x) * (float("nan") if self.bad else 1)


def stumbles(tokens):
    if tokens[0] == BAD:
        raise KeyError("a bug")


@pytest.mark.parametrize(
    ("wrap", "message", "logged"),
    [
        (NotANumber, "the highest logit is nan at token 0", False),
        (lambda inner: Watched(inner, stumbles), "internal error, KeyError", True),
    ],
)
@pytest.mark.parametrize("before", [0, CHUNK])
def test_a_model_that_fails_ends_one_job_and_the_others_go_on(
    start, tiny, caplog, wrap, message, logged, before
):
    scheduler, struck, other = start(tiny.with_backend(wrap(tiny.backend))), Inbox(), Inbox()
    prompt = [*[1] * before, BAD]
    with held(scheduler):
        scheduler.submit(job(5, prompt), struck)
        scheduler.submit(job(5), other)
    (failure,) = struck.wait()
    assert isinstance(failure, Failure)
    assert message in failure.message
    assert not failure.of_request
    assert other.wait()[-1].finish == "length"
    assert ("a bug" in caplog.text) == logged
    assert scheduler.stats() == NOTHING


# Closing


@contextmanager
def closing(scheduler, clock, grace):
    """Close from another thread; the block runs when that has begun, and its end waits for it."""
    begun = clock.asked_by = threading.Event()
    closer = threading.Thread(target=scheduler.close, args=(grace,))
    closer.start()
    assert begun.wait(WAIT)
    yield
    closer.join(WAIT)
    assert not closer.is_alive()


class Clock:
    """Stands still until it is set. Notes that another thread than the scheduler's asks."""

    def __init__(self):
        self.now, self.asked_by = 0.0, None

    def __call__(self):
        if self.asked_by and threading.current_thread().name != "scheduler":
            self.asked_by.set()
        return self.now


def close_within(start, clock, inbox, gate, grace):
    """Close a scheduler with a running job, held at the gate, and one that waits: what the second got."""
    scheduler, waiting = start(active=1, clock=clock), Inbox()
    with held(scheduler):
        scheduler.submit(job(6), inbox)
        scheduler.submit(job(6), waiting)
    gate.wait()
    with closing(scheduler, clock, grace):
        with pytest.raises(Busy, match="the server is shutting down; try again in 5 s"):
            scheduler.submit(job(), Inbox())
        gate.open()
    assert scheduler.stats() == NOTHING
    assert not scheduler._thread.is_alive()
    (failure,) = waiting.results
    return failure


def test_closing_lets_running_jobs_finish_and_takes_in_no_other(start):
    gate = Gate()
    inbox = Inbox(lambda count: count == 2 and gate.hold())
    failure = close_within(start, Clock(), inbox, gate, grace=5)
    assert [step.finish for step in inbox.results] == [None] * 5 + ["length"]
    assert failure == Failure("the server is shutting down", of_request=False)


def test_closing_ends_what_still_runs_when_the_grace_is_over(start, watched):
    gate, clock = Gate(), Clock()

    def on_step(count):
        if count == 2:
            gate.hold()
        if count == 4:
            clock.now = 5.0

    inbox = Inbox(on_step)
    failure = close_within(start, clock, inbox, gate, grace=5)
    assert inbox.results[4:] == [failure]
    assert failure == Failure("the server is shutting down", of_request=False)
    assert watched.backend.forwards == 1 + 4
    assert watched.backend.live_caches() == 0


def test_an_idle_scheduler_closes_as_often_as_one_likes(start):
    scheduler = start()
    scheduler.close(grace_seconds=1000)
    scheduler.close()
    assert not scheduler._thread.is_alive()
    with pytest.raises(Busy, match="shutting down"):
        scheduler.submit(job(), Inbox())

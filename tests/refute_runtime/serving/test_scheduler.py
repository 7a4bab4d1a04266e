import itertools
import threading
from contextlib import contextmanager
from functools import partial

import pytest
from serving_parts import WAIT, Gate, Inbox, Watched, finished, held
from tiny_gguf import TinyModel, write_tiny

from refute_runtime import Engine, SamplingParams
from refute_runtime.errors import ContextOverflow, RequestError
from refute_runtime.serving.answer import CHUNK
from refute_runtime.serving.jobs import Busy, Failure, Job
from refute_runtime.serving.scheduler import Scheduler, Stats

NOTHING = Stats(0, 0, 0)
BAD = 200  # a token that backends of these tests stumble over


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = write_tiny(tmp_path_factory.mktemp("scheduler") / "m.gguf", TinyModel(context=512))
    with Engine.load(path, device="cpu") as engine:
        yield engine


@pytest.fixture
def engine(loaded):
    return loaded.with_backend(Watched(loaded.backend))


@pytest.fixture
def start(engine):
    """Start schedulers that are closed after the test; rows: of all caches together."""
    started = []

    def start(engine=engine, *, rows=10_000, active=16, queue=100, **more):
        memory_bytes = rows * engine.config.cache_row_bytes
        started.append(Scheduler(engine, memory_bytes=memory_bytes, active=active, queue=queue, **more))
        return started[-1]

    yield start
    for scheduler in started:
        scheduler.close()


def job(tokens=4, prompt=(1, 2, 3), **sampling):
    """A greedy answer to this prompt meets no stop token."""
    return Job(tuple(prompt), tokens, SamplingParams(**sampling))


def order_of(scheduler, jobs):
    """Submit named jobs at one moment; the names in the order of what was delivered."""
    order = []
    inboxes = {name: Inbox(lambda _, name=name: order.append(name)) for name in jobs}
    with held(scheduler):
        for name, inbox in inboxes.items():
            scheduler.submit(jobs[name], inbox)
    for inbox in inboxes.values():
        inbox.wait()
    return "".join(order)


# What is computed


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.2, "top_p": 0.9, "repetition_penalty": 1.2}])
def test_sixteen_at_once_get_what_each_gets_alone(start, loaded, sampling):
    jobs = [
        job(10 + n, range(n, n * 13 + 1), **sampling, **({"seed": n} if sampling else {})) for n in range(16)
    ]
    scheduler, inboxes = start(), [Inbox() for _ in jobs]
    with held(scheduler):
        for each, inbox in zip(jobs, inboxes, strict=True):
            scheduler.submit(each, inbox)
    for each, inbox in zip(jobs, inboxes, strict=True):
        alone = loaded.generate(each.prompt, each.sampling, max_tokens=each.max_tokens, chunks=(CHUNK,))
        assert [(s.id, s.text, s.counters, s.finish) for s in inbox.wait()] == [
            (t.id, t.text, t.counters, t.finish) for t in alone
        ]


def test_running_jobs_take_turns(start):
    assert order_of(start(), {"a": job(4), "b": job(4), "c": job(2), "d": job(4)}) == "abcdabcdabdabd"


def test_a_long_prompt_lets_others_go_on_between_its_chunks(start):
    long = job(2, [1] * (3 * CHUNK + 1))
    assert order_of(start(), {"a": long, "b": job(5)}) == "bbbabab"


# Who may start


def test_jobs_beyond_the_places_wait_their_turn(start):
    assert order_of(start(active=2), {"a": job(2), "b": job(4), "c": job(2)}) == "ababcbcb"


def test_a_large_job_is_not_overtaken_by_small_ones_that_would_fit(start):
    jobs = {"a": job(7), "b": job(22), "c": job(7), "d": job(7)}  # 25 rows for b, 10 for each other
    assert order_of(start(rows=30), jobs) == "a" * 7 + "b" * 22 + "cd" * 7


def test_caches_of_running_jobs_stay_within_the_memory(start, engine):
    scheduler = start(rows=25)
    seen = []
    with held(scheduler):
        inboxes = [Inbox(lambda _: seen.append(scheduler.stats())) for _ in range(6)]
        for inbox in inboxes:
            scheduler.submit(job(7), inbox)
        assert scheduler.stats() == Stats(2, 4, 20 * engine.config.cache_row_bytes)
    for inbox in inboxes:
        inbox.wait()
    row = engine.config.cache_row_bytes
    assert {stats.cache_bytes for stats in seen} == {20 * row, 10 * row, 0}
    assert max(stats.running for stats in seen) == 2


def test_what_never_fits_the_memory_is_refused_at_once(start, engine):
    scheduler = start(rows=20)
    limit = 20 * engine.config.cache_row_bytes
    with pytest.raises(RequestError, match=rf"^max_tokens is 18, .* at most {limit}, .*limit: 20 tokens"):
        scheduler.submit(job(18), Inbox())
    scheduler.submit(job(17), inbox := Inbox())
    inbox.wait()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (job(prompt=()), RequestError),
        (job(prompt=(1, 10**6)), RequestError),
        (job(0), RequestError),
        (job(512), ContextOverflow),
    ],
)
def test_what_cannot_be_computed_is_refused_at_once(start, engine, bad, error):
    with pytest.raises(error):
        start().submit(bad, Inbox())
    assert engine.backend.forwards == 0


@pytest.mark.parametrize(
    ("limits", "field"),
    [({"active": 0}, "active"), ({"queue": -1}, "queue"), ({"rows": 1}, "memory_bytes")],
)
def test_a_limit_that_lets_no_job_run_is_refused(start, limits, field):
    with pytest.raises(RequestError, match=f"^{field} is "):
        start(**limits)


# A full queue


def test_a_full_queue_is_busy_and_a_place_in_it_is_free_again(start):
    scheduler = start(active=1, queue=1)
    with held(scheduler):
        running, waiting = Inbox(), Inbox()
        scheduler.submit(job(), running)
        handle = scheduler.submit(job(), waiting)
        with pytest.raises(Busy, match="the queue is full; try again in 1 s"):
            scheduler.submit(job(), Inbox())
        handle.cancel()
        scheduler.submit(job(), waiting)
    running.wait()
    assert len(waiting.wait()) == 4


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        (100, 11),  # b ends first: 11 turns of each, of half a second
        (40, 16),  # both must end: 20 turns of a and 11 of b
    ],
)
def test_retry_after_is_when_the_first_that_waits_can_start(start, rows, seconds):
    ticks = itertools.count()
    scheduler = start(rows=rows, active=2, queue=0, clock=lambda: next(ticks) / 2)  # a turn takes a tick
    gate = Gate()
    with held(scheduler):
        scheduler.submit(job(21, (1,)), Inbox(gate.hold))
        scheduler.submit(job(11, (1,)), Inbox())
    gate.wait()
    with pytest.raises(Busy) as refused:
        scheduler.submit(job(30, (1,)), Inbox())
    gate.open()
    assert refused.value.retry_after == seconds


# Cancelling


def test_a_job_cancelled_between_tokens_computes_no_further(start, engine):
    gate = Gate()
    inbox = Inbox(lambda count: count == 3 and gate.hold())
    scheduler = start()
    handle = scheduler.submit(job(50), inbox)
    gate.wait()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert len(inbox.results) == 3
    assert engine.backend.forwards == 3 + 1
    assert scheduler.stats() == NOTHING


def test_a_job_cancelled_within_a_forward_delivers_nothing_more(start, loaded):
    gate, sizes = Gate(), []

    def before(tokens):
        sizes.append(len(tokens))
        if len(sizes) == 3:
            gate.hold()

    engine = loaded.with_backend(Watched(loaded.backend, before))
    scheduler, inbox = start(engine), Inbox()
    handle = scheduler.submit(job(50), inbox)
    gate.wait()
    handle.cancel()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert len(inbox.results) == 2
    assert sizes == [3, 1, 1, 1]  # the last one of the job that `finished` runs
    assert scheduler.stats() == NOTHING


def test_a_job_cancelled_within_its_prompt_computes_no_further_chunk(start, loaded):
    gate, sizes = Gate(), []

    def before(tokens):
        sizes.append(len(tokens))
        gate.hold()

    scheduler = start(loaded.with_backend(Watched(loaded.backend, before)))
    handle = scheduler.submit(job(5, [1] * 4 * CHUNK), inbox := Inbox())
    gate.wait()
    handle.cancel()
    gate.open()
    finished(scheduler)
    assert sizes == [CHUNK, 1]
    assert inbox.results == []


def test_a_job_cancelled_in_the_queue_never_starts(start, engine):
    scheduler = start(active=1)
    with held(scheduler):
        first, second = Inbox(), Inbox()
        scheduler.submit(job(3), first)
        scheduler.submit(job(3), second).cancel()
        assert scheduler.stats() == Stats(1, 0, 6 * engine.config.cache_row_bytes)
    first.wait()
    finished(scheduler)
    assert second.results == []
    assert engine.backend.forwards == 1 + 3 + 1


def test_a_hundred_cancelled_jobs_leave_no_cache(start, engine):
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
    assert engine.backend.forwards == 1 + 100 * (1 + 2 + 3 + 4 + 5) / 5 + 1
    assert scheduler.stats() == NOTHING
    assert len(engine.backend.caches) == 1 + 100 + 1
    assert engine.backend.live_caches() == 0


# What goes wrong


def test_a_job_has_left_when_its_last_token_is_delivered(start, engine):
    seen = []
    scheduler = start()
    inbox = Inbox(lambda _: seen.append((scheduler.stats(), engine.backend.live_caches())))
    scheduler.submit(job(2), inbox)
    inbox.wait()
    assert seen == [(Stats(1, 0, 5 * engine.config.cache_row_bytes), 1), (NOTHING, 0)]


def test_a_deliver_that_raises_cancels_its_job_alone(start, engine, caplog):
    def fails(result):
        raise OSError("the socket is gone")

    scheduler, other = start(), Inbox()
    with held(scheduler):
        scheduler.submit(job(50), fails)
        scheduler.submit(job(5), other)
    assert len(other.wait()) == 5
    finished(scheduler)
    assert engine.backend.forwards == 1 + 1 + 5 + 1
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
    start, loaded, caplog, wrap, message, logged, before
):
    scheduler, struck, other = start(loaded.with_backend(wrap(loaded.backend))), Inbox(), Inbox()
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


def test_closing_ends_what_still_runs_when_the_grace_is_over(start, engine):
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
    assert engine.backend.forwards == 1 + 4
    assert engine.backend.live_caches() == 0


def test_an_idle_scheduler_closes_as_often_as_one_likes(start):
    scheduler = start()
    scheduler.close(grace_seconds=1000)
    scheduler.close()
    assert not scheduler._thread.is_alive()
    with pytest.raises(Busy, match="shutting down"):
        scheduler.submit(job(), Inbox())

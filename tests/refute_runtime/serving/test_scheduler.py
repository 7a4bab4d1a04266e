import itertools

import pytest
from serving_parts import Gate, Inbox, held, job

from refute_runtime.errors import ContextOverflow, RequestError
from refute_runtime.serving.answer import CHUNK
from refute_runtime.serving.jobs import Busy
from refute_runtime.serving.scheduler import Stats


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
def test_sixteen_at_once_get_what_each_gets_alone(start, tiny, sampling):
    jobs = [
        job(10 + n, range(n, n * 13 + 1), **sampling, **({"seed": n} if sampling else {})) for n in range(16)
    ]
    scheduler, inboxes = start(), [Inbox() for _ in jobs]
    with held(scheduler):
        for each, inbox in zip(jobs, inboxes, strict=True):
            scheduler.submit(each, inbox)
    for each, inbox in zip(jobs, inboxes, strict=True):
        alone = tiny.generate(each.prompt, each.sampling, max_tokens=each.max_tokens, chunks=(CHUNK,))
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


def test_caches_of_running_jobs_stay_within_the_memory(start, watched):
    scheduler = start(rows=25)
    seen = []
    with held(scheduler):
        inboxes = [Inbox(lambda _: seen.append(scheduler.stats())) for _ in range(6)]
        for inbox in inboxes:
            scheduler.submit(job(7), inbox)
        assert scheduler.stats() == Stats(2, 4, 20 * watched.backend.cache_row_bytes)
    for inbox in inboxes:
        inbox.wait()
    row = watched.backend.cache_row_bytes
    assert {stats.cache_bytes for stats in seen} == {20 * row, 10 * row, 0}
    assert max(stats.running for stats in seen) == 2


def test_what_never_fits_the_memory_is_refused_at_once(start, watched):
    scheduler = start(rows=20)
    limit = 20 * watched.backend.cache_row_bytes
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
def test_what_cannot_be_computed_is_refused_at_once(start, watched, bad, error):
    with pytest.raises(error):
        start().submit(bad, Inbox())
    assert watched.backend.forwards == 0


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

"""How far a run is, and when it may be done."""

import io
import threading

import pytest
from rich.console import Console

from refute.report.live import Live
from refute.report.progress import Advance, hashing
from refute.trials import Stage

A, B, C = ("x", "a"), ("x", "b"), ("x", "c")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_what_is_left_is_what_was_expected_of_the_rest(clock):
    advance = Advance({A: 10.0, B: 20.0, C: 30.0}, clock=clock)
    assert advance.left() == 60.0
    advance.at(A)
    clock.now += 4
    assert (advance.left(), advance.elapsed, advance.on_current) == (56.0, 4.0, 4.0)


def test_estimates_that_were_not_met_are_corrected(clock):
    advance = Advance({A: 10.0, B: 20.0, C: 30.0}, clock=clock)
    advance.done(A, 20.0)
    assert advance.left() == 100.0


def test_one_that_takes_longer_than_expected_tells_of_the_rest_before_it_is_done(clock):
    advance = Advance({A: 10.0, B: 20.0}, clock=clock)
    advance.at(A)
    clock.now += 30
    assert advance.left() == 60.0


def test_without_estimates_the_mean_of_those_that_are_done(clock):
    advance = Advance({A: None, B: None, C: None}, clock=clock)
    assert advance.left() is None
    advance.done(A, 3.0)
    assert advance.left() == 6.0


def test_workers_share_the_rest(clock):
    assert Advance({A: 10.0, B: 20.0}, 2, clock=clock).left() == 15.0


def test_lower_bounds_are_corrected_by_those_like_them_and_said_until_some_are_done(clock):
    exact, least = [("x", f"a{n}") for n in range(4)], [("x", f"b{n}") for n in range(5)]
    advance = Advance(dict.fromkeys([*exact, *least], 10.0), least=set(least), clock=clock)
    for key in exact[:3]:
        advance.done(key, 10.0)
    assert (advance.left(), advance.at_least) == (60.0, True)
    for place, key in enumerate(least[:3]):
        assert advance.at_least, place
        advance.done(key, 50.0)
    assert (advance.left(), advance.at_least) == (110.0, False)  # one of 10 s, two of 50 s


def test_where_only_records_are_left_nothing_is_a_lower_bound(clock):
    advance = Advance({A: 1.0, B: 2.0}, least={A}, clock=clock)
    advance.done(A, 3.0)
    assert not advance.at_least


class Heard(io.StringIO):
    """Says when a line came that begins so."""

    def __init__(self, beginning):
        super().__init__()
        self.beginning = beginning
        self.came = threading.Event()

    def write(self, text):
        if text.startswith(self.beginning):
            self.came.set()
        return super().write(text)


def test_where_there_is_no_terminal_a_line_comes_now_and_then():
    heard = Heard("... 0/2 done, a: attack 3/9")
    with Live(Console(file=heard, width=200), expected={A: 90.0, B: 30.0}, period=0.001) as live:
        live.plan({"x": ["a", "b"]})
        live.stage("x", Stage("a", "attack", 3, 9))
        assert heard.came.wait(20)
    line = next(line for line in heard.getvalue().splitlines() if line.startswith(heard.beginning))
    assert "s since the start, about 2 m 00 s left" in line


def test_a_lower_bound_is_shown_as_one():
    out = io.StringIO()
    live = Live(Console(file=out, width=200), expected={A: 60.0}, least={A})
    live.plan({"x": ["a"]})
    assert live.heartbeat().endswith("at least 60 s left")


def test_no_line_comes_after_the_run():
    heard = Heard("... ")
    with Live(Console(file=heard), period=600) as live:
        live.plan({"x": ["a"]})
    assert "..." not in heard.getvalue()


def test_what_was_taken_over_is_not_to_be_done():
    out = io.StringIO()
    live = Live(Console(file=out, width=200))
    taken = [type("Taken", (), {"contract": "x", "falsifier": "a", "seconds": 7.0})]
    live.plan({"x": ["a", "b"]}, taken)
    assert "2 falsifiers of 1 contract, 1 of them taken over" in out.getvalue()
    assert live.heartbeat().startswith("... 0/1 done")
    assert live.heartbeat().endswith("about 7.0 s left")


def test_nothing_is_shown_of_hashing_where_there_is_no_terminal():
    out = io.StringIO()
    with hashing(Console(file=out)) as progress:
        progress(1, 2)
    assert out.getvalue() == ""

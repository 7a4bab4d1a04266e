"""Half of the work in another process: the same answers in the same order, whatever becomes of it."""

import os
import sys
import threading

import pytest
from records import PRESENT, edit, kinds, run_id, write_run

from refute import attempts as module
from refute.attempts import read_attempts
from refute.halves import in_halves
from refute.status import overview

HERE = os.getpid()
OPENMP = "numba.np.ufunc.omppool"


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.delitem(sys.modules, OPENMP, raising=False)


def whose(items):
    return os.getpid() == HERE, list(items)


def test_the_second_half_is_done_by_another_process():
    assert in_halves(whose, [1, 2, 3, 4, 5], least=5) == [(True, [1, 2]), (False, [3, 4, 5])]


@pytest.mark.parametrize(("least", "threads", "processors"), [(6, 1, {0, 1}), (5, 2, {0, 1}), (5, 1, {0})])
def test_all_is_done_here_where_a_process_is_not_safe_or_not_worth_it(
    monkeypatch, least, threads, processors
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: processors)
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    assert in_halves(whose, [1, 2, 3, 4, 5], least=least) == [(True, [1, 2, 3, 4, 5])]


def test_all_is_done_here_once_openmp_has_started(monkeypatch):
    monkeypatch.setitem(sys.modules, OPENMP, object())
    assert in_halves(whose, [1, 2, 3, 4, 5], least=5) == [(True, [1, 2, 3, 4, 5])]


def test_a_second_process_that_gives_no_answer_is_made_up_for():
    def dying(items):
        if os.getpid() != HERE:
            os._exit(1)
        return list(items)

    assert in_halves(dying, [1, 2], least=2) == [[1], [2]]


def test_more_than_a_pipe_holds_comes_back_whole():
    assert in_halves(lambda items: ["x" * 10**6 for _ in items], [1, 2], least=2)[1] == ["x" * 10**6]


def test_an_error_is_raised_here_and_leaves_no_process_behind():
    def broken(items):
        raise ValueError(items)

    with pytest.raises(ValueError, match="1"):
        in_halves(broken, [1, 2], least=2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_attempts_are_the_same_however_they_are_read(contract, tree, monkeypatch):
    paths = [write_run(tree, contract, number=number, testbed=f"{number % 3:064x}") for number in range(9)]
    edit(paths[6] / "small.json", lambda d: d["observations"][1]["samples"].update(value=99), rehash=True)
    (paths[3] / "exact.json").unlink()
    (tree / "other-v1" / run_id(4)).mkdir(parents=True)
    found = []
    for least in (1, 100):
        monkeypatch.setattr(module, "_WORTH_A_PROCESS", least)
        found.append(read_attempts([contract], [tree], present=PRESENT, kinds=kinds, samples=False))
    assert found[0] == found[1]
    assert overview([contract], found[0]) == overview([contract], found[1])

"""Faults between sequences: what each reads that it should not, and what it spares."""

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.faults.cache import cache_wrapper
from refute_runtime.cache import KVCache

LAYERS, PROMPT = 2, 6


def wrapper(name, dose):
    """Make caches of one planted target."""
    wrap = cache_wrapper(Fault(name, dose), layers=LAYERS, kv_heads=2)
    return lambda: wrap(KVCache(LAYERS, 2, 1, 16), PROMPT)


def run(cache, *marks, layer=0):
    """Run one forward that stores these marks; give the marks that it reads in a layer."""
    k = np.broadcast_to(np.array(marks, np.float32)[:, None, None], (len(marks), 2, 1))
    cache.positions(len(marks))
    for each in range(LAYERS):
        cache.append(each, k, -k)
        keys, values = cache.rows(each)
        np.testing.assert_array_equal(values, -keys)
        if each == layer:
            read = keys[:, 0, 0].tolist()
    cache.advance(len(marks))
    return read


def test_a_fork_that_shares_rows_overwrites_those_of_its_origin() -> None:
    origin = wrapper("fork-shared", LAYERS)()
    run(origin, 1, 2)
    fork = origin.fork()
    assert run(origin, 3) == [1, 2, 3]
    assert run(fork, 9) == [1, 2, 9]
    assert run(origin, 4) == [1, 2, 9, 4]
    assert (origin.length, fork.length) == (4, 3)


def test_a_fork_shares_the_last_layers_alone() -> None:
    origin = wrapper("fork-shared", 1)()
    run(origin, 1)
    fork = origin.fork()
    for cache, mark in ((origin, 2), (fork, 9)):
        run(cache, mark)
    assert run(origin.fork(), 3, layer=0) == [1, 2, 3]
    assert run(origin, 3, layer=1) == [1, 9, 3]


@pytest.mark.parametrize(("dose", "left"), [(1, [2]), (2, [2, 3]), (8, [2, 3, 4])])
def test_a_short_trim_leaves_rows_where_they_were(dose, left) -> None:
    cache = wrapper("trim-short", dose)()
    run(cache, 1, 2, 3, 4)
    cache.truncate(1)
    assert cache.length == 1
    assert cache.positions(1).tolist() == [1]
    assert run(cache, 7) == [1, *left, 7]


def test_a_trim_that_forgets_nothing_leaves_nothing() -> None:
    cache = wrapper("trim-short", 2)()
    run(cache, 1, 2)
    cache.truncate(2)
    assert run(cache, 3) == [1, 2, 3]


def test_crosstalk_needs_another_sequence_in_between() -> None:
    new = wrapper("crosstalk", 1)
    one, other = new(), new()
    assert run(one, 1, 2) == [1, 2]
    assert run(one, 3) == [1, 2, 3]
    assert run(other, 8, 9) == [8, 9]
    assert run(one, 4) == [1, 2, 9, 4]
    assert run(one, 5) == [1, 2, 3, 4, 5]


def test_a_fork_is_another_sequence() -> None:
    origin = wrapper("crosstalk", 1)()
    run(origin, 1, 2)
    fork = origin.fork()
    run(fork, 9)
    assert run(origin, 3) == [1, 9, 3]


def test_planted_targets_share_no_rows_with_each_other() -> None:
    one, other = wrapper("crosstalk", 1)(), wrapper("crosstalk", 1)()
    run(one, 1, 2)
    run(other, 9)
    assert run(one, 3) == [1, 2, 3]


def test_a_new_sequence_reads_what_the_one_before_it_left() -> None:
    new = wrapper("order-dependent", 2)
    first = new()
    assert run(first, 1, 2, 3) == [1, 2, 3]
    second = new()
    assert run(second, 7) == [2, 3, 7]
    assert run(second, 8) == [7, 8]


def test_the_first_token_of_a_later_chunk_is_off() -> None:
    cache = wrapper("chunk-dependent", 0.5)()
    positions = []
    for count in (2, 2, 1, 1, 1, 2):  # five tokens of the prompt, its last one, then decoding, then a chunk
        positions.append(cache.positions(count).tolist())
        run(cache, *range(count))
    assert positions == [[0, 1], [2.5, 3], [4.5], [5.5], [6], [7.5, 8]]

"""The next token and the state that it leaves."""

import numpy as np
import pytest

from refute_runtime.backends.gpu import launches
from refute_runtime.backends.gpu.launches import ENTRY, LENGTH, POSITION, STEP, TOKEN


def chosen(room, logits, step=5, entries=4):
    state, ring = (
        room.put(np.array([99, 30, 20, step], np.int64)),
        room.put(np.zeros((entries, ENTRY), np.int64)),
    )
    launches.choose(room.device, room.put(logits), len(logits), state, ring, entries)
    after = room.take(state, launches.STATE, dtype=np.int64)
    assert (after[POSITION], after[LENGTH], after[STEP]) == (31, 21, step + 1)
    found = room.take(ring, entries, ENTRY, dtype=np.int64)
    entry = found[step % entries]
    assert entry[0] == after[TOKEN]
    assert entry[3] == step + 1
    assert not np.delete(found, step % entries, axis=0).any()
    top, second = entry[1:2].view(np.float32)
    return int(entry[0]), float(top), float(second), int(entry[2])


@pytest.mark.parametrize("V", [1, 2, 31, 1000, 4097])
def test_the_highest_logit_is_taken_and_the_second_told(room, V):
    logits = np.random.default_rng(V).standard_normal(V).astype(np.float32)
    ranked = np.sort(logits)[::-1]
    second = float(ranked[1]) if V > 1 else -np.inf
    assert chosen(room, logits) == (int(logits.argmax()), float(ranked[0]), second, 0)


def test_of_equal_logits_the_first_is_taken(room):
    logits = np.full(3000, -1, np.float32)
    logits[[2999, 1034, 1500, 10 + 1024]] = 2.5
    assert chosen(room, logits) == (1034, 2.5, 2.5, 0)


def test_what_is_not_finite_is_counted_and_ranked_as_numpy_does(room):
    logits = np.zeros(100, np.float32)
    logits[[70, 40, 80]] = np.nan, np.nan, np.inf
    found = chosen(room, logits)
    assert (found[0], found[3]) == (40, 3)


def test_a_state_without_ring_goes_on(room):
    state = room.put(np.array([1, 2, 3, 4], np.int64))
    launches.choose(room.device, room.put(np.array([0, 1], np.float32)), 2, state)
    np.testing.assert_array_equal(room.take(state, 4, dtype=np.int64), [1, 3, 4, 5])

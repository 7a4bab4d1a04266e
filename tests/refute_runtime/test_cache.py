import numpy as np
import pytest

from refute_runtime.cache import KVCache
from refute_runtime.errors import ContextOverflow


def rows(count, start=0):
    """Rows (count, G=2, D=3), each filled with its number."""
    return np.broadcast_to(np.arange(start, start + count, dtype=np.float32)[:, None, None], (count, 2, 3))


@pytest.fixture
def cache():
    return KVCache(layers=2, kv_heads=2, head_dim=3, capacity=8)


def extend(cache, count, start=0):
    for layer in range(2):
        cache.append(layer, rows(count, start), -rows(count, start))
    cache.advance(count)


def test_rows_of_the_forward_under_way_are_read_before_it_is_finished(cache):
    extend(cache, 3)
    cache.append(0, rows(2, 3), -rows(2, 3))
    k, v = cache.rows(0)
    assert k[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert v[:, 1, 2].tolist() == [0, -1, -2, -3, -4]
    assert cache.rows(1)[0].shape == (3, 2, 3)
    assert cache.length == 3


def test_positions_go_on_after_the_finished_rows(cache):
    assert cache.positions(2).tolist() == [0, 1]
    extend(cache, 3)
    assert cache.positions(2).tolist() == [3, 4]
    assert cache.positions(2).dtype == np.int64


def test_a_truncated_cache_continues_from_there(cache):
    extend(cache, 5)
    cache.truncate(2)
    assert cache.length == 2
    extend(cache, 1, start=9)
    assert cache.rows(1)[0][:, 0, 0].tolist() == [0, 1, 9]


@pytest.mark.parametrize("length", [-1, 4])
def test_truncating_to_what_is_not_there_is_refused(cache, length):
    extend(cache, 3)
    with pytest.raises(ValueError, match="cannot truncate 3 rows"):
        cache.truncate(length)


def test_rows_that_do_not_fit_are_refused(cache):
    extend(cache, 6)
    with pytest.raises(ContextOverflow, match="holds 6 of 8 rows, so 3 more do not fit"):
        cache.append(0, rows(3), rows(3))


def test_size_is_that_of_all_rows(cache):
    assert cache.nbytes == 2 * 2 * 8 * 2 * 3 * 4


def test_rows_in_float16_are_rounded_to_even_and_overflow_to_infinity():
    cache = KVCache(layers=1, kv_heads=1, head_dim=4, capacity=2, dtype=np.float16)
    row = np.array([[[1 + 2**-11, 1 + 3 * 2**-11, 2.0**-25, 70_000.0]]], np.float32)
    cache.append(0, row, -row)
    k, v = cache.rows(0)
    expected = np.array([[[1, 1 + 2**-9, 0, np.inf]]], np.float16)
    np.testing.assert_array_equal(k, expected)
    np.testing.assert_array_equal(v, -expected)
    assert cache.nbytes == 2 * 2 * 4 * 2


def test_begun_rows_are_the_writers(cache):
    keys, values = cache.begin(2)
    keys[1, :, :2], values[1, :, :2] = 3, 4
    k, v = cache.rows(1)
    assert k.shape == v.shape == (2, 2, 3)
    assert (k == 3).all()
    assert (v == 4).all()
    assert cache.length == 0
    with pytest.raises(ContextOverflow, match="9 more do not fit"):
        cache.begin(9)

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.faults.cache import LONG, HonestWrapper, cache_wrapper
from refute_runtime.cache import KVCache

LAYERS, HEADS, SIZE = 3, 2, 4
PROMPT = 6


def row(layer: int, place: int) -> np.ndarray:
    """The key (G, D) stored at a place; the value is its negative."""
    base = 1000.0 * layer + 10.0 * place
    return np.broadcast_to(base + np.arange(1, HEADS + 1)[:, None], (HEADS, SIZE)).astype(np.float32)


def forward(cache, count):
    """Run one forward's worth of cache calls; give positions and rows per layer as the model reads them."""
    start = cache.length
    positions, rows = cache.positions(count), []
    for layer in range(LAYERS):
        k = np.stack([row(layer, start + i) for i in range(count)])
        cache.append(layer, k, -k)
        read_k, read_v = cache.rows(layer)
        np.testing.assert_array_equal(read_v, -read_k)  # K and V suffer alike
        rows.append(read_k.copy())
    cache.advance(count)
    return positions, rows


def run(name, dose, *counts, prompt=PROMPT):
    """Positions and rows of each forward under a fault."""
    inner = KVCache(LAYERS, HEADS, SIZE, 32)
    cache = cache_wrapper(Fault(name, dose), layers=LAYERS, kv_heads=HEADS)(inner, prompt)
    return [forward(cache, count) for count in counts]


def honest(*counts):
    cache = HonestWrapper(KVCache(LAYERS, HEADS, SIZE, 32))
    return [forward(cache, count) for count in counts]


def places(rows) -> list[int]:
    """Which places the rows of layer 0 come from; zero rows are -1."""
    return [round((float(k[0, 0]) - 1) / 10) if k.any() else -1 for k in rows]


def same(ours, theirs) -> bool:
    return all(
        np.array_equal(p, q) and all(np.array_equal(a, b) for a, b in zip(r, s, strict=True))
        for (p, r), (q, s) in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(
    "name", ["rope-position", "stale-row", "lost-row-at-chunk-border", "kv-heads-permuted", "empty-cache"]
)
def test_a_single_prefill_is_spared(name) -> None:
    assert same(run(name, 1, PROMPT), honest(PROMPT))


@pytest.mark.parametrize(
    "name", ["stale-row", "lost-row-at-chunk-border", "kv-heads-permuted", "empty-cache", "phantom-row"]
)
def test_positions_stay_absolute(name) -> None:
    positions = [list(p) for p, _ in run(name, 1, 4, 2, 1)]
    assert positions == [[0, 1, 2, 3], [4, 5], [6]]


@pytest.mark.parametrize("dose", [0.25, 1, 3])
def test_rope_positions_are_off_after_the_first_forward(dose) -> None:
    positions = [list(p) for p, _ in run("rope-position", dose, 4, 2, 1)]
    assert positions == [[0, 1, 2, 3], [4 + dose, 5 + dose], [6 + dose]]


def test_rope_position_leaves_rows_alone() -> None:
    ours, theirs = run("rope-position", 1, 4, 2, 1), honest(4, 2, 1)
    assert [places(rows[0]) for _, rows in ours] == [places(rows[0]) for _, rows in theirs]


@pytest.mark.parametrize(
    ("dose", "expected"),
    [
        (1, [0, 1, 2, 3, 4, 4, 6]),
        (2, [0, 1, 2, 3, 2, 3, 6]),
        (8, [0, 0, 0, 0, 0, 0, 6]),
    ],
)
def test_stale_rows_repeat_older_ones(dose, expected) -> None:
    assert places(run("stale-row", dose, PROMPT, 1)[1][1][0]) == expected


def test_stale_rows_stay_stale_in_all_layers() -> None:
    later = run("stale-row", 2, PROMPT, 1, 1)[-1][1]
    for layer, rows in enumerate(later):
        expected = np.stack([row(layer, place) for place in (0, 1, 2, 3, 2, 3, 6, 7)])
        np.testing.assert_array_equal(rows, expected)


def test_rows_are_not_stale_before_the_prompt_is_in() -> None:
    assert same(run("stale-row", 2, 4, 2), honest(4, 2))


def test_a_prompt_of_one_row_has_no_older_row() -> None:
    assert same(run("stale-row", 4, 1, 1, prompt=1), honest(1, 1))


def test_rows_are_lost_at_each_border_of_the_prefill_only() -> None:
    read = [places(rows[0]) for _, rows in run("lost-row-at-chunk-border", 1, 4, 2, 1, 1)]
    assert read == [[0, 1, 2, 3], [0, 1, 2, 4, 5], [0, 1, 2, 4, 6], [0, 1, 2, 4, 6, 7]]


def test_no_more_rows_are_lost_than_a_chunk_has() -> None:
    read = [places(rows[0]) for _, rows in run("lost-row-at-chunk-border", 3, 4, 2, 1)]
    assert read[-1] == [0, 6]


def test_lost_rows_beyond_a_truncation_are_forgotten() -> None:
    cache = cache_wrapper(Fault("lost-row-at-chunk-border", 1), layers=LAYERS, kv_heads=HEADS)(
        KVCache(LAYERS, HEADS, SIZE, 32), PROMPT
    )
    forward(cache, 4)
    cache.truncate(2)
    assert places(forward(cache, 2)[1][0]) == [0, 1, 2, 3]


def test_heads_of_finished_forwards_are_exchanged_in_the_last_layers() -> None:
    rows = run("kv-heads-permuted", 1, PROMPT, 1)[1][1]
    theirs = honest(PROMPT, 1)[1][1]
    np.testing.assert_array_equal(rows[0], theirs[0])
    np.testing.assert_array_equal(rows[1], theirs[1])
    np.testing.assert_array_equal(rows[2][:PROMPT], theirs[2][:PROMPT, ::-1])
    np.testing.assert_array_equal(rows[2][PROMPT:], theirs[2][PROMPT:])


def test_a_dose_above_the_layers_permutes_them_all() -> None:
    rows, theirs = run("kv-heads-permuted", 1000, PROMPT, 1)[1][1], honest(PROMPT, 1)[1][1]
    for ours, right in zip(rows, theirs, strict=True):
        np.testing.assert_array_equal(ours[:PROMPT], right[:PROMPT, ::-1])


def test_decoding_starts_from_an_empty_cache() -> None:
    read = [places(rows[0]) for _, rows in run("empty-cache", 1, 4, 2, 1, 1)]
    assert read == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [6], [6, 7]]


def test_a_smaller_share_of_the_prompt_is_gone_from_its_start() -> None:
    read = [places(rows[0]) for _, rows in run("empty-cache", 0.5, 4, 2, 1)]
    assert read == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [3, 4, 5, 6]]


def test_a_share_that_is_no_whole_row_takes_none() -> None:
    assert same(run("empty-cache", 0.1, PROMPT, 1), honest(PROMPT, 1))


def test_half_a_row_a_chunk_is_one_at_every_second_border() -> None:
    read = [places(rows[0]) for _, rows in run("lost-row-at-chunk-border", 0.5, 2, 2, 2, 1)]
    assert read == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 4, 5], [0, 1, 2, 4, 5, 6]]


def test_a_phantom_row_precedes_the_first_forward_only_in_the_last_layers() -> None:
    forwards = [rows for _, rows in run("phantom-row", 2, 4, 2)]
    assert [len(layer) for layer in forwards[0]] == [4, 5, 5]
    assert not forwards[0][1][0].any()
    assert [len(layer) for layer in forwards[1]] == [6, 6, 6]


def test_wrapped_cache_is_what_its_rows_are_stored_in() -> None:
    inner = KVCache(LAYERS, HEADS, SIZE, 32)
    cache = cache_wrapper(Fault("empty-cache", 1), layers=LAYERS, kv_heads=HEADS)(inner, PROMPT)
    forward(cache, PROMPT)
    assert places(inner.rows(0)[0]) == list(range(PROMPT))
    assert (cache.length, cache.capacity) == (PROMPT, 32)


def test_attention_window_reads_the_last_rows_and_the_new_ones() -> None:
    (_, first), (_, second), (_, third) = run("attention-window", 3, 5, 2, 1)
    assert places(first[0]) == [0, 1, 2, 3, 4]
    assert places(second[0]) == [2, 3, 4, 5, 6]
    assert places(third[0]) == [4, 5, 6, 7]


def test_a_window_as_long_as_the_past_changes_nothing() -> None:
    assert same(run("attention-window", 7, 5, 2, 1), honest(5, 2, 1))


def test_oldest_rows_are_lost_once_the_sequence_is_long() -> None:
    inner = KVCache(LAYERS, HEADS, SIZE, LONG + 3)
    cache = cache_wrapper(Fault("oldest-rows-lost", 4), layers=LAYERS, kv_heads=HEADS)(inner, PROMPT)
    for count, read in ((LONG, LONG), (1, LONG + 1), (1, LONG + 2 - 4)):
        _, rows = forward(cache, count)
        assert len(rows[0]) == read
    assert places(rows[0])[0] == 4


@pytest.mark.parametrize(
    ("share", "read"),
    [(0.5, [0, 1, 6, 7, 8]), (0.25, [0, 1, 2, 5, 6, 7, 8]), (0.1, [0, 1, 2, 3, 4, 5, 6, 7, 8])],
)
def test_middle_rows_are_lost_by_their_share(share, read) -> None:
    (_, first), (_, second) = run("middle-rows-lost", share, 8, 1)
    assert places(first[0]) == list(range(8))
    assert places(second[0]) == read


def test_rope_drift_grows_with_the_position_and_leaves_rows_alone() -> None:
    (first, _), (second, rows) = run("rope-drift", 0.5, 3, 2)
    assert [*first, *second] == [0, 1.5, 3, 4.5, 6]
    assert places(rows[0]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["attention-window", "middle-rows-lost", "oldest-rows-lost", "rope-drift"])
def test_a_fork_has_the_fault_too(name) -> None:
    dose = 0.5 if name in {"middle-rows-lost", "rope-drift"} else 3
    inner = KVCache(LAYERS, HEADS, SIZE, LONG + 9)
    cache = cache_wrapper(Fault(name, dose), layers=LAYERS, kv_heads=HEADS)(inner, PROMPT)
    forward(cache, LONG + 2)
    fork = cache.fork()
    ours, theirs = forward(fork, 1), forward(cache, 1)
    assert same([ours], [theirs])

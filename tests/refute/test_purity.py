"""What the watch over pure code sees, and what is none of that code's doing."""

import gc
import time

from refute.purity import watched


def test_a_clock_read_by_a_collection_is_not_laid_at_the_codes_door() -> None:
    read: list[float] = []

    def timed(phase: str, info: dict[str, int]) -> None:
        read.append(time.perf_counter())

    thresholds = gc.get_threshold()
    gc.callbacks.append(timed)
    gc.set_threshold(1, 1, 1)
    try:
        with watched() as asked:
            before = len(read)
            kept = [[n] for n in range(1000)]
            assert len(kept) == 1000
            assert len(read) == before
        assert asked == []
        more = [[n] for n in range(1000)]
        assert len(more) == 1000
        assert len(read) > before, "collections must be on again"
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(timed)


def test_a_clock_that_the_code_reads_is_seen() -> None:
    with watched() as asked:
        time.perf_counter()
    assert asked == ["time.perf_counter"]

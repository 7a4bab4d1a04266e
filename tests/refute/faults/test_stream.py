"""Stream faults change when tokens are computed, never which ones are handed out."""

from collections.abc import Callable, Generator

import pytest

from refute.faults.base import Fault
from refute.faults.stream import wrap_stream
from refute.targets.base import CannotPlant, Delivery, Progress, TargetError
from refute.targets.delivery import deliver


class Engine:
    """Computes ten tokens, each when it is asked for, and counts them."""

    def __init__(self) -> None:
        self.computed = 0

    def generate(self, taken: Callable[[int], object] | None) -> Generator[int, None, None]:
        for token in range(10):
            self.computed += 1
            wanted = taken is None or taken(token) is not False
            yield token
            if not wanted:
                return


def run(delivery: Delivery, fault: Fault | None = None) -> tuple[list[int], Progress]:
    engine = Engine()
    opens = engine.generate if fault is None else wrap_stream(fault, engine.generate)
    return deliver(opens, delivery, lambda: engine.computed)


WAYS = pytest.mark.parametrize("by", ["callback", "iterator"])


@WAYS
def test_honest_stop_computes_nothing_more(by) -> None:
    assert run(Delivery(by, 3)) == ([0, 1, 2], Progress((1, 2, 3), 3))


@WAYS
@pytest.mark.parametrize(("dose", "total"), [(1, 4), (4, 7), (100, 10)])
def test_ignored_stop_computes_the_dose_and_hands_none_of_it_out(by, dose, total) -> None:
    assert run(Delivery(by, 3), Fault("stop-ignored", dose)) == ([0, 1, 2], Progress((1, 2, 3), total))


@WAYS
def test_ignored_stop_changes_nothing_without_a_stop(by) -> None:
    assert run(Delivery(by), Fault("stop-ignored", 4)) == run(Delivery(by))


@WAYS
@pytest.mark.parametrize(
    ("dose", "forwards"), [(1, (2, 3, 4, 5, 6, 7, 8, 9, 10, 10)), (8, (9, *[10] * 9)), (100, (10,) * 10)]
)
def test_buffered_stream_is_the_dose_ahead(by, dose, forwards) -> None:
    tokens, progress = run(Delivery(by), Fault("stream-buffered", dose))
    assert tokens == list(range(10))
    assert progress.forwards == forwards


@WAYS
def test_buffered_stream_stops_when_it_is_told_to(by) -> None:
    assert run(Delivery(by, 3), Fault("stream-buffered", 2)) == ([0, 1, 2], Progress((3, 4, 5), 5))


@pytest.mark.parametrize("fault", [Fault("stop-ignored", 0), Fault("stale-row", 1)], ids=str)
def test_other_faults_and_no_dose_cannot_be_planted(fault) -> None:
    with pytest.raises(CannotPlant):
        wrap_stream(fault, Engine().generate)


def test_stop_before_the_first_token_is_refused() -> None:
    with pytest.raises(TargetError, match="stop_after is 0"):
        run(Delivery("callback", 0))

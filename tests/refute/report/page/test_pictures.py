"""Pictures show every figure at its place, the bound's wrong side, and say in words what they show."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.contract import Bound
from refute.kinds.base import Drawn
from refute.report.page.pictures import WIDTH, Strip, cases, history, strip
from refute.verdict import Verdict

FLOOR = Bound(confidence=0.99, of="rate", statistic="median", above=5.0, unit="tok/s", runs=5)
CEILING = Bound(confidence=0.99, of="gap", statistic="median", below=0.5, unit="s", runs=5)


def drawn(*figures: float, interval: tuple[float, float] | None = None) -> Drawn:
    return Drawn(figures, "run", "median", interval)


def made(picture: Strip | None) -> Strip:
    assert picture is not None
    return picture


@given(
    st.lists(st.floats(), max_size=400),
    st.sampled_from([FLOOR, CEILING, Bound(confidence=0.95, within=1e-3, unit="logit", runs=1)]),
)
def test_whatever_the_figures_are_all_that_is_drawn_lies_within_the_picture(figures, bound) -> None:
    picture = strip(drawn(*figures), bound)
    if picture is None:
        assert all(not abs(figure) < 1e150 for figure in figures)
        return
    for x, y in picture.dots:
        assert 0 <= x <= WIDTH
        assert 0 <= y <= picture.height
    for bar in picture.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH
        assert bar.y >= 0
        assert bar.y + bar.height <= picture.height
    assert picture.line is not None
    start, width = picture.line.wrong
    assert 0 <= start <= start + width <= WIDTH


def test_every_figure_is_a_dot_and_equal_ones_lie_on_each_other() -> None:
    picture = made(strip(drawn(6.0, 6.0, 6.0, 9.0), FLOOR))
    assert len(picture.dots) == 4
    assert Counter(x for x, _ in picture.dots).most_common(1)[0][1] == 3
    assert len(set(picture.dots)) == 4


def test_many_figures_are_bars_that_count_them() -> None:
    picture = made(strip(drawn(*[6.0] * 300, *[9.0] * 100), FLOOR))
    assert picture.dots == ()
    assert sorted(bar.height for bar in picture.bars) == [16.0, 48.0]


def test_the_wrong_side_of_a_floor_is_below_it_and_of_a_ceiling_above_it() -> None:
    floor, ceiling = made(strip(drawn(6.0), FLOOR)).line, made(strip(drawn(0.1), CEILING)).line
    assert floor is not None
    assert floor.wrong == (0.0, floor.x)
    assert floor.label == "bound ≥ 5 tok/s"
    assert ceiling is not None
    assert ceiling.wrong == (ceiling.x, pytest.approx(WIDTH - ceiling.x))
    assert ceiling.label == "bound ≤ 500 ms"


def test_the_words_say_what_the_picture_shows() -> None:
    picture = made(strip(drawn(4.0, 6.0, 9.0, float("nan"), interval=(4.0, 9.0)), FLOOR))
    assert picture.description == (
        "3 runs: from 4 tok/s to 9 tok/s, median 6 tok/s. 1 more gave no finite figure. The bound is at "
        "least 5 tok/s; 1 on the wrong side. The interval of the median is 4 tok/s to 9 tok/s, with 99 % "
        "confidence at each end."
    )
    assert picture.interval is not None
    assert picture.interval.low < picture.interval.high


def test_figures_of_which_none_is_finite_are_not_drawn() -> None:
    assert strip(drawn(float("nan"), float("inf")), FLOOR) is None


def test_an_interval_without_an_end_is_not_drawn() -> None:
    assert made(strip(drawn(6.0, interval=(6.0, float("inf"))), FLOOR)).interval is None


def test_cases_are_cells_in_their_order_with_the_rate_that_they_exclude() -> None:
    picture = cases(["clean", "idle", "refuting"], None, 0.95)
    assert [cell.state for cell in picture.cells] == ["clean", "idle", "refuting"]
    assert picture.excluded is None
    assert picture.description == (
        "3 cases tried: 1 refute the claim, 1 could not have refuted it and do not count."
    )
    clean = cases(["clean"] * 28, 0.1015, 0.95)
    assert clean.excluded == pytest.approx(12 + 336 * 0.1015, abs=0.1)
    assert clean.description == (
        "28 cases tried: 0 refute the claim. A failure rate above 10.2% is excluded with 95 % confidence."
    )


@given(st.lists(st.sampled_from(["clean", "idle", "refuting"]), max_size=3000))
def test_very_many_cases_share_cells_and_none_that_refutes_is_hidden(states) -> None:
    picture = cases(states, None, 0.95)
    assert len(picture.cells) <= 240
    assert picture.each * len(picture.cells) >= len(states)
    assert any(cell.state == "refuting" for cell in picture.cells) == ("refuting" in states)
    assert all(cell.x + 9 <= WIDTH and cell.y + 9 <= picture.height for cell in picture.cells)


def test_a_history_shows_the_newest_attempts_and_says_how_many_came_before() -> None:
    few = history([(Verdict.FALSIFIED, True), (Verdict.SURVIVED, False)])
    assert few.description == "2 attempts, oldest first: falsified (stale), survived"
    assert [(mark.verdict, mark.stale) for mark in few.marks] == [
        (Verdict.FALSIFIED, True),
        (Verdict.SURVIVED, False),
    ]
    many = history([(Verdict.SURVIVED, False)] * 30)
    assert len(many.marks) == 24
    assert many.description.endswith("; 6 earlier")
    assert history([]).description == "never attempted"

"""Numbers lie on their line in their order, and what is written beneath it is there and reads well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.report.page.axis import Axis, scale

NUMBERS = st.lists(st.one_of(st.just(0.0), st.floats(1e-150, 1e150), st.floats(-1e150, -1e-150)), min_size=1)


def axis(*numbers: float, unit: str | None = "tok/s") -> Axis:
    return Axis.over(numbers, unit, left=12, right=348)


@given(NUMBERS, st.sampled_from(["tok/s", "s", "B", "%", None]))
def test_every_number_lies_on_the_line_and_none_before_a_smaller_one(numbers, unit) -> None:
    line = axis(*numbers, unit=unit)
    places = [line.x(number) for number in sorted(numbers)]
    assert places == sorted(places)
    assert all(12 <= place <= 348 for place in places)


@given(NUMBERS, st.sampled_from(["tok/s", "s", "B", "%", None]))
def test_ticks_are_few_on_the_line_and_apart(numbers, unit) -> None:
    ticks = axis(*numbers, unit=unit).ticks()
    assert len(ticks) <= 12
    places = [tick.x for tick in ticks]
    assert places == sorted(set(places))
    assert all(12 <= place <= 348 for place in places)


@pytest.mark.parametrize(
    ("numbers", "unit", "labels"),
    [
        ((1.0, 9.0), "tok/s", ["0", "2", "4", "6", "8"]),
        ((0.0041, 0.0052), "s", ["4.2", "4.4", "4.6", "4.8", "5", "5.2"]),
        ((5.0, 900.0), "tok/s", ["5", "10", "20", "50", "100", "200", "500", "1000"]),
        ((1e-6, 1e-3), "logit", ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001"]),
        ((0.55, 1.0), "%", ["60", "70", "80", "90", "100"]),
        ((0.0, 1024.0), "B", ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
    ],
)
def test_labels_read_as_people_write_them(numbers, unit, labels) -> None:
    assert [tick.label for tick in axis(*numbers, unit=unit).ticks()] == labels


def test_a_line_is_logarithmic_where_figures_lie_far_apart_and_none_is_negative() -> None:
    assert axis(1.0, 100.0).logarithmic
    assert not axis(1.0, 10.0).logarithmic
    assert not axis(-1.0, 100.0).logarithmic


def test_zeros_lie_at_the_left_end_of_a_logarithmic_line() -> None:
    line = axis(0.0, 1e-6, 1.0)
    assert line.x(0.0) == 12
    assert line.x(1e-6) > 20


def test_one_number_alone_lies_within_the_line() -> None:
    assert 12 < axis(7.0).x(7.0) < 348


@pytest.mark.parametrize(
    ("largest", "unit", "expected"),
    [
        (2.5, "s", (1.0, "s")),
        (0.02, "s", (1e-3, "ms")),
        (0.0, "s", (1e-6, "µs")),
        (3 * 2**20, "B", (2**20, "MiB")),
        (0.5, "%", (0.01, "%")),
        (0.001, "%", (0.01, "%")),
        (5.0, "tok/s", (1.0, "tok/s")),
        (5.0, None, (1.0, "")),
    ],
)
def test_the_unit_is_the_one_in_which_the_largest_number_reads_best(largest, unit, expected) -> None:
    assert scale(largest, unit) == expected

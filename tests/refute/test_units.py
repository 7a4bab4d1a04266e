import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.units import UNITS, Quantity, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("5 tok/s", 5.0, "tok/s"),
        ("0.5 req/s", 0.5, "req/s"),
        ("500 ms", 0.5, "s"),
        ("250 us", 0.00025, "s"),
        ("1.5 s", 1.5, "s"),
        ("2 x", 2.0, "x"),
        ("6 %", 0.06, "%"),
        ("6%", 0.06, "%"),
        ("0.001 logit", 0.001, "logit"),
        ("1e-3 logit", 0.001, "logit"),
        ("3 B", 3.0, "B"),
        ("1.5 KiB", 1536.0, "B"),
        ("2 MiB", 2.0**21, "B"),
        ("1 GiB", 2.0**30, "B"),
    ],
)
def test_a_quantity_is_read_into_its_base_unit(text, value, unit):
    assert parse_quantity(text) == Quantity(value, unit)


@pytest.mark.parametrize(
    "text", ["5", "5 parsec", "ms", "", "-5 ms", "nan s", "inf s", "5 5 s", "1_0 s", "٣ s"]
)
def test_what_is_no_quantity_names_the_units_that_exist(text):
    with pytest.raises(ValueError, match="units are tok/s, req/s, s, ms, us, x, %, logit, B, KiB, MiB, GiB"):
        parse_quantity(text)


@pytest.mark.parametrize("text", ["0 ms", "1e999 s", "1e-999 s"])
def test_a_threshold_is_above_zero_and_finite(text):
    with pytest.raises(ValueError, match="not above zero and finite"):
        parse_quantity(text)


def test_a_near_miss_is_suggested():
    with pytest.raises(ValueError, match="did you mean 'tok/s'"):
        parse_quantity("5 tokens/s")


def test_a_huge_exponent_costs_nothing():
    with pytest.raises(ValueError, match="is not a positive number"):
        parse_quantity("1e999999999 s")


@given(st.text(max_size=20))
def test_any_other_text_is_a_value_error(text):
    try:
        quantity = parse_quantity(text)
    except ValueError:
        return
    assert quantity.value > 0


@given(st.integers(1, 9999), st.sampled_from(sorted(UNITS)))
def test_what_is_written_for_people_reads_back(number, unit):
    quantity = parse_quantity(f"{number} {unit}")
    assert parse_quantity(str(quantity)).unit == quantity.unit
    assert parse_quantity(str(quantity)).value == pytest.approx(quantity.value, rel=6e-3)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0423, "s", "42.3 ms"),
        (0.00002, "s", "20 us"),
        (0.0, "s", "0 s"),
        (3.0, None, "3"),
        (0.072, "%", "7.2 %"),
        (0.0, "B", "0 B"),
        (-2048.0, "B", "-2 KiB"),
        (1023.0, "B", "1023 B"),
        (3.5 * 2**20, "B", "3.5 MiB"),
        (2.0**31, "B", "2 GiB"),
    ],
)
def test_a_figure_is_written_in_a_fitting_unit(value, unit, text):
    assert format_quantity(value, unit) == text

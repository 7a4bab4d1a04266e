"""Predictions of the operations of the `cpu` backend."""

import pytest
from cpu_predictions import CYCLES, Bounds, attention, product


def test_the_slower_bound_decides():
    bounds = Bounds(nbytes=2e9, cycles=3e9)
    assert bounds.seconds(1e9, 1e9, 2, counted=True) == (2.0, "memory")
    assert bounds.seconds(4e9, 1e9, 2, counted=True) == (1.5, "instructions")


def test_what_one_thread_does_is_no_faster_on_two():
    assert Bounds(nbytes=0, cycles=3e9, serial=True).seconds(1e9, 1e9, 2, counted=True)[0] == 3.0


def test_uncounted_instructions_predict_nothing():
    assert Bounds(2e9, 3e9).seconds(1e9, 1e9, 2, counted=False) == (None, "not counted")


@pytest.mark.parametrize("kind", CYCLES)
def test_a_panel_costs_no_more_for_each_token_than_one_token_does(kind):
    alone, panel = product(kind, 2560, 1, 0), product(kind, 2560, 8, 0)
    assert alone.cycles == 10 * CYCLES[kind][0]
    assert panel.cycles <= 8 * alone.cycles


def test_attention_grows_with_pairs_of_queries_and_rows():
    one, many = attention(1, 128, 0), attention(1000, 128, 0)
    assert many.cycles == 1000 * one.cycles > 0

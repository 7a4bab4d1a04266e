"""Parameters of kinds: a list is a list, and which way a number asks for more is said or left open."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.contract import load_contract
from refute.contract_files import find_contracts
from refute.kinds import BUILT_IN, kind_named
from refute.kinds.parameters import finite
from refute.units import parse_quantity

GIVEN: dict[str, Mapping[str, Any]] = {}
for _path in find_contracts(Path("/")):
    for _each in load_contract(_path).falsifiers:
        GIVEN.setdefault(_each.kind, _each.parameters)

# Numbers of which more may help a claim or harm it: a change is breaking.
NEUTRAL = {
    ("answer-form", "pieces"),
    ("answers-agree", "pieces"),
    ("answers-differ", "max_tokens"),
    ("answers-differ", "temperature"),
    ("chat-content", "pieces"),
    ("clients-leave", "clients"),
    ("clients-leave", "left_tokens"),
    ("clients-leave", "max_tokens"),
    ("context-limit", "excess"),  # more is further from the edge
    ("context-refusal", "beyond"),
    ("context-refusal", "max_tokens"),
    ("expert-load", "prompt_tokens"),
    ("first-content", "max_tokens"),
    ("greedy-equivalence", "temperature"),
    ("memory-growth", "generations"),
    ("memory-growth", "max_tokens"),
    ("memory-growth", "prompt_tokens"),
    ("memory-peak", "max_tokens"),
    ("needle-recall", "needles"),  # harder to recall, easier to bound
    ("repetition-penalty", "own_tokens"),
    ("repetition-penalty", "repeats"),
    ("repetition-penalty", "temperature"),
    ("request-rate", "clients"),
    ("request-rate", "max_tokens"),
    ("route-dispatch", "pieces"),
    ("sampling-distribution", "bins"),
    ("sampling-distribution", "confidence"),  # rejects less and detects less
    ("sampling-distribution", "prompt_tokens"),
    ("seed-sensitivity", "max_tokens"),
    ("seed-sensitivity", "temperature"),
    ("sequence-equivalence", "threads"),
    ("speed-up", "max_tokens"),
    ("speed-up", "prompt_tokens"),
    ("sse-as-whole", "pieces"),
    ("sse-events", "pieces"),
    ("sse-gap", "max_tokens"),
    ("sse-spread", "max_tokens"),
    ("stop-texts", "longest"),
    ("stop-texts", "pieces"),
    ("tok-floor", "max_tokens"),
    ("tok-floor", "prompt_tokens"),
    ("token-logprobs", "pieces"),
    ("token-logprobs", "top"),
}
NO_NUMBERS = {"of", "statistic", "testbeds"}


def numbers(kind: str) -> set[str]:
    """The numbers that a contract gives: in the bound, and parameters that are numbers or quantities."""
    kind_type = kind_named(kind)
    hints = get_type_hints(kind_type.parameters_type)
    found = {name for name, hint in hints.items() if hint in (int, float)}
    for name, value in GIVEN[kind].items():
        if isinstance(value, str):
            try:
                parse_quantity(value)
            except ValueError:
                continue
            found.add(name)
    return found | (kind_type.bound_fields - NO_NUMBERS)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_number_has_a_stricter_way_or_is_neutral(kind: str) -> None:
    neutral = {name for of, name in NEUTRAL if of == kind}
    stricter = set(kind_named(kind).stricter)
    assert numbers(kind) - stricter == neutral
    every = {each.name for each in dataclasses.fields(kind_named(kind).parameters_type)}
    assert stricter <= every | {"above", "below", "within", "confidence", "runs", "cases"}


LISTS = [
    (kind, name)
    for kind in BUILT_IN
    for name, hint in get_type_hints(kind_named(kind).parameters_type).items()
    if get_origin(hint) is tuple
]


@pytest.mark.parametrize(("kind", "name"), LISTS)
@pytest.mark.parametrize("value", ["extend", 0, {"a": 1}])
def test_what_is_no_list_is_said_to_be_none(kind: str, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .*, expected a list$"):
        kind_named(kind).of({**GIVEN[kind], name: value})


@pytest.mark.parametrize(
    ("kind", "name", "value", "sentence"),
    [
        ("repetition-penalty", "ranks", ["a"], "^a rank is 'a', expected a quantity in %$"),
        ("sequence-equivalence", "operations", [["extend"]], "expected extend, and any of"),
        ("needle-recall", "depths", [[0]], "expected numbers from 0 to 1"),
        (
            "sampling-distribution",
            "settings",
            ["a"],
            "^settings has 'a', expected sampling settings by name$",
        ),
        ("cache-equivalence", "margin", "5", "^margin is '5', expected a quantity in logit$"),
    ],
)
def test_a_wrong_entry_is_one_sentence(kind: str, name: str, value: object, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=sentence):
        kind_named(kind).of({**GIVEN[kind], name: value})


@given(st.lists(st.none() | st.floats() | st.just(1e308), max_size=6))
def test_values_are_finite_where_each_one_is(values: list[float | None]) -> None:
    assert finite(values) is all(value is not None and math.isfinite(value) for value in values)

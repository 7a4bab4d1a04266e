"""The matrix: what is caught by whom, what nobody catches, who is never alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from records import blank, contract_at

from refute.finding import FaultTrial
from refute.matrix import Matrix

Trials = list[FaultTrial]


def trial(name: str, caught: bool, *, dose: float = 1.0, must: bool = False, planted: str = "target"):
    return FaultTrial(name, dose, "rows", planted, must, caught, "why", ())


@pytest.fixture
def matrix(tmp_path) -> Callable[..., Matrix]:
    """Make the matrix of findings with these trials, by the falsifier's name."""
    contract = contract_at(tmp_path)
    template = blank(contract, contract.falsifiers[0], "20261124T000000.000Z-00000000")

    def make(**falsifiers: Trials) -> Matrix:
        return Matrix.of(
            replace(template, falsifier=name, faults=tuple(trials)) for name, trials in falsifiers.items()
        )

    return make


def named(made: Matrix) -> Mapping[str, list[str]]:
    return {fault: [each.partition("/")[2] for each in made.catchers(fault)] for fault in made.faults}


def test_a_fault_is_a_hole_only_if_it_was_planted_and_nobody_caught_it(matrix) -> None:
    made = matrix(
        one=[trial("seen", True), trial("unseen", False), trial("nowhere", False, planted="nowhere")],
        two=[trial("seen", False), trial("unseen", False), trial("nowhere", False, planted="nowhere")],
    )
    assert named(made) == {"seen": ["one"], "unseen": [], "nowhere": []}
    assert made.holes == ("unseen",)
    assert made.unplanted == ("nowhere",)


def test_a_falsifier_is_never_alone_if_others_catch_all_that_it_catches(matrix) -> None:
    made = matrix(
        one=[trial("a", True), trial("b", True)],
        two=[trial("a", True), trial("b", False)],
        three=[trial("a", False), trial("b", False)],
    )
    assert [each.partition("/")[2] for each in made.never_alone] == ["two"]


def test_a_cell_has_the_first_dose_and_the_smallest_one_caught(matrix) -> None:
    doses = [trial("a", True, dose=8.0, must=True), trial("a", True, dose=2.0), trial("a", False, dose=1.0)]
    (cell,) = matrix(one=doses).cells
    assert (cell.dose, cell.smallest_caught, cell.must, cell.caught) == (8.0, 2.0, True, True)
    (missed,) = matrix(one=[trial("a", False)]).cells
    assert missed.smallest_caught is None


def test_falsifiers_without_cells_are_named_with_their_reason(matrix) -> None:
    made = matrix(one=[])
    ((name, reason),) = made.unattacked
    assert name.endswith("/one")
    assert reason == "error: the falsifier broke"

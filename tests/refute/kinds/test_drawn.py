"""What a picture shows of a claim's samples is what its judgement speaks of, one figure for each of them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from refute.contract import Falsifier, load_contract
from refute.contract_files import find_contracts
from refute.kinds import kind_named
from refute.kinds.base import Drawn, Observation
from refute.verdict import Judgement, Outcome

CONTRACTS = Path(__file__).parents[3] / "contracts"


@pytest.fixture(scope="module")
def declared() -> Mapping[str, Falsifier]:
    """One falsifier of every kind that a bundled contract uses."""
    paths = find_contracts(Path(), [CONTRACTS])
    return {each.kind: each for path in paths for each in load_contract(path).falsifiers}


def seen(*samples: Mapping[str, Any], case: Mapping[str, Any] | None = None) -> list[Observation]:
    return [Observation(case or {"run": n, "prompt": [n]}, each) for n, each in enumerate(samples)]


def drawn(falsifier: Falsifier, observations: Sequence[Observation]) -> tuple[Drawn | None, Judgement]:
    kind = kind_named(falsifier.kind).of(falsifier.parameters)
    judgement = kind.judge(observations, falsifier.bound)
    return kind.drawn(observations, judgement), judgement


def test_a_measured_claim_shows_every_run_and_the_interval_of_its_median(
    declared: Mapping[str, Falsifier],
) -> None:
    falsifier = declared["tok-floor"]
    spans = range(1, 16)
    shown, judgement = drawn(falsifier, seen(*({"token_ns": [0, span * 10**8]} for span in spans)))
    assert shown is not None
    assert (shown.each, shown.statistic) == ("run", "median")
    assert list(shown.figures) == [pytest.approx(10 / span) for span in spans]
    assert shown.interval == (judgement.lower, judgement.upper)


def test_a_measured_claim_with_too_few_runs_shows_them_without_an_interval(
    declared: Mapping[str, Falsifier],
) -> None:
    shown, _ = drawn(declared["tok-floor"], seen({"token_ns": [0, 10**9]}))
    assert shown == Drawn([1.0], "run")


def test_a_claim_without_a_quantity_shows_none(declared: Mapping[str, Falsifier]) -> None:
    kind = kind_named("cache-equivalence").of(declared["cache-equivalence"].parameters)
    assert kind.drawn([], Judgement(Outcome.SURVIVED, "", 0, 0)) is None


def test_memory_shows_the_growth_of_every_process(declared: Mapping[str, Falsifier]) -> None:
    grown = [{"peak": 100 + n, "file_after": 0, "anonymous_before": 0} for n in range(5)]
    samples = ({"bytes": each, "needed": {"weights": 60, "cache": 40}} for each in grown)
    shown, judgement = drawn(declared["memory-peak"], seen(*samples))
    assert shown == Drawn([1.0, 1.01, 1.02, 1.03, 1.04], "process")
    assert max(shown.figures) == judgement.point


def test_errors_of_logits_are_shown_per_position_and_what_is_not_finite_as_nan(
    declared: Mapping[str, Falsifier],
) -> None:
    fine = {"cosine": 1.0, "finite": True, "margin": 1.0, "chosen": 1, "reference": 1}
    nonsense = {**fine, "error": None, "cosine": None, "finite": False}
    samples = {
        "positions": [{**fine, "error": 0.25}, nonsense, {**fine, "error": 0.5}],
        "implementations": [],
    }
    shown, judgement = drawn(declared["logit-error"], seen(samples))
    assert shown is not None
    assert shown.each == "position"
    assert [shown.figures[0], shown.figures[2], judgement.point] == [0.25, 0.5, 0.5]
    assert math.isnan(shown.figures[1])


def test_errors_at_far_positions_are_shown_per_position(declared: Mapping[str, Falsifier]) -> None:
    samples = {"last_position": 9, "errors": [1e-6, None, 2e-6]}
    shown, _ = drawn(declared["far-equivalence"], seen(samples))
    assert shown is not None
    assert math.isnan(shown.figures[1])
    assert [shown.figures[0], shown.figures[2]] == [1e-6, 2e-6]


def test_a_sampler_shows_how_far_every_bin_is_off(declared: Mapping[str, Falsifier]) -> None:
    falsifier = declared["sampling-distribution"]
    bins = falsifier.parameters["bins"]
    assert isinstance(bins, int)
    places = [(n + 0.5) / bins for n in range(bins)] + [0.5 / bins]
    shown, judgement = drawn(falsifier, seen({"places": places, "outside": 0, "tokens": []}))
    assert shown is not None
    assert len(shown.figures) == bins
    assert shown.figures[0] == max(shown.figures) == judgement.point


def test_recall_is_shown_for_every_length_and_depth_that_was_asked(
    declared: Mapping[str, Falsifier],
) -> None:
    falsifier = declared["needle-recall"]
    parameters: Any = falsifier.parameters
    length, depth = parameters["prompt_tokens"][0], parameters["depths"][0]
    needles = [{"key": "k", "value": "v", "depth": depth}] * 4
    case = {"run": 0, "prompt_tokens": length, "page": "", "needles": needles}
    answers = [{"depth": depth, "back": 1, "said": said} for said in ("v", "v", "v", "x")]
    shown, _ = drawn(falsifier, seen({"tokens": 1, "answers": answers}, case=case))
    assert shown == Drawn([0.75], "cell")


def test_routing_shows_the_largest_error_of_a_weight_per_sequence(declared: Mapping[str, Falsifier]) -> None:
    kind = kind_named("experts-as-reference").of(declared["experts-as-reference"].parameters)
    judgement = Judgement(Outcome.SURVIVED, "", 0, 0)
    shown = kind.drawn(seen({"weight_error": 1e-7}, {"weight_error": None}), judgement)
    assert shown is not None
    assert shown.figures[0] == 1e-7
    assert math.isnan(shown.figures[1])


def test_the_load_is_shown_for_every_expert(declared: Mapping[str, Falsifier]) -> None:
    samples = {"experts": 4, "chosen": [[0, 1]], "used": [[0, 1]]}
    shown, judgement = drawn(declared["expert-load"], seen(samples, {**samples, "chosen": [[0, 2]]}))
    assert shown is not None
    assert sorted(shown.figures) == [0.0, 0.5, 0.5, 1.0]
    assert max(shown.figures) == judgement.point


def test_every_kind_that_holds_a_quantity_to_a_bound_can_be_drawn(declared: Mapping[str, Falsifier]) -> None:
    quantities = {
        kind for kind, each in declared.items() if any(map(dataclasses.asdict(each.bound).get, THRESHOLDS))
    }
    base = kind_named("cache-equivalence").drawn
    assert {kind for kind in quantities if kind_named(kind).drawn is base} == set()


THRESHOLDS = ("above", "below", "within")

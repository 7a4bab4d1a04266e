"""The penalty's law is applied outside the engine, and a case counts where a rival law would show."""

from dataclasses import replace

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.penalty import PenaltyParameters, RepetitionPenalty, penalised
from refute.targets.fake import FakeTarget

PARAMETERS = PenaltyParameters(
    max_tokens=24,
    prompt_tokens=(4, 16),
    repeats=2,
    own_tokens=4,
    penalties=(1.3,),
    ranks=(1, "30 %"),
    temperature=20.0,
    margin="0.001 logit",
    rivals=("ignored",),
)
KIND = RepetitionPenalty(PARAMETERS)
CASE = {"prompt": list(range(40, 56)), "penalty": 1.3, "rank": 77, "seed": 5, "max_tokens": 28}


def seen(below: list[float] | None = None, **rivals: list[float]) -> Observation:
    quiet = [0.0, 0.0]
    samples = {"below": below or quiet, "rivals": rivals or {"ignored": quiet}}
    return Observation(CASE, {"prompt": [1], "tokens": [2, 3], **samples})


def test_the_law_penalises_each_token_of_the_past_once() -> None:
    logits = np.array([2.0, -2.0, 3.0, -3.0], np.float32)
    assert penalised(logits, [0, 1, 1, 0, 0], 2, 2.0).tolist() == [1.0, -4.0, 3.0, -3.0]


def test_the_law_leaves_the_logits_alone_at_one_and_without_a_past() -> None:
    logits = np.array([2.0, -2.0], np.float32)
    assert penalised(logits, [0, 1], 1, 1.0).tolist() == penalised(logits, [], 0, 2.0).tolist() == [2.0, -2.0]


def test_a_token_below_the_last_allowed_one_refutes_beyond_a_tie() -> None:
    assert KIND.refutes(seen(below=[0.0, 0.0011]))
    assert not KIND.refutes(seen(below=[0.0, 0.001]))


def test_a_case_counts_where_every_rival_law_would_have_shown() -> None:
    assert KIND.informative(seen(ignored=[0.0, 0.0011]))
    assert not KIND.informative(seen(ignored=[0.0, 0.001]))
    assert KIND.informative(seen(ignored=[0.0, 0.0011], twice=[0.0011, 0.0]))
    assert not KIND.informative(seen(ignored=[0.0, 0.0011], twice=[0.001, 0.0]))


@pytest.mark.parametrize("rank", [1, 77, 257])
def test_an_honest_engine_is_not_refuted(rank: int) -> None:
    observation = KIND.observe(FakeTarget(0), {**CASE, "rank": rank})
    assert len(observation.samples["tokens"]) == PARAMETERS.max_tokens
    assert not KIND.refutes(observation)


def test_where_every_token_is_allowed_nothing_is_learned() -> None:
    assert not KIND.informative(KIND.observe(FakeTarget(0), {**CASE, "rank": 257}))


RIVALS = [
    ("penalty-ignored", 1.0, "ignored", {}),
    ("penalty-twice", 1.0, "twice", {}),
    ("penalty-window", 1000.0, "answer-only", {}),
    ("penalty-per-occurrence", 1.0, "per-occurrence", {"prompt": [40, 41, 42, 43] * 4}),
    ("penalty-sign", 1.0, "always-divided", {"rank": 220, "penalty": 5.0}),
    ("penalty-at-one", 0.3, "never-neutral", {"penalty": 1.0}),
]


@pytest.mark.parametrize(("fault", "dose", "rival", "changes"), RIVALS, ids=[each[0] for each in RIVALS])
def test_each_rival_law_is_told_apart_and_the_engine_that_follows_it_is_refuted(
    fault: str, dose: float, rival: str, changes: dict[str, float]
) -> None:
    kind = RepetitionPenalty(replace(PARAMETERS, max_tokens=64, rivals=(rival,)))
    case = {**CASE, **changes}
    with FakeTarget(0).plant(Fault(fault, dose)) as faulty:
        observation = kind.observe(faulty, case)
    assert kind.informative(observation)
    assert kind.refutes(observation)
    assert not kind.refutes(kind.observe(FakeTarget(0), case))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalties": (0.0,)}, "above 0"),
        ({"temperature": 0}, "above 0"),
        ({"ranks": (0,)}, "whole number of at least 1"),
        ({"ranks": ("3 x",)}, "quantity in %"),
        ({"ranks": ()}, "at least one"),
        ({"penalties": ()}, "at least one"),
        ({"margin": "1 %"}, "quantity in logit"),
        ({"rivals": ("nobody",)}, "expected one or more of ignored"),
        ({"rivals": ()}, "expected one or more of ignored"),
        ({"rivals": "ignored"}, "expected a list"),
        ({"repeats": 0}, "repeats"),
        ({"own_tokens": -1}, "own_tokens"),
    ],
)
def test_bad_parameters_are_refused_with_a_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PARAMETERS, **changes)

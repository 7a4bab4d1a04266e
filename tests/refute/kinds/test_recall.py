"""Recall is judged by exact bounds per cell."""

from dataclasses import replace

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.recall import NeedleRecall
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome

NEEDLES = {"prompt_tokens": [200, 40], "depths": [0], "needles": 3, "answer_tokens": 12}
RECALL = NeedleRecall.of(NEEDLES)
MOST = Bound(confidence=0.95, above=0.55, unit="%", runs=8)


def recall(target, runs=8, kind=RECALL) -> list[Observation]:
    return [kind.observe(target, case) for case in kind.plan(target, runs, seed=1)]


def page_with(length: int, *answers: bool) -> Observation:
    needles = [{"key": "k", "value": "yes", "depth": 0} for _ in answers]
    said = [{"depth": 0, "back": length, "said": "yes." if right else "no"} for right in answers]
    return Observation({"prompt_tokens": length, "needles": needles}, {"answers": said})


def pages(wrong_far: int, wrong_near: int = 0) -> list[Observation]:
    """Four pages of each length, three needles each, of which so many are missed."""
    far = [i >= wrong_far for i in range(12)]
    near = [i >= wrong_near for i in range(12)]
    return [
        page_with(length, *answers[i : i + 3])
        for i in range(0, 12, 3)
        for length, answers in ((200, far), (40, near))
    ]


def test_an_honest_engine_recalls_and_says_from_how_far() -> None:
    observations = recall(FakeTarget(0))
    assert RECALL.judge(observations, MOST).outcome is Outcome.SURVIVED
    assert not RECALL.caught(observations, MOST)
    assert min(answer["back"] for answer in observations[0].samples["answers"]) >= 200


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        (0, Outcome.SURVIVED),  # 12 of 12 show 77.9 %
        (2, Outcome.SURVIVED),  # 56.2 %
        (3, Outcome.INCONCLUSIVE),  # 47.3 %
        (8, Outcome.INCONCLUSIVE),
        (9, Outcome.INCONCLUSIVE),  # at most 57.2 % at half the miss
        (10, Outcome.FALSIFIED),
        (12, Outcome.FALSIFIED),
    ],
)
def test_the_worst_cell_decides_by_its_exact_bounds(wrong, outcome) -> None:
    judgement = RECALL.judge(pages(wrong), MOST)
    assert judgement.outcome is outcome
    assert (judgement.n, judgement.violations) == (24, wrong)


def test_both_cells_have_to_pass() -> None:
    assert RECALL.judge(pages(0, 3), MOST).outcome is Outcome.INCONCLUSIVE


def test_a_cell_that_was_not_asked_is_not_green() -> None:
    far_only = [each for each in pages(0) if each.case["prompt_tokens"] == 200] * 2
    assert RECALL.judge(far_only, MOST).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("wrong", range(13))
def test_caught_as_soon_as_the_planned_questions_cannot_survive(wrong) -> None:
    survives = RECALL.judge(pages(wrong), MOST).outcome is Outcome.SURVIVED
    assert RECALL.caught(pages(wrong), MOST) is not survives
    assert RECALL.caught(pages(wrong)[:2], MOST) is (min(wrong, 3) > 2)  # of 3 questions in 12


@pytest.mark.parametrize(
    ("fault", "depths"),
    [
        (Fault("attention-window", 64), [0]),
        (Fault("oldest-rows-lost", 64), [0]),
        (Fault("middle-rows-lost", 0.5), [0, 0.5, 1]),
    ],
    ids=str,
)
def test_rows_that_are_not_read_are_not_recalled(fault, depths) -> None:
    kind = NeedleRecall.of({**NEEDLES, "prompt_tokens": [200], "depths": depths})
    with FakeTarget(0).plant(fault) as faulty:
        assert kind.caught(recall(faulty, 4, kind), MOST)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt_tokens": []}, "prompt_tokens is"),
        ({"prompt_tokens": [0]}, "prompt_tokens is 0"),
        ({"depths": [0, 0]}, "different values"),
        ({"depths": [1.5]}, "depths has 1.5"),
        ({"needles": 0}, "needles is 0"),
        ({"needles": 1000}, "at most"),
        ({"answer_tokens": True}, "answer_tokens is True"),
    ],
)
def test_parameters_that_ask_nothing_are_refused(change, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        NeedleRecall.of({**NEEDLES, **change})


def test_fewer_pages_than_planned_are_inconclusive() -> None:
    assert RECALL.judge(pages(0), replace(MOST, runs=9)).outcome is Outcome.INCONCLUSIVE

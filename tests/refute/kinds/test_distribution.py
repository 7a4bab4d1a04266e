"""The distribution claim: an exact law, places that are uniform, and a test with known errors."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.distribution import DistributionParameters, SamplingDistribution, probabilities
from refute.targets.base import Sampling
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome

KIND = SamplingDistribution(
    DistributionParameters(
        max_tokens=32,
        prompt_tokens=8,
        bins=8,
        settings=({"temperature": 1.0}, {"temperature": 1.5, "top_k": 5}),
    )
)
BOUND = Bound(confidence=0.999, of="bin-probability", within=0.06, unit="%", runs=20)


def places(per_run: list[list[float]], outside: int = 0) -> list[Observation]:
    return [Observation({"run": i}, {"places": p, "outside": outside}) for i, p in enumerate(per_run)]


def uniform(runs: int, each: int, power: float = 1.0) -> list[list[float]]:
    random = Random(7)
    return [[random.random() ** power for _ in range(each)] for _ in range(runs)]


def test_uniform_places_survive_and_say_what_would_have_been_detected() -> None:
    judgement = KIND.judge(places(uniform(20, 60)), BOUND)
    assert judgement.outcome is Outcome.SURVIVED
    assert judgement.upper is not None
    assert judgement.upper <= 0.06


def test_places_that_crowd_at_one_end_falsify() -> None:
    assert KIND.judge(places(uniform(20, 60, power=1.5)), BOUND).outcome is Outcome.FALSIFIED


def test_one_token_outside_the_support_falsifies() -> None:
    assert KIND.judge(places(uniform(20, 60), outside=1), BOUND).outcome is Outcome.FALSIFIED


@pytest.mark.parametrize(("runs", "each"), [(19, 60), (20, 5), (20, 0), (0, 0)])
def test_too_few_choices_to_see_the_effect_are_inconclusive(runs: int, each: int) -> None:
    assert KIND.judge(places(uniform(runs, each)), BOUND).outcome is Outcome.INCONCLUSIVE


def test_an_honest_engine_survives_and_a_hotter_one_does_not() -> None:
    honest, bound = FakeTarget(3), replace(BOUND, within=0.09)
    cases = KIND.plan(honest, 20, seed=11)
    assert KIND.judge([KIND.observe(honest, case) for case in cases], bound).outcome is Outcome.SURVIVED
    with honest.plant(Fault("temperature-scaled", 1.5)) as hot:
        assert KIND.caught([KIND.observe(hot, case) for case in cases], bound)


logit_rows = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=40).map(np.float32)


@given(
    logit_rows,
    st.floats(0.1, 5),
    st.integers(0, 45),
    st.floats(0.05, 1),
    st.floats(0, 0.9),
)
def test_the_law_is_a_distribution_over_the_truncated_support(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    law = probabilities(logits, Sampling(temperature, top_k, top_p, min_p))
    assert law.sum() == pytest.approx(1)
    assert law[np.argmax(logits)] > 0
    assert top_k == 0 or np.count_nonzero(law) <= top_k
    dropped = logits[law == 0]
    assert dropped.size == 0 or dropped.max() <= logits[law > 0].min()


def test_truncations_apply_after_the_temperature_in_their_order() -> None:
    logits = np.log(np.float64([0.5, 0.3, 0.15, 0.05]))
    assert probabilities(logits, Sampling(1.0, top_k=2)) == pytest.approx([0.625, 0.375, 0, 0])
    assert probabilities(logits, Sampling(1.0, top_p=0.79)) == pytest.approx([0.625, 0.375, 0, 0])
    three = [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]
    assert probabilities(logits, Sampling(1.0, top_p=0.81)) == pytest.approx(three)
    assert probabilities(logits, Sampling(1.0, min_p=0.5)) == pytest.approx([0.625, 0.375, 0, 0])
    squared = np.square([0.5, 0.3, 0.15, 0.05])
    assert probabilities(logits, Sampling(0.5)) == pytest.approx(squared / squared.sum())


def test_equal_logits_keep_the_lower_id() -> None:
    assert probabilities(np.zeros(4), Sampling(1.0, top_k=1)) == pytest.approx([1, 0, 0, 0])


@pytest.mark.parametrize("settings", [(), ({"temperature": 0.0},), ({"top_k": 3},)])
def test_settings_without_a_temperature_are_refused(settings: tuple[dict[str, float], ...]) -> None:
    with pytest.raises(ValueError, match="temperature above 0"):
        DistributionParameters(max_tokens=8, prompt_tokens=4, bins=8, settings=settings)

"""Exact logits at far positions, and a limit that is kept."""

import pytest

from refute.contract import Bound
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.long_context import ContextLimit, FarEquivalence
from refute.search import first_counterexample
from refute.targets.base import Request, TargetError
from refute.targets.fake import FakeTarget
from refute.targets.fake_model import CONTEXT
from refute.verdict import Outcome

FAR = FarEquivalence.of({"positions": [150, 300], "decoded": 3})
NEAR = Bound(confidence=0.95, within=0.01, unit="logit", runs=2)
LIMIT = ContextLimit.of({"excess": 64})


def test_far_positions_are_exact_up_to_the_context() -> None:
    kind = FarEquivalence.of({"positions": [CONTEXT + 1], "decoded": 2})
    target = FakeTarget(0)
    (case,) = kind.plan(target, 1, seed=0)
    observation = kind.observe(target, case)
    assert observation.samples == {"last_position": CONTEXT, "errors": [0.0, 0.0]}


@pytest.mark.parametrize("fault", [Fault("rope-drift", 0.01), Fault("oldest-rows-lost", 1)], ids=str)
def test_far_faults_turn_it_red(fault) -> None:
    with FakeTarget(0).plant(fault) as faulty:
        observations = [FAR.observe(faulty, case) for case in FAR.plan(faulty, 1, seed=0)]
    assert FAR.caught(observations, NEAR)
    assert FAR.judge(observations, NEAR).outcome is Outcome.FALSIFIED


def errors(*values, last: int = 300) -> Observation:
    return Observation({}, {"last_position": last, "errors": list(values)})


@pytest.mark.parametrize(
    ("observations", "outcome"),
    [
        ([errors(0.0), errors(0.01)], Outcome.SURVIVED),
        ([errors(0.0, last=299), errors(0.01, last=64)], Outcome.INCONCLUSIVE),
        ([errors(0.0), errors(0.0, 0.011)], Outcome.FALSIFIED),
        ([errors(0.0), errors(None)], Outcome.FALSIFIED),
        ([errors(0.0)], Outcome.INCONCLUSIVE),
        ([], Outcome.INCONCLUSIVE),
    ],
)
def test_one_position_that_is_off_or_not_finite_refutes(observations, outcome) -> None:
    judgement = FAR.judge(observations, NEAR)
    assert judgement.outcome is outcome
    assert FAR.caught(observations, NEAR) is (outcome is Outcome.FALSIFIED)
    assert FAR.figure(judgement, NEAR)


def limit_case(excess: int, *, long: bool = False) -> dict:
    return {"seed": 5, "excess": excess, "long": long, "context": CONTEXT, "after_nothing": 3}


@pytest.mark.parametrize(
    ("excess", "long", "outcome"),
    [(0, False, "served"), (1, False, "refused"), (1, True, "refused"), (64, True, "refused")],
)
def test_the_limit_is_kept_to_the_position(excess, long, outcome) -> None:
    observation = LIMIT.observe(FakeTarget(0), limit_case(excess, long=long))
    assert observation.samples["limit"]["outcome"] == outcome
    assert observation.samples["empty"]["outcome"] == "refused"
    assert not LIMIT.refutes(observation)


@pytest.mark.parametrize("long", [False, True])
def test_a_request_that_is_cut_to_fit_refutes(long) -> None:
    with FakeTarget(0).plant(Fault("context-unchecked", 1)) as faulty:
        cut = LIMIT.observe(faulty, limit_case(1, long=long))
        beyond = LIMIT.observe(faulty, limit_case(2, long=long))
    assert LIMIT.refutes(cut)
    assert not LIMIT.refutes(beyond)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_prompt_that_is_made_up_refutes(excess) -> None:
    with FakeTarget(0).plant(Fault("empty-admitted", 1)) as faulty:
        made_up = LIMIT.observe(faulty, limit_case(excess))
    assert made_up.samples["empty"] == {"outcome": "served", "sentence": None, "tokens": 3}
    assert LIMIT.refutes(made_up)


@pytest.mark.parametrize("seed", range(20))
def test_every_search_has_an_empty_prompt_and_finds_a_share_of_them(seed) -> None:
    with FakeTarget(0).plant(Fault("empty-admitted", 0.5)) as faulty:
        (found,) = first_counterexample(LIMIT, faulty, cases=2, seed=seed)
    assert LIMIT.refutes(found)


class Late(FakeTarget):
    """Fails when it is full, after it has computed; or refuses what it should serve, without saying why."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0)
        self.error = error

    def generate(self, request: Request):
        raise self.error


def test_failing_on_the_way_is_no_refusal() -> None:
    late = Late(TargetError(f"the cache is full after {CONTEXT} rows"))
    assert LIMIT.refutes(LIMIT.observe(late, limit_case(1)))
    assert LIMIT.refutes(LIMIT.observe(late, limit_case(0)))


def came(outcome: str, sentence: str | None = None, tokens: int = 0) -> dict:
    return {"outcome": outcome, "sentence": sentence, "tokens": tokens}


NAMED = came("refused", f"more than {CONTEXT}")
EMPTY = came("refused", "the prompt is empty")


@pytest.mark.parametrize(
    ("excess", "limit", "empty", "refuted"),
    [
        (1, NAMED, EMPTY, False),
        (1, came("refused", "too long"), EMPTY, True),
        (1, came("failed", f"more than {CONTEXT}"), EMPTY, True),
        (1, came("served", tokens=1), EMPTY, True),
        (1, NAMED, came("refused", "bad request"), True),
        (1, NAMED, came("failed", "the prompt is empty"), True),
        (1, NAMED, came("served", tokens=0), True),
        (0, came("served", tokens=1), EMPTY, False),
        (0, came("served", tokens=0), EMPTY, True),
        (0, NAMED, EMPTY, True),
        (0, came("served", tokens=1), came("served", tokens=1), True),
    ],
)
def test_a_refusal_names_the_context_or_the_prompt(excess, limit, empty, refuted) -> None:
    samples = {"needed": CONTEXT + excess, "limit": limit, "empty": empty}
    assert LIMIT.refutes(Observation(limit_case(excess), samples)) is refuted

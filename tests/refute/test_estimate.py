"""How long attacks may take: from records where there are some, else from what is measured."""

import dataclasses

import pytest

from refute.estimate import Estimate, Ground, Known, Pace, estimate, pace_of, went
from refute.targets.base import TargetError
from refute.targets.fake import FakeTarget

HERE = {"engine": "runtime", "model": "large", "testbed": "host"}
SLOW, QUICK = Pace(0.1, 1.0), Pace(0.001, 0.01)


def known(seconds, **changes):
    return Known(**{**HERE, **changes}, seconds=seconds)


def ground(**changes):
    return Ground(**HERE, capabilities={"token_ids", "tokenizer"}, **changes)


def told(falsifier, *records, **changes):
    return estimate(falsifier, records, ground(**changes))


@pytest.fixture
def falsifier(contract):
    return dataclasses.replace(
        contract.falsifiers[0], parameters={"prompt_tokens": [10, 30], "max_tokens": 4, "repeats": 3}
    )


def test_the_newest_record_on_this_engine_model_and_testbed_counts(falsifier):
    others = [known(7.0, engine="x"), known(8.0, testbed="x"), known(9.0, model="x")]
    assert told(falsifier, known(1.0), known(2.0), *others) == Estimate(2.0, "a record")


def test_a_host_that_is_more_crowded_than_then_takes_longer(falsifier):
    assert told(falsifier, known(2.0, crowding=2.0), crowding=3.0).seconds == 3.0
    assert told(falsifier, known(2.0), crowding=1.5).seconds == 3.0


def test_a_record_on_another_model_is_scaled_by_what_a_token_takes_on_both(falsifier):
    found = told(falsifier, known(2.0, model="small"), pace=SLOW, others={"small": QUICK})
    assert found == Estimate(200.0, "a record on another model")


def test_without_records_sizes_times_what_tokens_take_are_the_least(falsifier):
    found = told(falsifier, pace=SLOW)
    # 3 cases of (20 x 0.1 + 4 x 1) s, 3 times each
    assert (found.basis, found.least, round(found.seconds - 0.3, 6)) == ("sizes", True, 3 * 6 * 3)


def test_sizes_are_corrected_by_how_others_went_here(falsifier):
    plain = told(falsifier, pace=SLOW).seconds
    found = told(falsifier, pace=SLOW, went=2.5)
    assert found == Estimate(plain * 2.5, "sizes, as others went")


def test_how_others_went_is_the_middle_of_records_on_this_host_whatever_the_model(falsifier):
    at = ground(pace=SLOW, others={"small": QUICK}, crowding=2.0)
    own, small = told(falsifier, pace=SLOW).seconds, told(falsifier, pace=QUICK).seconds
    records = [
        (falsifier, [known(9 * own), known(2 * own)]),
        (falsifier, [known(3 * small, model="small")]),
        (falsifier, [known(8 * own, crowding=2.0)]),
        (falsifier, [known(50 * own, testbed="x"), known(50 * own, engine="x"), known(50 * own, model="x")]),
    ]
    assert went(records, at) == pytest.approx(6.0)  # of 4, 6 and 8: the host is twice as crowded as then
    assert went(records[:2], at) is None


def test_what_has_the_model_compute_nothing_takes_no_longer_on_a_large_one(falsifier):
    falsifier = dataclasses.replace(falsifier, requires=("tokenizer",))
    assert told(falsifier, known(2.0, model="small"), pace=SLOW, others={"small": QUICK}).seconds == 2.0
    assert told(falsifier, pace=Pace(10.0, 100.0)).seconds < 1


def test_what_does_not_apply_takes_no_time(falsifier):
    falsifier = dataclasses.replace(falsifier, requires=("token_ids", "reference"))
    assert told(falsifier, pace=Pace(1.0, 1.0)) == Estimate(0.0, "it does not apply")


def test_where_nothing_is_known_nothing_is_said(falsifier):
    assert told(falsifier) == Estimate(None, "nothing", least=True)


class Clocked(FakeTarget):
    """Answers that take what they are told to: per token of the prompt, and per token."""

    def __init__(self):
        super().__init__(1)
        self.now = 0.0

    def generate(self, request):
        self.now += 0.01 * len(request.prompt) + 0.5 * request.max_tokens
        return super().generate(request)


def test_a_pace_is_measured_by_two_answers():
    target = Clocked()
    pace = pace_of(target, clock=lambda: target.now)
    assert (round(pace.prompt_token, 2), round(pace.token, 2)) == (
        0.04,
        0.5,
    )  # one token more in the prompt's


class Hiccup(FakeTarget):
    """Quick, but for one answer."""

    def __init__(self):
        super().__init__(1)
        self.now, self.answers = 0.0, 0

    def generate(self, request):
        self.answers += 1
        self.now += 0.9 if self.answers == 2 else 0.001 * request.max_tokens
        return super().generate(request)


def test_a_pace_is_measured_again_while_that_is_quick():
    target = Hiccup()
    assert pace_of(target, clock=lambda: target.now).token == pytest.approx(0.001)


def test_of_a_target_that_gives_no_tokens_nothing_is_measured(monkeypatch):
    target = FakeTarget(1)
    monkeypatch.setattr(FakeTarget, "capabilities", frozenset({"http"}))
    assert pace_of(target) is None


def test_a_target_that_fails_is_not_measured(monkeypatch):
    def fails(self, request):
        raise TargetError("no")

    monkeypatch.setattr(FakeTarget, "generate", fails)
    assert pace_of(FakeTarget(1)) is None

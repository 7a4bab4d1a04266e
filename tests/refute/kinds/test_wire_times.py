"""Times of streams: what the figure is, and what is no figure and lets nothing survive."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from wire_replies import DONE, MS, ROLE, delta, reply, stream, usage

from refute.contract import Bound
from refute.kinds.base import Observation
from refute.kinds.wire_requests import Repeated
from refute.kinds.wire_times import FirstContent, GapParameters, SseGap, SseSpread, Timed, times_of
from refute.targets.fake import FakeTarget
from refute.verdict import Outcome
from refute.wire.answers import Answer

CASE = {"run": 0, "content": "Repeat: a", "max_tokens": 4, "sampling": {"temperature": 0}}
SPREAD = SseSpread(Repeated(max_tokens=4))
MEDIAN = SseGap(GapParameters(max_tokens=4, gap="median"))
LONGEST = SseGap(GapParameters(max_tokens=4, gap="longest"))
FIRST = FirstContent(Repeated(max_tokens=4))
KINDS: Sequence[Timed[Any]] = (SPREAD, MEDIAN, LONGEST, FIRST)
BELOW = Bound(confidence=0.9, of="x", statistic="median", runs=4, below=0.5, unit="s")


def timed(*content: int, end: int = 100, tokens: int | None = 4, failed: str | None = None) -> Observation:
    """Times in ms."""
    samples = {
        "failed": failed,
        "content_ns": [moment * MS for moment in content],
        "end_ns": end * MS,
        "tokens": tokens,
        "instrument": {"gap_ns": 7_000, "lag_ns": 9_000},
    }
    return Observation(CASE, samples)


GOOD = timed(10, 20, 30, 90)


def test_the_figures() -> None:
    assert SPREAD.measure(GOOD) == pytest.approx(0.8)
    assert MEDIAN.measure(GOOD) == pytest.approx(0.010)
    assert LONGEST.measure(GOOD) == pytest.approx(0.060)
    assert FIRST.measure(GOOD) == pytest.approx(0.010)


def test_times_are_those_of_events_with_content() -> None:
    answer = stream(ROLE, delta(content="a"), delta(content="b"), delta("stop"), usage(3), DONE)
    assert times_of(Answer.of(answer)) == {
        "failed": None,
        "content_ns": [20 * MS, 30 * MS],
        "end_ns": 70 * MS,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [reply("{}", 500), stream(ROLE, delta(content="a"), broken="it broke")])
def test_a_reply_that_was_not_served_is_a_failed_run(kind: Timed[Any], answer: Mapping[str, Any]) -> None:
    observation = Observation(CASE, {**times_of(Answer.of(answer)), "tokens": None})
    assert kind.failed(observation)
    assert math.isnan(kind.measure(observation))


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_ends_early_is_a_failed_run(kind: Timed[Any]) -> None:
    assert kind.failed(timed(10, tokens=1)) == "the answer has 1 tokens, expected at least 2"
    assert kind.failed(timed(10, tokens=None)) == "the answer has 1 tokens, expected at least 2"
    assert kind.failed(timed(10, 20, tokens=2)) is None


def test_all_content_in_one_event_is_a_share_of_nothing() -> None:
    assert SPREAD.measure(timed(90)) == 0
    assert SPREAD.measure(timed()) == 0


@pytest.mark.parametrize("kind", [MEDIAN, LONGEST])
@pytest.mark.parametrize(
    ("events", "tokens", "why"),
    [([10, 20, 30], 4, "3 events with content for 4 tokens"), ([10, 20, 30, 40], None, "nothing tells")],
)
def test_a_gap_that_may_be_one_of_several_tokens_is_no_figure(
    kind: SseGap, events: list[int], tokens: int | None, why: str
) -> None:
    assert why in (kind.failed(timed(*events, tokens=tokens)) or "")


def test_four_events_for_five_tokens_are_enough() -> None:
    assert MEDIAN.failed(timed(10, 20, 30, 40, tokens=5)) is None


def test_the_first_content_has_to_be_there() -> None:
    assert FIRST.failed(timed()) == "no event has content"


def test_beside_a_failed_run_nothing_survives() -> None:
    good, bad = [GOOD] * 9, [*[GOOD] * 8, timed(failed="status 500")]
    bound = Bound(confidence=0.9, of="x", statistic="median", runs=9, below=0.5, unit="s")
    assert MEDIAN.judge(good, bound).outcome is Outcome.SURVIVED
    judgement = MEDIAN.judge(bad, bound)
    assert (judgement.outcome, judgement.violations) == (Outcome.INCONCLUSIVE, 1)
    assert judgement.reason.startswith("1 of 9 runs failed: status 500")


def test_a_fault_is_caught_by_a_failed_run_or_by_slow_ones() -> None:
    slow = timed(10, 700, 1400, 2100)
    assert MEDIAN.caught([GOOD, timed(failed="status 500")], BELOW)
    assert MEDIAN.caught([slow], BELOW)
    assert not MEDIAN.caught([GOOD] * 3, BELOW)


def test_the_reason_tells_tokens_per_event() -> None:
    runs = [timed(10, 20, 30, 40, tokens=5)] * 4
    assert MEDIAN.judge(runs, BELOW).reason.endswith("1.25 tokens per event")


def checked(error_ms: int) -> Observation:
    check = {"gap_ns": error_ms * MS, "lag_ns": error_ms * MS}
    return Observation(CASE, {**GOOD.samples, "instrument": check})


@pytest.mark.parametrize("kind", [MEDIAN, LONGEST, FIRST])
def test_an_instrument_that_errs_by_much_lets_nothing_survive(kind: Timed[Any]) -> None:
    unchecked = Observation(CASE, {**GOOD.samples, "instrument": None})
    for runs, outcome, why in (
        ([checked(50), *[unchecked] * 3], Outcome.SURVIVED, "the instrument errs by up to 50000 us"),
        ([checked(51), *[unchecked] * 3], Outcome.INCONCLUSIVE, "the instrument errs by up to 51000 us"),
        ([unchecked] * 4, Outcome.INCONCLUSIVE, "the instrument was not checked"),
    ):
        judgement = kind.judge(runs, BELOW)
        assert (judgement.outcome, why in judgement.reason) == (outcome, True)


def test_the_first_run_checks_the_instrument() -> None:
    target = FakeTarget(0)
    first, second = (MEDIAN.observe(target, case) for case in MEDIAN.plan(target, 2, seed=1))
    assert first.samples["instrument"]["gap_ns"] >= 0
    assert second.samples["instrument"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_asks_for_other_words_and_is_served(kind: Any) -> None:
    target = FakeTarget(0)
    plan = kind.plan(target, 3, seed=1)
    assert len({case["content"] for case in plan}) == 3
    observation = kind.observe(target, plan[0])
    assert kind.failed(observation) is None
    times, end = observation.samples["content_ns"], observation.samples["end_ns"]
    assert len(times) == 4
    assert times == sorted(times)  # a busy host may read several at once
    assert 0 < times[0] <= times[-1] <= end
    assert 0 <= kind.measure(observation) <= max(end / 1e9, 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"max_tokens": 3, "gap": "median"}, "max_tokens"), ({"max_tokens": 8, "gap": "mean"}, "'longest'")],
)
def test_bad_parameters_are_refused_with_a_sentence(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GapParameters(**parameters)

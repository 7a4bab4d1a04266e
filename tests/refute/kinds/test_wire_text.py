"""Stop texts, whole characters, and where answers agree or differ, on hand-made replies."""

from typing import Any

import pytest
from wire_replies import DONE, ROLE, delta, reply, stream, whole

from refute.kinds.base import Observation
from refute.kinds.wire_requests import Repeatable, Repeated
from refute.kinds.wire_seeds import AnswersAgree, AnswersDiffer, DifferParameters
from refute.kinds.wire_text import StopParameters, StopTexts, WholeCharacters, _cut_out
from refute.search import first_counterexample
from refute.targets.fake import FakeTarget

STOPS = StopTexts(StopParameters(max_tokens=8, pieces=2, longest=4))
CHARACTERS = WholeCharacters(Repeated(max_tokens=8))
AGREE = AnswersAgree(Repeatable(max_tokens=8, pieces=2, mode="greedy"))
DIFFER = AnswersDiffer(DifferParameters(max_tokens=8, answers=2, mode="seedless"))
FAILED = reply("{}", 500)


def streamed(*texts: str, finish: str = "stop") -> Any:
    return stream(ROLE, *(delta(content=text) for text in texts), delta(finish), DONE)


def stopped(**replies: Any) -> str | None:
    samples = {
        "honest": whole("a bc d"),
        "stop": "c",
        "whole": whole("a b"),
        "streamed": streamed("a", " b"),
    }
    return STOPS.wrong(Observation({}, {**samples, **replies}))


def test_an_answer_that_ends_before_its_stop_text_does_not_refute() -> None:
    assert stopped() is None


@pytest.mark.parametrize("name", ["whole", "streamed"])
@pytest.mark.parametrize("text", ["a bc d", "a bc", "a ", "", "a b d"])
def test_text_behind_a_stop_text_or_too_little_of_it_refutes(name: str, text: str) -> None:
    answer = whole(text) if name == "whole" else streamed(text)
    assert f"{name}: {text!r} with stop 'c', expected 'a b'" == stopped(**{name: answer})


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"whole": whole("a b", "length")}, "finish_reason 'length'"),
        ({"streamed": streamed("a b", finish="length")}, "finish_reason 'length'"),
        ({"whole": FAILED}, "status 500"),
        ({"streamed": FAILED}, "status 500"),
        ({"honest": FAILED, "stop": None}, "status 500"),
    ],
)
def test_another_end_or_none_refutes(replies: Any, why: str) -> None:
    assert why in (stopped(**replies) or "")


@pytest.mark.parametrize(
    ("text", "stop"),
    [("abcdef", "cd"), ("", None), ("a", None), ("aaaa", None), ("ab\ufffdd", None), ("xaxb", None)],
)
def test_a_stop_text_is_cut_out_behind_the_beginning(text: str, stop: str | None) -> None:
    percent, length = (40, 2) if text == "abcdef" else (50, 1)
    assert _cut_out(text, {"at_percent": percent, "length": length}) == stop


def test_without_a_stop_text_a_case_does_not_count() -> None:
    nothing = Observation({}, {"honest": whole("a"), "stop": None})
    assert (STOPS.wrong(nothing), STOPS.informative(nothing)) == (None, False)


def characters(as_whole: Any, as_stream: Any) -> str | None:
    return CHARACTERS.wrong(Observation({}, {"whole": as_whole, "streamed": as_stream}))


@pytest.mark.parametrize("text", ["aé🙂", "a\ufffdb"])
def test_a_stream_with_the_characters_of_the_whole_answer_does_not_refute(text: str) -> None:
    assert characters(whole(text), streamed(*text)) is None


@pytest.mark.parametrize(
    ("as_whole", "as_stream", "why"),
    [
        (whole("aé"), streamed("a", "\ufffd", "\ufffd"), "an event brings '�'"),
        (whole("aé"), streamed("a"), "text 'aé' as a whole, 'a' as a stream"),
        (whole("aé"), FAILED, "the stream: status 500"),
        (FAILED, streamed("a"), "the whole answer: status 500"),
    ],
)
def test_a_character_that_is_cut_or_lost_refutes(as_whole: Any, as_stream: Any, why: str) -> None:
    assert why in (characters(as_whole, as_stream) or "")


def test_an_answer_of_ascii_does_not_count() -> None:
    plain = Observation({}, {"whole": whole("a")})
    assert (CHARACTERS.wrong(plain), CHARACTERS.informative(plain)) == (None, False)


@pytest.mark.parametrize(
    ("kind", "same", "others"),
    [(AGREE, None, "'a', then 'b'"), (DIFFER, "2 times 'a'", None)],
)
def test_answers_must_agree_or_differ(kind: Any, same: str | None, others: str | None) -> None:
    for texts, expected in (("aa", same), ("ab", others)):
        observation = Observation({}, {"replies": [*map(whole, texts)]})
        assert kind.wrong(observation) == expected
        assert kind.informative(observation)


@pytest.mark.parametrize("kind", [AGREE, DIFFER])
def test_an_answer_that_was_not_served_refutes_and_one_without_text_does_not_count(kind: Any) -> None:
    failed = Observation({}, {"replies": [whole("a"), FAILED]})
    assert "status 500" in (kind.wrong(failed) or "")
    empty = Observation({}, {"replies": [whole(""), whole("")]})
    assert (kind.wrong(empty), kind.informative(empty)) == (None, False)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Repeatable(max_tokens=8, pieces=2, mode="odd"), "mode is 'odd'"),  # type: ignore[arg-type]
        (lambda: DifferParameters(max_tokens=8, answers=2, mode="odd"), "mode is 'odd'"),  # type: ignore[arg-type]
        (lambda: DifferParameters(max_tokens=8, answers=1, mode="seeds"), "answers is 1"),
        (lambda: DifferParameters(max_tokens=8, answers=2, mode="seeds", temperature=3), "temperature is 3"),
        (lambda: StopParameters(max_tokens=8, pieces=2, longest=0), "longest is 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_many_requests_with_a_seed_ask_what_no_model_is_sure_of() -> None:
    asked = AnswersAgree(Repeatable(max_tokens=8, pieces=2, mode="seeded"))
    cases = [
        observation.case
        for seed in range(4)
        for observation in first_counterexample(asked, FakeTarget(1), cases=12, seed=seed)
    ]
    unsure = [case for case in cases if case["content"].startswith("Repeat in words of your own")]
    assert len(unsure) >= len(cases) / 4
    assert all(case["sampling"]["temperature"] >= 1 for case in cases)

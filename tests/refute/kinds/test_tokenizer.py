"""Tokenizer kinds: what refutes, what counts, and which fault turns which of them red."""

import json
from dataclasses import replace

import pytest

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.kinds.base import Observation
from refute.kinds.tokenizer import (
    ChatParameters,
    ReferenceTokens,
    SpecialTokensChat,
    SpecialTokensPlain,
    StreamDecoding,
    TextParameters,
    TextRoundTrip,
    VectorParameters,
)
from refute.search import first_counterexample
from refute.targets.base import TargetError
from refute.targets.fake import FakeTarget
from refute.targets.fake_tokenizer import END_TEXT

ROUND_TRIP = TextRoundTrip(TextParameters(pieces=4))
STREAM = StreamDecoding(TextParameters(pieces=2))
PLAIN = SpecialTokensPlain(TextParameters(pieces=3))
CHAT = SpecialTokensChat(ChatParameters(pieces=2, turns=2))
REFERENCE = ReferenceTokens(VectorParameters(together=8))
KINDS = (ROUND_TRIP, STREAM, PLAIN, CHAT, REFERENCE)


@pytest.mark.parametrize(
    ("text", "decoded", "again", "nfc", "refuted"),
    [
        ("a", "a", [1], True, False),
        ("a", "b", [1], True, True),
        ("a", "a", [2], True, True),
        ("e\u0301", "\u00e9", [1], True, False),
        ("e\u0301", "e\u0301", [1], True, True),
        ("e\u0301", "e\u0301", [1], False, False),
        ("e\u0301", "\u00e9", [1], False, True),
    ],
)
def test_text_comes_back_composed_where_the_tokenizer_says_so(text, decoded, again, nfc, refuted) -> None:
    samples = {"ids": [1], "decoded": decoded, "again": again, "nfc": nfc}
    assert ROUND_TRIP.refutes(Observation({"text": text}, samples)) == refuted


@pytest.mark.parametrize(
    ("pieces", "whole", "ahead", "refuted", "informative"),
    [
        (["", "\u00e9", ""], "\u00e9", ["\ufffd", ""], False, True),
        (["a", "b", ""], "ab", ["", ""], False, False),
        (["\ufffd", "\ufffd", ""], "\u00e9", ["", None], True, True),
        (["a", "", ""], "a\ufffd", ["", "\ufffd"], True, True),
        (["", "ab", ""], "ab", ["a", ""], True, True),
        (["", "", "\ufffd"], "\ufffd", ["\ufffd", "\ufffd"], False, True),
        (["a", "b"], "ab", ["", ""], True, False),
    ],
    ids=["honest", "letters", "cut", "lost", "late", "unfinished", "no end"],
)
def test_a_stream_gives_whole_characters_at_once(pieces, whole, ahead, refuted, informative) -> None:
    samples = {"pieces": pieces, "whole": whole, "ahead": ahead, "ids": [1, 2]}
    observation = Observation({"parts": []}, samples)
    assert (STREAM.refutes(observation), STREAM.informative(observation)) == (refuted, informative)


def test_a_strange_id_refutes_and_no_text_does_not_count() -> None:
    assert PLAIN.refutes(Observation({}, {"ids": [1, 9], "strange": [9]}))
    assert not PLAIN.refutes(Observation({}, {"ids": [1], "strange": []}))
    assert not PLAIN.informative(Observation({}, {"ids": [], "strange": []}))


def test_other_controls_refute_and_a_template_without_any_does_not_count() -> None:
    assert CHAT.refutes(Observation({}, {"special": [7, 7], "template": [7]}))
    assert CHAT.refutes(Observation({}, {"special": [8, 7], "template": [7, 8]}))
    assert not CHAT.refutes(Observation({}, {"special": [7], "template": [7]}))
    assert not CHAT.informative(Observation({}, {"special": [], "template": []}))


def test_an_engine_that_agrees_with_itself_shows_nothing() -> None:
    case = {"by": "llama.cpp", "version": "1", "vectors": [{"text": "a", "ids": [1]}]}
    theirs, own = (Observation(case, {"ids": [[1]], "engine": name}) for name in ("fake", "llama.cpp"))
    assert (REFERENCE.informative(theirs), REFERENCE.informative(own)) == (True, False)
    assert not REFERENCE.refutes(theirs)
    assert REFERENCE.refutes(replace(theirs, samples={"ids": [[2]], "engine": "fake"}))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_honest_engine_survives_and_every_case_counts(kind) -> None:
    observations = first_counterexample(kind, FakeTarget(), cases=40, seed=3)
    assert len(observations) == 40
    assert not any(map(kind.refutes, observations))
    assert all(map(kind.informative, observations))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_observations_survive_json(kind) -> None:
    for observation in first_counterexample(kind, FakeTarget(), cases=5, seed=4):
        both = [observation.case, observation.samples]
        assert json.loads(json.dumps(both)) == both


CATCHES = {
    ROUND_TRIP: {"byte-lost", "space-collapsed", "nfc-skipped"},
    STREAM: {"utf8-cut", "tail-lost", "text-late"},
    PLAIN: {"special-forged"},
    CHAT: {"special-forged"},
    REFERENCE: {"space-collapsed", "nfc-skipped", "special-forged"},
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in CATCHES.items() for name in sorted(names)]
)
def test_a_fault_turns_its_claim_red(kind, name) -> None:
    with FakeTarget().plant(Fault(name, FAULTS[name].default)) as faulty:
        (found,) = first_counterexample(kind, faulty, cases=80, seed=5)
    assert kind.refutes(found)


@pytest.mark.parametrize("name", sorted(CATCHES[STREAM] | {"special-forged"}))
def test_a_round_trip_does_not_see_faults_of_the_stream(name) -> None:
    with FakeTarget().plant(Fault(name, FAULTS[name].default)) as faulty:
        observation = ROUND_TRIP.observe(faulty, {"text": "\u00e9 \U0001f642 x"})
    assert not ROUND_TRIP.refutes(observation)


def test_texts_that_composing_changes_are_asked_only_of_those_that_compose() -> None:
    class Decomposing(FakeTarget):
        @property
        def identity(self):
            identity = super().identity
            return replace(identity, settings={**identity.settings, "tokenizer_nfc": False})

    decomposed = [
        any(vector["text"].startswith("e\u0301") for each in observations for vector in each.case["vectors"])
        for observations in (
            first_counterexample(REFERENCE, target, cases=200, seed=1)
            for target in (FakeTarget(), Decomposing())
        )
    ]
    assert decomposed == [True, False]


def test_an_engine_that_refuses_text_is_no_counterexample() -> None:
    with pytest.raises(TargetError, match="lone surrogate"):
        ROUND_TRIP.observe(FakeTarget(), {"text": "\ud800"})


def test_text_that_spells_the_control_token_is_in_every_hostile_case() -> None:
    for observation in first_counterexample(CHAT, FakeTarget(), cases=20, seed=6):
        assert all(END_TEXT in message["content"] for message in observation.case["messages"])


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        (TextParameters, {"pieces": 0}),
        (ChatParameters, {"pieces": 0, "turns": 1}),
        (ChatParameters, {"pieces": 1, "turns": True}),
        (VectorParameters, {"together": "8"}),
    ],
)
def test_parameters_that_ask_for_nothing_are_refused(parameters, given) -> None:
    with pytest.raises(ValueError, match="expected a whole number of at least 1"):
        parameters(**given)

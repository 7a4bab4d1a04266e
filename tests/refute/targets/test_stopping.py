"""A generation over a session that its caller stops: what it gives, and what the sequence holds then."""

import numpy as np
import pytest

from refute.faults.base import Fault
from refute.select import embedded_model
from refute.targets.base import CAPABILITIES, Request, Target, TargetError
from refute.targets.bundled import BundledTarget
from refute.targets.fake import FakeTarget

PROMPT = (101, 102, 103, 104)


@pytest.fixture(scope="module")
def bundled():
    target = BundledTarget(embedded_model(), "array", "cpu")
    yield target
    target.close()


@pytest.fixture(params=["fake", "bundled"])
def target(request, bundled) -> Target:
    return FakeTarget(0) if request.param == "fake" else bundled


def begun(target: Target, capacity: int = 32):
    """A sequence that holds the prompt, and the greedy token after it."""
    session = target.session(capacity, prompt=len(PROMPT))
    return session, int(session.extend(PROMPT).logits[-1].argmax())


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_sequence_holds_what_was_given_but_for_the_last_token(target, after) -> None:
    session, first = begun(target)
    given = session.stop(first, after=after, of=8).tokens
    assert (first, *given) == target.generate(Request(PROMPT, after + 1)).tokens
    assert session.length == len(PROMPT) + after


def test_a_stopped_sequence_goes_on_as_one_prefill_would(target) -> None:
    session, first = begun(target)
    given = session.stop(first, after=3, of=8, routing=True)
    tokens = (*PROMPT, first, *given.tokens)
    twin = target.session(32, prompt=1, cache=False).extend(tokens, routing=True)
    np.testing.assert_allclose(session.extend(given.tokens[-1:]).logits[-1], twin.logits[-1], atol=1e-3)
    np.testing.assert_array_equal(given.experts, twin.experts[len(PROMPT) : -1])


@pytest.mark.parametrize(("dose", "more"), [(1, 1), (4, 4), (100, 5)])
def test_an_ignored_stop_leaves_rows_and_gives_the_same_tokens(target, dose, more) -> None:
    honest, first = begun(target)
    given = honest.stop(first, after=3, of=8).tokens
    with target.plant(Fault("stop-ignored", dose)) as faulty:
        session, _ = begun(faulty)
        assert session.stop(first, after=3, of=8).tokens == given
        assert session.length == honest.length + more
        ours, theirs = (each.extend(given[-1:]).logits for each in (session, honest))
    assert np.abs(ours - theirs).max() > 0.01


def test_a_buffered_stream_leaves_what_it_computed_ahead(target) -> None:
    honest, first = begun(target)
    with target.plant(Fault("stream-buffered", 2)) as faulty:
        session, _ = begun(faulty)
        assert session.stop(first, after=3, of=8) == honest.stop(first, after=3, of=8)
    assert session.length == honest.length + 2


def test_without_routing_there_are_no_experts(target) -> None:
    session, first = begun(target)
    assert session.stop(first, after=1, of=2).experts is None
    session, first = begun(FakeTarget(0, capabilities=CAPABILITIES - {"routing"}))
    assert session.stop(first, after=1, of=2, routing=True).experts is None


def test_a_layer_that_ran_as_dense_has_a_place_for_its_experts(target) -> None:
    with target.plant(Fault("dense-dispatch", 1)) as faulty:
        session, first = begun(faulty)
        ours = session.stop(first, after=2, of=4, routing=True).experts
        session, first = begun(faulty)
        theirs = session.extend([first], routing=True).experts
    np.testing.assert_array_equal(ours[:1], theirs)


def test_a_generation_that_does_not_fit_is_refused_before_it_is_computed(bundled) -> None:
    session, first = begun(bundled, capacity=8)
    with pytest.raises(TargetError, match="expected at most 8"):
        session.stop(first, after=1, of=4)
    assert session.length == len(PROMPT)
    assert len(session.stop(first, after=1, of=3).tokens) == 1

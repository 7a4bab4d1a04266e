"""What opens a gate: never a falsified record, never less evidence, never a stricter policy.

A removed record can make a gate greener in three ways only, and git's history tells of each: it was not
green; it was the newest of an engine that refute does not ship, whose newest build counts; or it was all that
showed that a claim applies.
"""

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import (
    BUILD,
    EMBEDDED,
    FULL,
    GREEN,
    OTHER,
    PRESENT,
    RED,
    STRADDLING,
    blank,
    changed,
    contract_at,
    finding,
    kinds,
    opened,
    run_id,
    target,
)

from refute.attempts import Attempts, read_attempts
from refute.gate import PROFILES, decide
from refute.policy import Policy, ProfilePolicy, Waiver, digest_of
from refute.verdict import Status, Verdict

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NAMES = ("exact", "floor", "small")
STORIES = {"green": GREEN, "red": RED, "straddling": STRADDLING, "missed": GREEN, "not": None}
ENGINES = (("refute_runtime", BUILD), ("refute_runtime", "old"), ("another", "x1"), ("another", "x2"))
MODELS = (FULL, EMBEDDED, OTHER)
TESTBEDS = ("a" * 64, "b" * 64)


@pytest.fixture(scope="module")
def contract(folder):
    return contract_at(folder)


@pytest.fixture(scope="module")
def written(contract, folder):
    """Every kind of attempt, written, read and judged once."""
    tree = folder / "evidence"
    places = list(product(ENGINES, MODELS, TESTBEDS, STORIES))
    for number, (engine, model, testbed, story) in enumerate(places, 1):
        writer = opened(tree, contract, NAMES, run=run_id(number), testbed=testbed)
        for falsifier in contract.falsifiers:
            about = target(model, engine[1], engine=engine[0])
            if story == "not":
                about["capabilities"] = ["timing"]
                how = {"verdict": Verdict.NOT_APPLICABLE, "reason": "the target lacks token_ids"}
                writer.write(blank(contract, falsifier, writer.run, target=about, **how))
            else:
                how = {"values": STORIES[story], "caught": story != "missed"}
                honest = finding(contract, falsifier.id, writer.run, **how)
                writer.write(changed(honest, target=about))
        writer.seal()
    found = read_attempts([contract], [tree], present=PRESENT, kinds=kinds, samples=False)
    known = {}
    for (_, name), attempts in found.of.items():
        for each in attempts:
            known[name, each.engine, each.build, each.model, each.testbed, each.run] = each
    return _Written(
        {
            (name, *place): known[name, *place[0], place[1], place[2], run_id(number)]
            for number, place in enumerate(places, 1)
            for name in NAMES
        }
    )


class _Written(dict):
    """Hypothesis shows what a test was given."""

    def __repr__(self):
        return f"{len(self)} attempts"


PLACES = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from(ENGINES),
    st.sampled_from(MODELS),
    st.sampled_from(TESTBEDS),
    st.sampled_from(list(STORIES)),
)
LIKELY = st.tuples(  # often enough on the same engine and model to make a gate pass
    st.sampled_from(NAMES),
    st.just(ENGINES[0]),
    st.sampled_from(MODELS[:2]),
    st.just(TESTBEDS[0]),
    st.sampled_from(["green", "green", "straddling", "red"]),
)
MANY = st.lists(LIKELY | PLACES, max_size=12)
WAIVERS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([Status.FALSIFIED, Status.INVALID, Status.STALE, Status.OPEN])
)
STRICTER = st.builds(
    ProfilePolicy,
    st.none() | st.integers(1, 400),
    st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["a" * 12, "b" * 12, "c" * 12])),
)


def policy(waivers=(), profile=None):
    given = tuple(
        Waiver(f"demo-v1/{name}", "ana", "it rains", "2027-01-01", up_to)
        for name, up_to in dict(waivers).items()
    )
    profiles = dict.fromkeys(PROFILES, profile) if profile else {}
    return Policy(digest_of({}), waivers=given, profiles=profiles)


def outcomes(contract, written, places, profile, given=None):
    """Whether the gate is open, and which claims fail, over these attempts in this order."""
    of = defaultdict(list)
    for number, place in enumerate(places):
        of["demo-v1", place[0]].append(replace(written[place], run=run_id(number)))
    attempts = Attempts(of, {}, len(places), (), ())
    decision = decide([contract], attempts, profile=profile, present=PRESENT, policy=given, now=NOW)
    failing = {ruling.claim.falsifier for ruling in decision.rulings if ruling.outcome == "fails"}
    return decision.passes, failing


@settings(max_examples=250, deadline=None)
@given(MANY, PLACES, st.integers(0, 12), st.sampled_from(PROFILES), WAIVERS)
def test_a_falsified_record_opens_nothing(contract, written, places, red, at, profile, waivers):
    place = (*red[:4], "red")
    given_policy = policy(waivers)
    before, failing = outcomes(contract, written, places, profile, given_policy)
    after, failing_now = outcomes(
        contract, written, [*places[:at], place, *places[at:]], profile, given_policy
    )
    assert failing <= failing_now
    assert before or not after


@settings(max_examples=250, deadline=None)
@given(
    st.lists(LIKELY | PLACES, min_size=1, max_size=12), st.integers(0, 11), st.sampled_from(PROFILES), WAIVERS
)
def test_a_green_record_that_is_taken_away_opens_nothing(contract, written, places, at, profile, waivers):
    places = [place for place in places if place[1][0] == "refute_runtime" and place[4] != "not"]
    greens = [index for index, place in enumerate(places) if place[4] == "green"]
    if not greens:
        return
    gone = greens[at % len(greens)]
    given_policy = policy(waivers)
    before, failing = outcomes(contract, written, places, profile, given_policy)
    after, failing_now = outcomes(
        contract, written, [*places[:gone], *places[gone + 1 :]], profile, given_policy
    )
    assert failing <= failing_now
    assert before or not after


@settings(max_examples=150, deadline=None)
@given(MANY, st.sampled_from(PROFILES), WAIVERS, STRICTER)
def test_a_stricter_policy_opens_nothing(contract, written, places, profile, waivers, stricter):
    _, failing = outcomes(contract, written, places, profile, policy(waivers))
    assert failing <= outcomes(contract, written, places, profile, policy(waivers, stricter))[1]
    assert failing <= outcomes(contract, written, places, profile, policy())[1]


@pytest.mark.parametrize("profile", PROFILES)
def test_such_gates_do_open(contract, written, profile):
    """Else nothing above could fail."""
    places = [(name, ENGINES[0], model, TESTBEDS[0], "green") for model in MODELS[:2] for name in NAMES]
    assert outcomes(contract, written, places, profile) == (True, set())
    assert outcomes(contract, written, places[1:], profile)[0] is False or profile == "pr"

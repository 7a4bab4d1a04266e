"""What an old finding says of a changed contract: judged again, kept, flagged or stale, and never better."""

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import (
    CONTRACT,
    FULL,
    GREEN,
    PRESENT,
    RED,
    STRADDLING,
    blank,
    changed,
    claims,
    contract_at,
    finding,
    kinds,
    observations,
    opened,
    run_id,
    states,
    target,
    write_run,
)

from refute.carried import carry, since
from refute.derived import sensitivity_of
from refute.verdict import Level, Status, Verdict

FLOOR = "above: 5 tok/s"
ANOTHER = "c" * 64


def directed(name):
    """The kinds of these records, which also say that a lower limit asks for more."""
    kind = kinds(name)
    return type(kind.__name__, (kind,), {"name": kind.name, "stricter": {**kind.stricter, "limit": "lower"}})


def then(tree, old, new, *, count=1):
    """The contract with one text replaced, beside the tree."""
    assert old in CONTRACT
    return contract_at(tree.parent / "now", CONTRACT.replace(old, new, count))


def thorough(contract, name, run, **how):
    """An honest finding that also caught the slow clock at 0.98 of its floor, 4.9 tok/s."""
    honest = finding(contract, name, run, **how)
    (must,) = honest.faults
    smaller = dataclasses.replace(must, dose=0.98, must=False, observations=observations(*[4.9] * 5))
    trials = (must, smaller)
    sensitivity = (dataclasses.replace(honest.sensitivity[0], smallest_caught=0.98),)
    return changed(honest, faults=trials, sensitivity=sensitivity)


def slower(contract, name, run):
    """An honest finding under a floor of 1 tok/s."""
    honest = finding(contract, name, run, caught=False)
    trials = (dataclasses.replace(honest.faults[0], caught=True, observations=observations(*[0.9] * 5)),)
    return changed(
        honest,
        verdict=Verdict.SURVIVED,
        reason=honest.judgement.reason,
        faults=trials,
        sensitivity=sensitivity_of(trials),
    )


def floor(contract, tree, resolver=kinds):
    return claims(contract, tree, resolver=resolver)["floor"].rows[0]


# --- a bound that asks for more


def test_a_higher_floor_is_judged_from_the_old_samples(contract, tree):
    write_run(tree, contract, ["exact"])
    write_run(tree, contract, ["floor"], number=2, make=thorough)
    row = floor(then(tree, FLOOR, "above: 5.4 tok/s"), tree)
    assert (row.status, row.verdict, row.figure) == (Status.OPEN, Verdict.SURVIVED, "8.5 ≥ 5.4 tok/s")


def test_a_higher_floor_needs_its_fault_caught_as_mildly(contract, tree):
    write_run(tree, contract, ["exact"])
    write_run(tree, contract, ["floor"], number=2, make=thorough)
    row = floor(then(tree, FLOOR, "above: 6 tok/s"), tree)  # 4.9 is 0.82 of it
    assert row.status is Status.STALE
    assert row.reason.startswith("it did not catch slow-clock=0.9 as today's bound has it since version")


@pytest.mark.parametrize(
    ("now", "state"), [("above: 8.9 tok/s", Status.INCONCLUSIVE), ("above: 12 tok/s", Status.FALSIFIED)]
)
def test_a_higher_floor_can_turn_old_samples_red(contract, tree, now, state):
    control = {**GREEN, "floor": (20.0,) * 5}
    write_run(tree, contract, ["floor"], make=thorough, control=control)
    assert floor(then(tree, FLOOR, now), tree).status is state


def test_a_control_that_would_not_be_green_now_controls_nothing(contract, tree):
    write_run(tree, contract, ["floor"], make=thorough, control={**GREEN, "floor": (5.2,) * 5})
    row = floor(then(tree, FLOOR, "above: 5.4 tok/s"), tree)
    assert (row.status, row.reason.partition(" since")[0]) == (
        Status.STALE,
        "its control is no control of today's bound",
    )


def test_more_cases_need_another_run(contract, tree):
    write_run(tree, contract, ["exact"], control={**GREEN, "exact": (1,) * 9})
    row = claims(then(tree, "cases: 3", "cases: 5"), tree)["exact"].rows[0]
    assert row.status is Status.STALE
    assert row.reason == (
        "its samples do not suffice (3 informative cases of 5 planned) since version 1.0.0: cases: 3 -> 5"
    )


def test_more_cases_than_asked_for_are_enough_for_a_later_bound(contract, tree):
    many = {**GREEN, "exact": (1,) * 9}
    write_run(tree, contract, ["exact"], values=many, control=many)
    row = claims(then(tree, "cases: 3", "cases: 5"), tree)["exact"].rows[0]
    assert (row.status, row.figure) == (Status.OPEN, "0 of 9 cases, rate < 45.1%")


def test_a_fault_that_was_never_tried_makes_stale(contract, tree):
    write_run(tree, contract, ["small"])
    now = then(tree, "must_catch: [stale-row]", "must_catch: [stale-row, empty-cache]")
    claim = claims(now, tree)["small"]
    assert (claim.status, "empty-cache" in claim.reason) == (Status.STALE, True)


def test_needs_level_and_testbeds_are_weighed_as_they_are_today(contract, tree):
    write_run(tree, contract, ["exact", "floor"])
    assert states(contract, tree)["floor"] is Status.OPEN
    lower = CONTRACT.replace("discharge: full-model", "discharge: embedded")
    assert states(contract_at(tree.parent / "lower", lower), tree)["floor"] is Status.DISCHARGED
    named = lower.replace("testbeds: [any]", f"testbeds: [{'c' * 12}]")
    assert states(contract_at(tree.parent / "named", named), tree)["floor"] is Status.OPEN


# --- what was falsified


@pytest.mark.parametrize("later_green", [False, True])
def test_a_floor_that_was_lowered_after_a_falsification_is_flagged_and_stays_red(contract, tree, later_green):
    write_run(tree, contract, ["floor"], values=RED)
    now = then(tree, FLOOR, "above: 1 tok/s")
    if later_green:
        write_run(tree, now, ["floor"], number=2, make=slower)
    claim = claims(now, tree)["floor"]
    assert claim.status is Status.FALSIFIED
    assert claim.flags == (
        f"loosened after a falsification, since version 1.0.0: above: 5 tok/s -> 1 tok/s (run {run_id(1)})",
    )


def test_another_build_of_the_engine_starts_anew_under_the_lower_floor(contract, tree):
    write_run(tree, contract, ["floor"], values=RED, build="engine-build-0")
    now = then(tree, FLOOR, "above: 1 tok/s")
    write_run(tree, now, ["exact"], number=2)
    write_run(tree, now, ["floor"], number=3, make=slower)
    claim = claims(now, tree)["floor"]
    assert (claim.status, claim.flags) == (Status.OPEN, ())


def test_what_is_falsified_by_the_lower_floor_too_is_no_flag(contract, tree):
    write_run(tree, contract, ["floor"], values=RED)
    claim = claims(then(tree, FLOOR, "above: 4 tok/s"), tree)["floor"]
    assert (claim.status, claim.flags, claim.figure) == (Status.FALSIFIED, (), "1 ≥ 4 tok/s")


def test_a_harder_claim_is_falsified_by_what_falsified_an_easier_one(contract, tree):
    write_run(tree, contract, ["small"], values=RED)
    claim = claims(then(tree, "limit: 20", "limit: 5"), tree, resolver=directed)["small"]
    assert (claim.status, claim.flags) == (Status.FALSIFIED, ())


def test_an_easier_parameter_is_loosening(contract, tree):
    write_run(tree, contract, ["small"], values=RED)
    claim = claims(then(tree, "limit: 20", "limit: 100"), tree, resolver=directed)["small"]
    assert claim.status is Status.FALSIFIED
    assert claim.flags[0].startswith("loosened after a falsification, since version 1.0.0: limit: 20 -> 100")


def test_another_claim_under_the_same_name_is_stale_and_flagged(contract, tree):
    write_run(tree, contract, ["small"], values=RED)
    now = then(tree, "limit: 20", "limit: 98")  # these kinds do not say which way asks for more
    write_run(tree, now, ["small"], number=2)
    claim = claims(now, tree)["small"]
    assert claim.status is Status.DISCHARGED
    assert claim.flags[0].startswith("changed after a falsification, since version 1.0.0: limit: 20 -> 98")


def test_a_capability_that_is_required_since_hides_no_falsification(contract, tree):
    write_run(tree, contract, ["exact"], values=RED)
    now = then(tree, "requires: [token_ids]", "requires: [token_ids, logits]")
    claim = claims(now, tree)["exact"]
    assert (claim.status, len(claim.flags)) == (Status.FALSIFIED, 1)


def test_a_file_that_is_not_listed_any_more_falsifies_still(contract, tree):
    write_run(tree, contract, ["exact"], model=FULL, values=RED)
    claim = claims(then(tree, FULL, ANOTHER), tree)["exact"]
    assert (claim.status, claim.rows[0].level) == (Status.FALSIFIED, Level.OTHER)


def test_a_file_that_was_not_listed_then_discharges_nothing(contract, tree):
    write_run(tree, contract, ["exact"], model=ANOTHER)
    assert states(then(tree, FULL, ANOTHER), tree)["exact"] is Status.OPEN


# --- what was not green


@pytest.mark.parametrize(
    ("how", "state"),
    [({"values": STRADDLING}, Status.INCONCLUSIVE), ({"caught": False}, Status.INVALID)],
    ids=["inconclusive", "invalid"],
)
def test_an_easier_claim_makes_nothing_green_that_was_not(contract, tree, how, state):
    write_run(tree, contract, ["small"], **how)
    easier = contract_at(tree.parent / "now", CONTRACT.replace("cases: 3", "cases: 2"))
    assert states(easier, tree)["small"] is state


def test_a_survival_holds_under_an_easier_claim(contract, tree):
    write_run(tree, contract, ["small"])
    easier = contract_at(tree.parent / "now", CONTRACT.replace("cases: 3", "cases: 2"))
    assert states(easier, tree)["small"] is Status.DISCHARGED


@pytest.mark.parametrize(("now", "state"), [("[token_ids, logits]", "open"), ("[timing]", "stale")])
def test_what_did_not_apply_applies_once_less_is_required(contract, tree, now, state):
    writer = opened(tree, contract, ["floor"])
    lacking = target(capabilities=["timing"])
    falsifier = contract.falsifiers[1]
    how = {"verdict": Verdict.NOT_APPLICABLE, "reason": "the target lacks token_ids", "target": lacking}
    writer.write(blank(contract, falsifier, writer.run, **how))
    writer.seal()
    text = CONTRACT.replace("requires: [token_ids, timing]", f"requires: {now}")
    later = contract_at(tree.parent / "now", text)

    def undemanding(name):
        kind = kinds(name)
        return type(kind.__name__, (kind,), {"name": kind.name, "requires": frozenset()})

    assert claims(later, tree, resolver=undemanding)["floor"].status == state


# --- whatever changes

_RANK = {Verdict.SURVIVED: 0, Verdict.INCONCLUSIVE: 1, Verdict.INVALID: 2, Verdict.FALSIFIED: 3}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(0.5, 20), min_size=5, max_size=7),
    above=st.floats(0.5, 20),
    runs=st.integers(1, 8),
    confidence=st.floats(0.5, 0.99),
)
def test_no_change_of_a_bound_makes_a_verdict_better(contract, values, above, runs, confidence):
    falsifier = contract.falsifiers[1]
    bound = dataclasses.replace(falsifier.bound, above=above, runs=runs, confidence=confidence)
    moved = (contract.falsifiers[0], dataclasses.replace(falsifier, bound=bound), contract.falsifiers[2])
    now = dataclasses.replace(contract, falsifiers=moved)
    honest = thorough(contract, "floor", run_id(1), values={"floor": values})
    change = since(contract, now, "floor", kinds("tok-floor"))
    assert change is not None
    carried = carry(honest, change, kinds("tok-floor"))
    if carried.stale:
        assert honest.verdict is not Verdict.FALSIFIED
    else:
        assert _RANK[carried.verdict] >= _RANK[honest.verdict]


def test_the_embedded_level_is_that_of_both_contracts(contract, tree):
    write_run(tree, contract, ["exact"])
    (row,) = claims(then(tree, FULL, PRESENT.embedded_sha256), tree)["exact"].rows
    assert row.level is Level.EMBEDDED

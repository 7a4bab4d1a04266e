"""What the gate lets pass: only what was observed, fresh, at the level that the profile wants."""

import json

import pytest
from records import (
    CONTRACT,
    FULL,
    PRESENT,
    RED,
    STRADDLING,
    blank,
    contract_at,
    edit,
    kinds,
    opened,
    run_id,
    target,
    write_run,
)

from refute.attempts import Present
from refute.gate import EXIT_OF_STATUS, PROFILES, gate
from refute.verdict import Exit, Level, Status, Verdict, worst_exit


def decide(contract, tree, profile="pr", present=PRESENT):
    return gate([contract], [tree], profile=profile, present=present, kinds=kinds)


def outcomes(decision):
    return {ruling.claim.falsifier: ruling.outcome for ruling in decision.rulings}


def lacking(tree, contract, *names, number=1, **about):
    """A run in which these falsifiers did not apply."""
    writer = opened(tree, contract, names, run=run_id(number))
    for falsifier in contract.falsifiers:
        if falsifier.id in names:
            how = {"verdict": Verdict.NOT_APPLICABLE, "reason": "the target lacks token_ids"}
            about = {"capabilities": ["timing"], **about}
            writer.write(blank(contract, falsifier, writer.run, target=target(**about), **how))
    writer.seal()


@pytest.mark.parametrize("profile", PROFILES)
def test_no_record_is_not_green(contract, tree, profile):
    decision = decide(contract, tree, profile)
    assert (decision.code, decision.passes) == (Exit.MISSING, False)
    assert decision.reason == "there are no records at all"


@pytest.mark.parametrize("profile", PROFILES)
def test_no_falsifier_is_an_error(tree, profile):
    decision = gate([], [tree], profile=profile, present=PRESENT, kinds=kinds)
    assert (decision.code, decision.passes) == (Exit.USAGE, False)


def test_pr_passes_on_embedded_survivals_and_shows_what_is_open(contract, tree):
    write_run(tree, contract)
    decision = decide(contract, tree)
    assert decision.code is Exit.OK
    assert set(outcomes(decision).values()) == {"passes"}
    assert decision.rulings[0].note == "full-model: open"
    assert decision.rulings[2].note == ""


def test_release_wants_the_full_model_too(contract, tree):
    write_run(tree, contract)
    assert decide(contract, tree, "release").code is Exit.MISSING
    assert outcomes(decide(contract, tree, "release")) == {
        "exact": "fails",
        "floor": "fails",
        "small": "passes",
    }
    write_run(tree, contract, number=2, model=FULL)
    assert decide(contract, tree, "release").code is Exit.OK


def test_release_wants_the_embedded_model_too(contract, tree):
    write_run(tree, contract, model=FULL)
    assert decide(contract, tree, "release").code is Exit.MISSING


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "level", [FULL, PRESENT.embedded_sha256, "0" * 64], ids=["full", "embedded", "other"]
)
def test_falsified_at_any_level_fails(contract, tree, profile, level):
    write_run(tree, contract)
    write_run(tree, contract, number=2, model=FULL)
    write_run(tree, contract, ["exact"], number=3, model=level, values=RED)
    decision = decide(contract, tree, profile)
    assert decision.code is Exit.FALSIFIED
    assert outcomes(decision)["exact"] == "fails"


@pytest.mark.parametrize("profile", PROFILES)
def test_tampered_at_any_level_fails(contract, tree, profile):
    write_run(tree, contract)
    write_run(tree, contract, number=2, model=FULL)
    path = write_run(tree, contract, ["exact"], number=3, model="0" * 64)
    edit(path / "exact.json", lambda d: d.update(figure="fine"), rehash=True)
    assert decide(contract, tree, profile).code is Exit.INVALID


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"values": RED}, Exit.FALSIFIED),
        ({"values": STRADDLING}, Exit.INCONCLUSIVE),
        ({"caught": False}, Exit.INVALID),
        ({"control": RED}, Exit.INVALID),
        ({"build": "engine-build-0"}, Exit.MISSING),
        ({"model": "0" * 64}, Exit.MISSING),
        ({"model": FULL}, Exit.MISSING),
    ],
    ids=[
        "falsified",
        "inconclusive",
        "fault missed",
        "control red",
        "stale",
        "other model",
        "full model only",
    ],
)
def test_pr_fails_with_the_code_of_what_it_found(contract, tree, how, code):
    write_run(tree, contract, ["exact", "floor"])
    write_run(tree, contract, ["small"], number=2, **how)
    assert decide(contract, tree).code is code


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.BLOCKED, Exit.MISSING), (Verdict.ERROR, Exit.INVALID)]
)
def test_pr_fails_where_nothing_was_attacked(contract, tree, verdict, code):
    write_run(tree, contract, ["exact", "floor"])
    writer = opened(tree, contract, ["small"], run=run_id(2))
    about = {} if verdict is Verdict.BLOCKED else target()
    writer.write(blank(contract, contract.falsifiers[2], writer.run, verdict=verdict, target=about))
    writer.seal()
    assert decide(contract, tree).code is code


def test_a_deselected_falsifier_is_missing(contract, tree):
    write_run(tree, contract, ["exact", "floor"])
    decision = decide(contract, tree)
    assert decision.code is Exit.MISSING
    assert decision.rulings[2].reason == "unobserved: no record at level embedded"
    assert decision.rulings[2].command == f"refute run {contract.path} -k small"


def test_the_worst_code_wins(contract, tree):
    write_run(tree, contract, ["exact"], values=STRADDLING)
    write_run(tree, contract, ["small"], number=2, values=RED)
    decision = decide(contract, tree)
    codes = [ruling.code for ruling in decision.rulings]
    assert codes == [Exit.INCONCLUSIVE, Exit.MISSING, Exit.FALSIFIED]
    assert decision.code is worst_exit(codes) is Exit.FALSIFIED


def test_pr_wants_needs_at_the_embedded_level(contract, tree):
    write_run(tree, contract, ["exact"], model=FULL)
    write_run(tree, contract, ["floor", "small"], number=2)
    ruling = decide(contract, tree).rulings[1]
    assert (ruling.outcome, ruling.code) == ("fails", Exit.MISSING)
    assert "needs demo-v1/exact" in ruling.reason


def test_stale_full_model_records_do_not_fail_pr(contract, tree):
    write_run(tree, contract, model=FULL, build="engine-build-0")
    write_run(tree, contract, number=2)
    decision = decide(contract, tree)
    assert decision.code is Exit.OK
    assert decision.rulings[0].note == "full-model: stale"


def test_what_does_not_apply_to_the_embedded_model_is_outside(contract, tree):
    write_run(tree, contract, ["exact", "floor"])
    lacking(tree, contract, "small", number=2)
    decision = decide(contract, tree)
    assert decision.code is Exit.OK
    assert outcomes(decision)["small"] == "outside"


@pytest.mark.parametrize(
    "about",
    [{"model": "0" * 64}, {"model": FULL}, {"simulated": True}, {"build": "engine-build-0"}],
    ids=["other", "full", "simulated", "stale"],
)
def test_only_a_fresh_run_on_the_embedded_model_can_say_so(contract, tree, about):
    write_run(tree, contract, ["exact", "floor"])
    lacking(tree, contract, "small", number=2, **about)
    decision = decide(contract, tree)
    assert decision.code is Exit.MISSING
    assert outcomes(decision)["small"] == "fails"


def test_nothing_that_applies_is_nothing_observed(contract, tree):
    lacking(tree, contract, "exact", "floor", "small")
    assert decide(contract, tree).code is Exit.MISSING


def test_without_the_embedded_file_nothing_is_embedded(contract, tree):
    write_run(tree, contract)
    assert decide(contract, tree, present=Present(PRESENT.engine_digest, None)).code is Exit.MISSING


def test_simulated_evidence_is_never_enough(contract, tree):
    lowest = contract_at(
        tree.parent / "lowest", CONTRACT.replace("discharge: full-model", "discharge: simulated")
    )
    write_run(tree, lowest, ["small"])
    for profile in PROFILES:
        assert decide(lowest, tree, profile).code is Exit.MISSING


def test_every_status_has_a_code_and_only_two_are_green():
    assert set(EXIT_OF_STATUS) == set(Status)
    green = {status for status, code in EXIT_OF_STATUS.items() if code is Exit.OK}
    assert green == {Status.DISCHARGED, Status.WAIVED}


def test_a_decision_is_plain_json(contract, tree):
    write_run(tree, contract)
    document = json.loads(json.dumps(decide(contract, tree).to_json(), allow_nan=False))
    assert (document["passes"], document["code"], document["profile"]) == (True, 0, "pr")
    assert document["rulings"][0]["claim"]["level"] == Level.EMBEDDED

"""What a profile lacks and a target can give: planned; all else is left out for a reason."""

from datetime import UTC, datetime, timedelta

import pytest
from records import EMBEDDED, FULL, OTHER, PRESENT, RED, kinds, target, write_run

from refute.attempts import read_attempts
from refute.counting import Counting
from refute.estimate import Estimate
from refute.gate import gate
from refute.plan import Subject, matches, plan
from refute.policy import Policy, ProfilePolicy, digest_of
from refute.signing import keygen, load_signer, sign
from refute.verdict import Level

HOST = "a" * 64


NOW = datetime(2026, 11, 30, tzinfo=UTC)


def made(
    contract,
    tree,
    *,
    profile="pr",
    model=EMBEDDED,
    besides=None,
    testbed=HOST,
    wanted=None,
    keys=None,
    now=NOW,
):
    profiles = {} if besides is None else {profile: besides}
    policy = Policy(digest_of({}), profiles=profiles, keys=keys or {})
    decision = gate([contract], [tree], profile=profile, present=PRESENT, kinds=kinds, policy=policy, now=now)
    return plan(
        decision,
        [contract],
        Subject(target(model), testbed),
        counting=Counting(profile, policy, now),
        present=PRESENT,
        estimate=lambda claim, falsifier: Estimate(2.0, "a record"),
        wanted=wanted or (lambda *_: True),
    )


def names(plan):
    return [each.falsifier for each in plan.planned]


def test_without_records_all_is_planned_at_the_models_level(contract, tree):
    found = made(contract, tree)
    assert names(found) == ["exact", "floor", "small"]
    assert {each.level for each in found.planned} == {Level.EMBEDDED}
    assert found.seconds == 6.0
    assert found.chosen[0] == (contract.path, "exact")


def test_what_survived_here_is_not_attacked_again(contract, tree):
    write_run(tree, contract, ["exact", "floor"])
    found = made(contract, tree)
    assert names(found) == ["small"]
    assert [each.reason.partition(",")[0] for each in found.left_out] == ["survived already"] * 2


def test_a_survival_on_another_model_is_no_survival_here(contract, tree):
    write_run(tree, contract, model=OTHER)
    assert names(made(contract, tree)) == ["exact", "floor", "small"]


def test_what_is_stale_is_attacked_again(contract, tree):
    write_run(tree, contract, build="an older build")
    assert names(made(contract, tree)) == ["exact", "floor", "small"]


def test_what_was_falsified_here_stays_so_and_is_left_out(contract, tree):
    write_run(tree, contract, ["exact"], values=RED)
    found = made(contract, tree)
    assert names(found) == ["floor", "small"]
    assert found.left_out[0].reason.startswith("falsified on this engine and model")


def test_the_full_model_gives_a_release_what_the_embedded_one_does_not(contract, tree):
    write_run(tree, contract)
    found = made(contract, tree, profile="release", model=FULL)
    assert names(found) == ["exact", "floor"]
    assert [(each.falsifier, each.reason) for each in found.left_out] == [
        ("small", "wants evidence on the embedded model")
    ]
    assert {each.level for each in found.planned} == {Level.FULL_MODEL}


def test_the_full_model_gives_pr_nothing(contract, tree):
    assert names(made(contract, tree, model=FULL)) == []


def test_a_file_that_no_contract_lists_is_attacked_all_over(contract, tree):
    found = made(contract, tree, profile="release", model=OTHER)
    assert {each.level for each in found.planned} == {Level.OTHER}
    assert len(found.planned) == 3


@pytest.mark.parametrize(("testbed", "planned"), [(HOST, 0), ("b" * 64, 3)])
def test_where_the_policy_names_this_host_only_evidence_from_it_counts(contract, tree, testbed, planned):
    write_run(tree, contract)
    besides = ProfilePolicy(testbeds={"here": testbed[:12]})
    assert len(made(contract, tree, besides=besides, testbed=testbed).planned) == planned


@pytest.mark.parametrize(("after", "planned"), [(9, 0), (11, 3), (-2, 3)])
def test_what_does_not_count_for_its_age_is_attacked_again(contract, tree, after, planned):
    """Also what a clock that is ahead dated: the gate does not count it."""
    write_run(tree, contract)
    (started,) = {
        each.finding.started
        for each in read_attempts([contract], [tree], present=PRESENT, kinds=kinds).of["demo-v1", "exact"]
    }
    now = datetime.fromisoformat(started) + timedelta(days=after)
    found = made(contract, tree, besides=ProfilePolicy(max_age_days=10), now=now)
    assert len(found.planned) == planned


def test_what_only_lacks_a_signature_is_left_out_with_the_command_that_signs(contract, tree):
    path = write_run(tree, contract)
    pair = tree.parent / "ana.key"
    keygen(pair)
    keys = {"ana": tree.parent / "ana.key.pub"}
    found = made(contract, tree, besides=ProfilePolicy(signatures=True), keys=keys)
    assert names(found) == []
    assert found.left_out[0].reason.endswith(f": refute sign {path} --key KEY")
    sign(path, load_signer(pair))
    found = made(contract, tree, besides=ProfilePolicy(signatures=True), keys=keys)
    assert found.left_out[0].reason == f"survived already, in run {path.name}"


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("exact", ["exact"]),
        ("DEMO_EXACT or small", ["exact", "small"]),
        ("not tok-floor", ["exact", "small"]),
        ("demo-v1", ["exact", "floor", "small"]),
    ],
)
def test_a_keyword_chooses_as_in_pytest(contract, tree, expression, chosen):
    assert names(made(contract, tree, wanted=matches(expression))) == chosen


def test_a_wrong_keyword_is_a_sentence():
    with pytest.raises(ValueError, match=r"-k and and: "):
        matches("and and")


def test_as_json_it_is_plain(contract, tree):
    told = made(contract, tree).to_json()
    assert told["planned"][0]["estimate"] == {"seconds": 2.0, "basis": "a record", "least": False}
    assert (told["profile"], told["seconds"], told["left_out"]) == ("pr", 6.0, [])

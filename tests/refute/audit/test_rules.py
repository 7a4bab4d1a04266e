"""Every rule fires on the record that was tampered with for it, and none on honest ones."""

import pytest
from mutations import other
from tampers import HIDDEN, OF_RUN, OF_TREES, honest_resumption, honest_trees, put, traced, trees

from refute.audit.examine import examine
from refute.audit.rules import OF_RUNS
from refute.audit.rules import OF_TREES as TREE_RULES

RUN_RULES = {rule.id: rule for rule in OF_RUNS}
RULES_OF_TREES = {rule.id: rule for rule in TREE_RULES}


def test_rules_have_names_of_their_own():
    assert len(RUN_RULES) == len(OF_RUNS)
    assert len({**RUN_RULES, **RULES_OF_TREES}) == len(OF_RUNS) + len(TREE_RULES)


def test_every_rule_has_a_record_that_breaks_it():
    assert set(OF_RUN) == set(RUN_RULES)
    assert set(OF_TREES) == set(RULES_OF_TREES)


def test_rules_say_what_holds_and_why():
    for rule in (*OF_RUNS, *TREE_RULES):
        assert rule.says.endswith(".")
        assert rule.why.endswith(".")


def test_honest_runs_break_no_rule(audited):
    assert audited.objections(audited.whole) == []
    assert {each.rule for each in audited.objections(audited.again)} == {"run-whole"}


def test_honest_trees_break_no_rule(audited):
    trees = honest_trees(audited)
    assert [remark for rule in TREE_RULES for remark in rule.check(trees)] == []


def test_a_run_that_goes_on_with_an_interrupted_one_is_honest(audited):
    trees = honest_resumption(audited)
    rules = ["chain-kept", "chain-single", "resumed-kept", "resumed-same"]
    assert [remark for name in rules for remark in RULES_OF_TREES[name].check(trees)] == []


def tampered(audited, rule, *, rehash):
    bundle = audited.whole.copy()
    OF_RUN[rule](bundle)
    if rehash:
        bundle.rehash()
    return bundle


@pytest.mark.parametrize("rule", OF_RUN)
def test_only_the_rule_itself_tells_of_a_careless_edit(audited, rule):
    subject = tampered(audited, rule, rehash=False).subject(audited.here, audited.library)
    found = [each for each in examine(subject) if each.rule == rule]
    assert found
    assert rule not in {each.rule for each in examine(subject, [own for own in OF_RUNS if own.id != rule])}
    assert all(each.found != each.expected for each in found)
    assert all(each.severity is RUN_RULES[rule].severity for each in found)


@pytest.mark.parametrize("rule", [rule for rule in OF_RUN if rule not in HIDDEN])
def test_the_rule_fires_although_the_listing_was_redone(audited, rule):
    objections = audited.objections(tampered(audited, rule, rehash=True))
    assert rule in {each.rule for each in objections}


@pytest.mark.parametrize("rule", sorted(HIDDEN))
def test_redoing_the_listing_hides_the_edit_from_the_rules_of_listings(audited, rule):
    objections = audited.objections(tampered(audited, rule, rehash=True))
    assert rule not in {each.rule for each in objections}


@pytest.mark.parametrize("key", ["run", "sha256"])
def test_a_link_of_the_chain_cannot_be_changed(audited, key):
    bundle = audited.again.copy()
    cited = bundle.json("findings.json")["previous"][key]
    put("findings.json", "previous", key, to=other(cited))(bundle)
    made = trees(traced(audited, audited.whole, bundle), audited.tree)
    assert [each.pointer for each in RULES_OF_TREES["chain-kept"].check(made)] == [f"/previous/{key}"]


@pytest.mark.parametrize("rule", OF_TREES)
def test_the_rule_of_trees_fires(audited, rule):
    remarks = list(RULES_OF_TREES[rule].check(OF_TREES[rule](audited)))
    assert remarks
    assert all(remark.found != remark.expected for remark in remarks)

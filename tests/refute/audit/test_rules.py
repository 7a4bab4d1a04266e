"""Every rule fires on the record that was tampered with for it, and none on honest ones."""

import pytest
from mutations import other
from tampers import (
    HIDDEN,
    OF_RUN,
    OF_TREES,
    honest_resumption,
    honest_trees,
    put,
    resumption_of_less,
    resumption_on_another_model,
    resumption_on_the_backend_of_before,
    traced,
    trees,
)

from refute.audit.examine import examine
from refute.audit.rule import Severity
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


def test_a_run_goes_on_as_it_was_asked_for(audited):
    trees = resumption_on_another_model(audited)
    (remark,) = RULES_OF_TREES["resumed-same"].check(trees)
    assert (remark.pointer, remark.found) == ("/requested", "another request")


def test_a_run_that_goes_on_may_name_the_backend_that_was_left_open(audited):
    trees = resumption_on_the_backend_of_before(audited)
    assert list(RULES_OF_TREES["resumed-same"].check(trees)) == []


def test_a_run_goes_on_with_all_that_was_planned(audited):
    (remark,) = RULES_OF_TREES["resumed-same"].check(resumption_of_less(audited))
    assert (remark.pointer, remark.found) == ("/plan/selected", "cached, floor, answers, bits")


@pytest.mark.parametrize(
    ("requested", "told"),
    [
        ({"keyword": "promised or floor"}, "not promised"),
        ({"keyword": "not bits"}, "not promised"),
        ({"keyword": "audited-v1"}, "not promised"),
        ({"markers": "falsifier"}, "not promised"),
        ({"markers": "falsifier(contract='audited-v1')"}, "not promised"),
        ({"keyword": "promised or floor", "markers": "falsifier(kind='no-such')"}, None),
        ({"keyword": "not promised"}, None),
        ({"keyword": "floor"}, None),
        ({"markers": "not falsifier"}, None),
        ({"markers": "slow"}, None),  # somebody's own marker, of which a record says nothing
        ({"markers": "not slow"}, None),
        ({"profile": "pr", "keyword": "promised"}, None),
        ({"keyword": "promised or ("}, "-k promised or (: "),
    ],
    ids=str,
)
def test_what_was_asked_for_is_in_the_plan(audited, requested, told):
    bundle = audited.whole.copy()
    OF_RUN["plan-requested"](bundle)
    for key, value in requested.items():
        put("findings.json", "requested", key, to=value)(bundle)
    said = [
        remark.found
        for remark in RUN_RULES["plan-requested"].check(bundle.subject(audited.here, audited.library))
    ]
    assert [text[: len(told)] for text in said] == [told] if told else not said


def test_pytest_may_leave_out_what_a_record_does_not_say(audited):
    bundle = audited.whole.copy()
    OF_RUN["plan-requested"](bundle)
    put("findings.json", "provenance", "argv", 0, to="pytest")(bundle)
    assert list(RUN_RULES["plan-requested"].check(bundle.subject(audited.here, audited.library))) == []


def tampered(audited, rule, *, rehash):
    bundle = audited.whole.copy()
    OF_RUN[rule](bundle)
    if rehash:
        bundle.rehash()
    return bundle


def remarks(audited, rule, *, rehash):
    """What one rule says of the record that was tampered with for it; no other rule bears its id."""
    subject = tampered(audited, rule, rehash=rehash).subject(audited.here, audited.library)
    return list(RUN_RULES[rule].check(subject))


@pytest.mark.parametrize("rule", OF_RUN)
def test_the_rule_fires_on_a_careless_edit(audited, rule):
    found = remarks(audited, rule, rehash=False)
    assert found
    assert all(each.found != each.expected for each in found)


@pytest.mark.parametrize("rule", [rule for rule in OF_RUN if rule not in HIDDEN])
def test_the_rule_fires_although_the_listing_was_redone(audited, rule):
    assert remarks(audited, rule, rehash=True)


@pytest.mark.parametrize("rule", sorted(HIDDEN))
def test_redoing_the_listing_hides_the_edit_from_the_rules_of_listings(audited, rule):
    assert not remarks(audited, rule, rehash=True)


@pytest.mark.parametrize("rule", [rule for rule in OF_RUN if RUN_RULES[rule].severity is Severity.ERROR])
def test_an_error_is_told_with_its_rule_and_the_path_of_a_file(audited, rule):
    subject = tampered(audited, rule, rehash=False).subject(audited.here, audited.library)
    told = examine(subject, [RUN_RULES[rule]])
    assert {(each.rule, each.severity) for each in told} == {(rule, Severity.ERROR)}
    assert all(each.file.startswith(subject.folder.path) for each in told)


@pytest.mark.parametrize("key", ["run", "sha256"])
def test_a_link_of_the_chain_cannot_be_changed(audited, key):
    bundle = audited.again.copy()
    cited = bundle.json("findings.json")["previous"][key]
    put("findings.json", "previous", key, to=other(cited))(bundle)
    made = trees(traced(audited, audited.whole, bundle), audited.tree)
    assert [each.pointer for each in RULES_OF_TREES["chain-kept"].check(made)] == [f"/previous/{key}"]


@pytest.mark.parametrize("rule", OF_TREES)
def test_the_rule_of_trees_fires(audited, rule):
    found = list(RULES_OF_TREES[rule].check(OF_TREES[rule](audited)))
    assert found
    assert all(each.found != each.expected for each in found)

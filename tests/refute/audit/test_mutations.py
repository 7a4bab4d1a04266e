"""Every field of an honest record is changed: a rule tells of it, or it is among the informative fields."""

from fnmatch import fnmatchcase

import pytest
from informative import INFORMATIVE, MADE_UP
from mutations import EDITORS, mutated, only, rederive, tried_with, weighing

from refute.status import status

# What a conclusion rests on: never informative.
BEARING = [
    *("verdict", "judgement", "figure", "reason", "replays", "counters", "sensitivity", "counterexample"),
    *("contract", "contract_version", "contract_semantic_sha256", "falsifier", "bound", "parameters"),
    *("kind", "rule_version", "kind_origin", "seed", "run", "target", "settings", "started", "ended"),
    *("control/green", "control/judgement"),
]


def survivors(tried, editor):
    return [fate for fate in tried if fate.editor == editor and fate.survived]


def listed(field):
    return [pattern for pattern in INFORMATIVE if fnmatchcase(field, pattern)]


def test_deriving_an_honest_record_again_changes_nothing(audited):
    copy = audited.whole.copy()
    rederive(copy, audited.library)
    assert copy.files == audited.whole.files


@pytest.mark.parametrize("editor", ["careless", "hashes"])
def test_a_changed_field_is_told_or_it_is_informative(tried, editor):
    assert [fate.mutation.field for fate in survivors(tried, editor) if not listed(fate.mutation.field)] == []


def test_the_table_lists_nothing_that_is_told(tried):
    fields = {fate.mutation.field for fate in survivors(tried, "hashes")}
    assert [p for p in INFORMATIVE if not any(fnmatchcase(field, p) for field in fields)] == []


def test_every_changed_field_of_a_finding_is_told_unless_the_listing_is_redone(tried):
    assert {fate.mutation.name for fate in survivors(tried, "careless")} == {"findings.json"}


@pytest.mark.parametrize("field", BEARING)
def test_what_bears_on_a_verdict_is_never_informative(tried, field):
    pointer = f"/{field}"
    names = [fate.mutation.field for fate in tried if f"{fate.mutation.pointer}/".startswith(f"{pointer}/")]
    assert names
    assert [name for name in names if listed(name)] == []


def test_no_informative_field_changes_what_is_concluded(audited, tried, tmp_path):
    contract = next(iter(audited.here.contracts.values()))

    def concluded(bundle):
        folder = tmp_path / bundle.contract / bundle.run
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink()
        for name, data in bundle.files.items():
            (folder / name).write_bytes(data)
        claims = status([contract], [tmp_path], present=audited.here.present).claims
        return [(claim.status, claim.level, claim.verdict, claim.figure, claim.reason) for claim in claims]

    honest = {name: concluded(only(audited.whole, name, "promised")) for name in ("floor", "cached", "bits")}
    seen = set()
    for fate in survivors(tried, "hashes"):
        mutation = fate.mutation
        if mutation.field in seen:
            continue
        seen.add(mutation.field)
        falsifier = tried_with(mutation.name)
        bundle = mutated(only(audited.whole, falsifier, "promised"), mutation)
        EDITORS["hashes"](bundle, audited.library)
        assert concluded(bundle) == honest[falsifier], mutation.field
    assert seen


def test_what_survives_when_all_is_derived_again_is_what_no_rule_can_know(tried):
    fields = {fate.mutation.field for fate in survivors(tried, "derived")}
    known = [*INFORMATIVE, *MADE_UP]
    assert [each for each in fields if not any(fnmatchcase(each, pattern) for pattern in known)] == []
    assert [each for each in MADE_UP if not any(fnmatchcase(field, each) for field in fields)] == []


def test_the_honest_bundle_weighs_nothing(audited):
    assert weighing(audited, only(audited.whole, "floor", "promised")) == ()

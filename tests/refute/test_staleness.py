"""What makes a record stale: another meaning, engine or rule."""

from records import (
    CONTRACT,
    PRESENT,
    RED,
    changed,
    claims,
    contract_at,
    finding,
    kinds,
    states,
    write_run,
)

from refute.attempts import Present
from refute.verdict import Status


def test_a_changed_meaning_makes_stale(contract, tree):
    write_run(tree, contract, ["small"])
    tighter = contract_at(tree.parent / "tighter", CONTRACT.replace("limit: 20", "limit: 5"))
    claim = claims(tighter, tree)["small"]
    assert (claim.status, claim.discrepancies) == (Status.STALE, ())
    assert claim.reason == "the claim asks for something else since version 1.0.0: limit: 20 -> 5"


def test_what_another_falsifier_means_does_not(contract, tree):
    write_run(tree, contract, ["small"])
    other = contract_at(tree.parent / "other", CONTRACT.replace("limit: 10", "limit: 5"))
    assert other.semantic_sha256 != contract.semantic_sha256
    assert states(other, tree)["small"] is Status.DISCHARGED


def test_another_name_of_the_model_makes_stale(contract, tree):
    write_run(tree, contract, ["small"])
    renamed = contract_at(tree.parent / "renamed", CONTRACT.replace("Big-Model", "Other-Model"))
    assert claims(renamed, tree)["small"].reason.endswith("model.name: Big-Model -> Other-Model")


def test_changed_prose_does_not(contract, tree):
    write_run(tree, contract, ["small"])
    prose = CONTRACT.replace("Three claims.", "Three claims, better said.").replace(
        "No value is", "Nothing is"
    )
    assert states(contract_at(tree.parent / "prose", prose), tree)["small"] is Status.DISCHARGED


def test_a_changed_engine_makes_stale(contract, tree):
    write_run(tree, contract, ["small"], build="engine-build-0")
    assert "engine" in claims(contract, tree)["small"].reason
    assert states(contract, tree)["small"] is Status.STALE
    unknown = Present(None, PRESENT.embedded_sha256)
    assert states(contract, tree, present=unknown)["small"] is Status.DISCHARGED


def test_a_changed_rule_makes_stale(contract, tree):
    write_run(tree, contract, ["small"], values=RED)

    def later(name):
        return type("Later", (kinds(name),), {"rule_version": "2"})

    claim = claims(contract, tree, resolver=later)["small"]
    assert claim.status is Status.STALE
    assert "rule" in claim.reason


def test_a_kind_that_is_gone_makes_stale(contract, tree):
    write_run(tree, contract, ["small"])

    def gone(name):
        raise KeyError(name)

    assert states(contract, tree, resolver=gone)["small"] is Status.STALE


def test_the_newest_build_counts_for_engines_that_are_not_ours(contract, tree):
    def foreign(*arguments, **how):
        honest = finding(*arguments, **how)
        return changed(honest, target={**honest.target, "engine": "another"})

    write_run(tree, contract, ["small"], number=1, make=foreign, build="x1", values=RED)
    assert states(contract, tree)["small"] is Status.FALSIFIED
    write_run(tree, contract, ["small"], number=2, make=foreign, build="x2")
    assert states(contract, tree)["small"] is Status.DISCHARGED

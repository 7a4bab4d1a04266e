"""Cases computed again on the model: those that were recorded agree, made-up ones do not."""

from pathlib import Path

import pytest
from mutations import rederive

from refute.audit.challenge import _differences, challenge
from refute.audit.computed import Engine
from refute.kinds import kind_named
from refute.select import Selection, embedded_model
from refute.targets.base import TargetError
from refute.targets.bundled import BundledTarget
from refute.verdict import Exit
from refute_runtime.backends import choice

ALL = 10**6


@pytest.fixture(scope="module")
def engine():
    return Engine(Selection("bundled", embedded_model(), "embedded", "array", "auto"))


def challenged(audited, bundle, engine, *, nonce="n", count=ALL, model=None):
    subjects = [bundle.subject(audited.here, audited.library)]
    digest = engine.model_sha256 if model is None else model
    return challenge(subjects, nonce, model_sha256=digest, count=count, open_target=engine.open)


def edited(audited, name, change):
    """What an editor leaves who redoes all that follows."""
    bundle = audited.whole.copy()
    bundle.edit(name, change)
    rederive(bundle, audited.library)
    return bundle


def test_an_honest_record_agrees(audited, engine):
    found = challenged(audited, audited.whole, engine)
    assert found.code is Exit.OK
    assert (found.exact, found.near, found.plans) == (0, found.cases, 1)
    assert found.passed_over == {"nothing was judged": 1, "times, sizes and answers over HTTP": 2}


def test_a_prompt_that_was_exchanged_is_found(audited, engine):
    bundle = edited(
        audited, "cached.json", lambda d: d["observations"][1]["case"].update(prompt=[900, 17, 4])
    )
    assert audited.objections(bundle) == []
    found = challenged(audited, bundle, engine)
    assert found.code is Exit.INVALID
    assert {each.pointer.split("/samples")[0] for each in found.objections} == {"/observations/1"}
    assert {each.rule for each in found.objections} == {"challenge-samples"}


def test_tokens_that_were_made_up_are_found(audited, engine):
    def invent(document):
        samples = document["observations"][2]["samples"]
        samples["cached"] = samples["full"] = [token ^ 1 for token in samples["cached"]]

    assert challenged(audited, edited(audited, "cached.json", invent), engine).code is Exit.INVALID


def test_a_case_that_breaks_the_engine_is_found(audited, engine):
    bundle = edited(audited, "cached.json", lambda d: d["observations"][0]["case"].update(prompt=[]))
    found = challenged(audited, bundle, engine)
    assert found.code is Exit.INVALID


def test_a_run_that_does_not_follow_from_the_seed_is_found(audited, engine):
    def exchange(document):
        for each in (document, document["faults"][0], *document["faults"][1:]):
            for observation in each["observations"]:
                observation["case"]["prompt"] = [5, 6, 7, 8]

    bundle = edited(audited, "floor.json", exchange)
    assert audited.objections(bundle) == []
    found = challenged(audited, bundle, engine, count=0)
    assert found.code is Exit.INVALID
    assert {each.rule for each in found.objections} == {"challenge-cases"}


def test_the_nonce_chooses(audited, engine):
    chosen = {nonce: challenged(audited, audited.whole, engine, nonce=nonce, count=3) for nonce in ("a", "b")}
    assert [each.near for each in chosen.values()] == [3, 3]
    bundle = edited(
        audited, "cached.json", lambda d: d["observations"][1]["case"].update(prompt=[900, 17, 4])
    )
    nonces = [str(n) for n in range(12)]
    told = [bool(challenged(audited, bundle, engine, nonce=nonce, count=2).objections) for nonce in nonces]
    assert any(told)
    assert not all(told)
    assert told == [
        bool(challenged(audited, bundle, engine, nonce=each, count=2).objections) for each in nonces
    ]


def test_another_model_leaves_nothing_to_compute(audited, engine):
    found = challenged(audited, audited.whole, engine, model="0" * 64)
    assert found.code is Exit.MISSING
    assert found.passed_over == {"another model": 4, "nothing was judged": 1}


def test_without_a_bound_every_bit_counts():
    assert list(_differences({"a": [0.5]}, {"a": [0.5]}, None)) == []
    assert list(_differences({"a": [0.5]}, {"a": [0.5000001]}, None)) == [("/a/0", 0.5, 0.5000001)]
    assert list(_differences({"a": [0.5]}, {"a": [0.5000001]}, 1e-3)) == []
    assert list(_differences({"a": 1}, {"a": True}, 1e-3)) == [("/a", 1, True)]
    assert list(_differences({"x_ns": 1}, {"x_ns": 2}, None)) == []


@pytest.mark.parametrize(("margin", "found"), [(1e-4, []), (0.5, [("/tokens/1", 2, 3)])])
def test_only_a_tie_may_be_won_by_another_token(margin, found):
    stored, now = {"tokens": [1, 2, 9]}, {"tokens": [1, 3, 8], "margins": [1.0, margin, 1.0]}
    assert [each for each in _differences(stored, now, 1e-3) if each[0] != "/margins"] == found


def test_a_model_that_cannot_be_opened_is_the_callers_answer(engine):
    missing = Selection("bundled", Path("none.gguf"), "named", "array", "auto")
    with pytest.raises(OSError, match=r"none\.gguf"):
        _ = Engine(missing).model_sha256


@pytest.fixture
def uncompiled(monkeypatch):
    """An engine where Numba is not installed."""
    monkeypatch.setattr(choice, "_cpu", lambda: "numba is not installed")
    return Engine(Selection("bundled", embedded_model(), "embedded", "auto", "auto"))


def test_without_numba_values_of_cpu_are_computed_bit_for_bit_by_mirror(uncompiled, monkeypatch):
    target = uncompiled.open_for_values("cpu")
    assert target.identity.settings["backend"] == "mirror"
    assert "bitwise" in target.capabilities
    monkeypatch.setattr(choice, "_cpu", lambda: pytest.fail("it was tried again"))
    assert uncompiled.open_for_values("cpu") is target
    monkeypatch.undo()
    recorded = BundledTarget(embedded_model(), "cpu")
    kind = kind_named("cache-bits").of({"chunks": [3], "threads": [1, 2], "max_tokens": 2, "repeats": 1})
    case = {"chunk": 3, "length": 7, "seed": 1}  # its samples hold digests of logits
    assert kind.observe(target, case).samples == kind.observe(recorded, case).samples


def test_speed_is_not_repeated_on_another_backend(uncompiled):
    with pytest.raises(TargetError, match="numba is not installed"):
        uncompiled.open("cpu")


def test_a_backend_that_was_named_is_not_replaced(uncompiled):
    uncompiled.backend = "cpu"
    with pytest.raises(TargetError, match="numba is not installed"):
        uncompiled.open_for_values("array")


def test_values_of_array_are_not_those_of_mirror(uncompiled):
    assert uncompiled.open_for_values("array").identity.settings["backend"] == "array"

"""Each way of tampering with a record is noticed, and only that."""

import pytest
from records import (
    CONTRACT,
    RED,
    STRADDLING,
    blank,
    claims,
    contract_at,
    edit,
    opened,
    relist,
    run_id,
    states,
    target,
    write_run,
)

from refute.verdict import Status, Verdict


def dose(document):
    document["faults"][0]["dose"] = 1.0


EDITS = {
    "verdict": ("falsified", lambda d: d.update(verdict="survived"), "/verdict"),
    "sample": ("survived", lambda d: d["observations"][1]["samples"].update(value=99), "/judgement/outcome"),
    "sample of another type": (
        "survived",
        lambda d: d["observations"][1].update(samples={}),
        "/observations",
    ),
    "bound": ("inconclusive", lambda d: d["bound"].update(cases=1), "/bound/cases"),
    "bound removed": ("survived", lambda d: d["bound"].pop("cases"), "/bound"),
    "parameter": ("falsified", lambda d: d["parameters"].update(limit=1000), "/parameters/limit"),
    "claim": ("survived", lambda d: d.update(claim="Something easier."), "/claim"),
    "judgement": (
        "survived",
        lambda d: d["judgement"].update(excluded_rate=0.001),
        "/judgement/excluded_rate",
    ),
    "judgement's n": ("survived", lambda d: d["judgement"].update(n=3000), "/judgement/n"),
    "figure": ("survived", lambda d: d.update(figure="0 of 3000 cases"), "/figure"),
    "reason": ("survived", lambda d: d.update(reason="all is well"), "/reason"),
    "counters": ("survived", lambda d: d["counters"].update(experts_run=5), "/counters"),
    "dropped fault": ("survived", lambda d: d["faults"].pop(), "/faults"),
    "fault at another dose": ("survived", dose, "/faults"),
    "fault that need not be caught": ("survived", lambda d: d["faults"][0].update(must=False), "/faults"),
    "missed fault called caught": (
        "missed",
        lambda d: d["faults"][0].update(caught=True),
        "/faults/0/caught",
    ),
    "fault without samples": (
        "survived",
        lambda d: d["faults"][0].update(observations=[]),
        "/faults/0/caught",
    ),
    "sensitivity": ("survived", lambda d: d["sensitivity"][0].update(smallest_caught=0.1), "/sensitivity/0"),
    "dropped control": ("survived", lambda d: d.update(control=None), ""),
    "red control called green": ("red control", lambda d: d["control"].update(green=True), "/control/green"),
    "control's samples": ("survived", lambda d: d["control"].update(observations=[]), "/control/green"),
    "dropped counterexample": ("falsified", lambda d: d.update(counterexample=None), "/judgement/n"),
    "counterexample that is none": (
        "survived",
        lambda d: d.update(counterexample={"case": {}, "samples": {"value": 0}}),
        "/judgement/n",
    ),
    "falsified called invalid": ("falsified", lambda d: d.update(verdict="invalid"), "/verdict"),
    "not applicable though it is": (
        "not-applicable",
        lambda d: d["target"]["capabilities"].append("token_ids"),
        "",
    ),
    "semantic hash": ("survived", lambda d: d.update(contract_semantic_sha256="0" * 64), ""),
    "run": ("survived", lambda d: d.update(run=run_id(99)), "/run"),
}


def recorded(contract, tree, story):
    how = {
        "falsified": {"values": RED},
        "inconclusive": {"values": STRADDLING},
        "missed": {"caught": False},
        "red control": {"control": RED},
    }
    if story != "not-applicable":
        return write_run(tree, contract, ["exact"], **how.get(story, {}))
    writer = opened(tree, contract, ["exact"])
    writer.write(does_not_apply(contract, writer.run))
    writer.seal()
    return writer.path


def does_not_apply(contract, run, **changes):
    lacking = target(capabilities=["timing"], **changes)
    reason = "the target lacks token_ids"
    return blank(
        contract, contract.falsifiers[0], run, verdict=Verdict.NOT_APPLICABLE, reason=reason, target=lacking
    )


@pytest.mark.parametrize("story", sorted({story for story, _, _ in EDITS.values()}))
def test_honest_records_are_not_tampered(contract, tree, story):
    recorded(contract, tree, story)
    claim = claims(contract, tree)["exact"]
    assert claim.discrepancies == ()
    assert claim.status is not Status.TAMPERED


@pytest.mark.parametrize("rehash", [False, True], ids=["careless", "rehashed"])
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_tampering(contract, tree, name, rehash):
    story, change, pointer = EDITS[name]
    path = recorded(contract, tree, story)
    edit(path / "exact.json", change, rehash=rehash)
    claim = claims(contract, tree)["exact"]
    assert claim.status is Status.TAMPERED
    assert any(each.pointer.startswith(pointer) for each in claim.discrepancies)
    assert all(each.found != each.expected for each in claim.discrepancies)
    assert claim.command.startswith("git log --stat -- ")


@pytest.mark.parametrize(
    ("story", "verdict"), [("falsified", "error"), ("falsified", "blocked"), ("missed", "not-applicable")]
)
def test_a_verdict_that_needs_no_samples_hides_none(contract, tree, story, verdict):
    path = recorded(contract, tree, story)
    edit(path / "exact.json", lambda d: d.update(verdict=verdict), rehash=True)
    assert states(contract, tree)["exact"] is Status.TAMPERED


def test_an_edited_measurement_is_tampering(contract, tree):
    path = write_run(tree, contract, ["floor"], values=RED)

    def ten_times(document):
        for each in document["observations"]:
            each["samples"]["value"] *= 10

    edit(path / "floor.json", ten_times, rehash=True)
    claim = claims(contract, tree)["floor"]
    assert claim.status is Status.TAMPERED
    assert "/judgement/lower" in [each.pointer for each in claim.discrepancies]


@pytest.mark.parametrize("name", ["verdict", "sha256"])
def test_an_edited_listing_is_tampering(contract, tree, name):
    path = write_run(tree, contract, ["exact"], values=RED)
    value = {"verdict": "survived", "sha256": "0" * 64}[name]
    edit(path / "findings.json", lambda d: d["findings"][0].update({name: value}), rehash=False)
    assert states(contract, tree)["exact"] is Status.TAMPERED


def test_an_exchanged_contract_with_all_hashes_redone_is_noticed_or_stale(contract, tree):
    path = write_run(tree, contract, ["exact"], values=STRADDLING)
    easier = contract_at(tree.parent / "easier", CONTRACT.replace("cases: 3", "cases: 2", 1))
    (path / "contract.yaml").write_bytes(easier.source)
    relist(path, "contract.yaml")
    edit(
        path / "findings.json", lambda d: d["contract"].update(bytes_sha256=easier.bytes_sha256), rehash=False
    )
    assert states(contract, tree)["exact"] is Status.TAMPERED


def test_a_deleted_finding_is_tampering(contract, tree):
    path = write_run(tree, contract, values=RED)
    (path / "exact.json").unlink()
    assert states(contract, tree)["exact"] is Status.TAMPERED
    assert states(contract, tree)["floor"] is not Status.TAMPERED


def test_a_finding_hidden_under_a_name_that_nobody_declares_is_tampering(contract, tree):
    path = write_run(tree, contract, ["exact"], values=RED)
    edit(path / "exact.json", lambda d: d.update(falsifier="gone"), rehash=True)
    (path / "exact.json").rename(path / "gone.json")

    def rename(document):
        document["findings"][0].update(falsifier="gone", file="gone.json")
        document["plan"].update(selected=["gone"])

    edit(path / "findings.json", rename, rehash=False)
    assert set(states(contract, tree).values()) == {Status.TAMPERED}


def test_a_falsifier_that_the_contract_gave_up_concerns_no_other(contract, tree):
    write_run(tree, contract)
    head, _, rest = CONTRACT.partition("  - id: exact")
    fewer = head + "  - id: floor" + rest.partition("  - id: floor")[2].replace("[demo-v1/exact]", "[]")
    found = states(contract_at(tree.parent / "fewer", fewer), tree)
    assert found == {"floor": Status.OPEN, "small": Status.DISCHARGED}


def test_tampering_names_the_place(contract, tree):
    path = recorded(contract, tree, "survived")
    edit(path / "exact.json", lambda d: d["judgement"].update(n=30), rehash=True)
    reason = claims(contract, tree)["exact"].reason
    assert reason == f"{path}/exact.json#/judgement/n: found 30, expected 3"

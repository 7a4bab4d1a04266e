"""What records are judged to be: each state, levels, needs, attempts, the overview."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from records import (
    BUILD,
    CONTRACT,
    FULL,
    GREEN,
    OTHER,
    PRESENT,
    RED,
    STRADDLING,
    blank,
    changed,
    claims,
    contract_at,
    finding,
    kinds,
    opened,
    run_id,
    states,
    target,
    write_run,
)

from refute.reader import read_run
from refute.status import status
from refute.verdict import Level, Outcome, Status, Verdict

# --- states


def test_nothing_is_green_without_a_record(contract, tree):
    assert set(states(contract, tree).values()) == {Status.UNOBSERVED}


def test_every_verdict_has_its_status(contract, tree):
    expected = {
        "survived": ({}, Status.DISCHARGED),
        "falsified": ({"values": RED}, Status.FALSIFIED),
        "inconclusive": ({"values": STRADDLING}, Status.INCONCLUSIVE),
        "invalid: fault": ({"caught": False}, Status.INVALID),
        "invalid: control": ({"control": RED}, Status.INVALID),
    }
    for name, (how, state) in expected.items():
        write_run(tree / name, contract, ["exact"], model=FULL, **how)
        assert states(contract, tree / name)["exact"] is state, name


@pytest.mark.parametrize(
    ("verdict", "about", "state"),
    [
        (Verdict.ERROR, target(), Status.ERROR),
        (Verdict.BLOCKED, {}, Status.BLOCKED),
        (Verdict.INCONCLUSIVE, target(), Status.INCONCLUSIVE),
    ],
)
def test_verdicts_without_samples_have_their_status(contract, tree, verdict, about, state):
    writer = opened(tree, contract, ["exact"])
    writer.write(blank(contract, contract.falsifiers[0], writer.run, verdict=verdict, target=about))
    writer.seal()
    assert states(contract, tree)["exact"] is state


def test_a_falsified_claim_says_what_clears_it(contract, tree):
    write_run(tree, contract, ["exact"], values=RED)
    claim = claims(contract, tree)["exact"]
    assert claim.remedy.startswith("mend the engine and attack its new build; or, ")
    assert f"invalidate run {run_id(1)} in [tool.refute] of pyproject.toml" in claim.remedy
    assert claim.command == f"refute run {contract.path} -k exact --backend array"
    write_run(tree, contract, ["exact"], number=2)
    assert states(contract, tree)["exact"] is Status.FALSIFIED  # the same build again is no remedy


def test_a_tampered_claim_is_not_cleared_by_looking(contract, tree):
    path = write_run(tree, contract, ["exact"])
    (path / "exact.json").unlink()
    claim = claims(contract, tree)["exact"]
    assert claim.remedy.startswith("restore the record as it was written")
    assert claim.command.startswith("git log --stat -- ")


def test_levels_follow_from_what_was_attacked(contract, tree):
    for number, (model, level) in enumerate(
        {FULL: Level.FULL_MODEL, PRESENT.embedded_sha256: Level.EMBEDDED, OTHER: Level.OTHER}.items()
    ):
        write_run(tree / level, contract, ["exact"], number=number, model=model)
        (row,) = claims(contract, tree / level)["exact"].rows
        assert row.level is level


def test_a_simulated_engine_is_simulated_whatever_file_it_names(contract, tree):
    def fake(*arguments, **how):
        honest = finding(*arguments, **how)
        return changed(honest, target={**honest.target, "simulated": True})

    write_run(tree, contract, ["exact", "small"], model=FULL, make=fake)
    found = claims(contract, tree)
    assert found["exact"].rows[0].level is Level.SIMULATED
    assert {found["exact"].status, found["small"].status} == {Status.OPEN}


@pytest.mark.parametrize(("model", "state"), [(OTHER, Status.OPEN), (FULL, Status.DISCHARGED)])
def test_other_files_discharge_nothing_and_higher_levels_do(contract, tree, model, state):
    write_run(tree, contract, ["small"], model=model)
    assert states(contract, tree)["small"] is state


def test_other_files_can_falsify(contract, tree):
    write_run(tree, contract, ["small"])
    write_run(tree, contract, ["small"], number=2, model=OTHER, values=RED)
    assert states(contract, tree)["small"] is Status.FALSIFIED


def test_a_lower_level_leaves_a_claim_open_and_says_what_to_run(contract, tree):
    write_run(tree, contract)
    claim = claims(contract, tree)["exact"]
    assert (claim.status, claim.level) == (Status.OPEN, Level.EMBEDDED)
    assert claim.command == f"refute run {contract.path} -k exact --model /path/to/Big-Model.gguf"


def test_a_need_that_does_not_hold_leaves_a_claim_open(contract, tree):
    write_run(tree, contract, ["floor"], model=FULL)
    claim = claims(contract, tree)["floor"]
    assert claim.status is Status.OPEN
    assert claim.level is None
    assert claim.command == f"refute run {contract.path} -k exact --model /path/to/model.gguf --backend array"


@pytest.mark.parametrize(
    ("need", "state"),
    [
        ({"model": FULL}, Status.DISCHARGED),
        ({"model": PRESENT.embedded_sha256}, Status.OPEN),
        ({"model": FULL, "build": "engine-build-0"}, Status.OPEN),
        ({"model": FULL, "values": RED}, Status.OPEN),
        ({"model": FULL, "values": STRADDLING}, Status.OPEN),
        ({"model": FULL, "testbed": "c" * 64}, Status.DISCHARGED),
    ],
    ids=["same", "lower level", "other build", "falsified", "inconclusive", "other testbed"],
)
def test_a_need_holds_for_the_same_build_and_model(contract, tree, need, state):
    write_run(tree, contract, ["exact"], **need)
    write_run(tree, contract, ["floor"], number=2, model=FULL)
    assert states(contract, tree)["floor"] is state


def test_a_tampered_need_does_not_hold(contract, tree):
    path = write_run(tree, contract, ["exact"], model=FULL)
    write_run(tree, contract, ["floor"], number=2, model=FULL)
    (path / "exact.json").unlink()
    assert states(contract, tree)["floor"] is Status.OPEN


def test_a_bound_holds_on_the_testbeds_that_it_names(tree):
    named = contract_at(tree.parent / "named", CONTRACT.replace("testbeds: [any]", f"testbeds: [{'b' * 12}]"))
    write_run(tree / "a", named, ["exact", "floor"], model=FULL)
    write_run(tree / "b", named, ["exact", "floor"], model=FULL, testbed="b" * 64)
    assert states(named, tree / "a")["floor"] is Status.OPEN
    assert states(named, tree / "b")["floor"] is Status.DISCHARGED
    assert states(named, tree / "a", tree / "b")["floor"] is Status.DISCHARGED


def test_a_claim_that_was_falsified_on_another_model_names_it(contract, tree):
    write_run(tree / "other", contract, ["floor"], values=RED, model="0" * 64)
    write_run(tree / "embedded", contract, ["floor"], values=RED)
    command, backend = f"refute run {contract.path} -k floor", "--backend array"
    other, embedded = (claims(contract, tree / name)["floor"] for name in ("other", "embedded"))
    assert other.command == f"{command} --model /path/to/model.gguf {backend}"
    assert embedded.command == f"{command} {backend}"


# --- attempts


def test_a_falsified_attempt_is_not_undone_by_later_green_ones(contract, tree):
    write_run(tree, contract, ["small"], number=1, values=RED)
    for number in range(2, 5):
        write_run(tree, contract, ["small"], number=number)
    claim = claims(contract, tree)["small"]
    assert claim.status is Status.FALSIFIED
    assert (claim.rows[0].attempts, claim.rows[0].run) == (4, run_id(1))
    assert claim.verdict is Verdict.SURVIVED


def test_a_changed_engine_starts_anew(contract, tree):
    write_run(tree, contract, ["small"], number=1, values=RED, build="engine-build-0")
    claim = claims(contract, tree)["small"]
    assert claim.status is Status.STALE
    assert claim.reason.endswith("and was falsified then")
    write_run(tree, contract, ["small"], number=2)
    assert states(contract, tree)["small"] is Status.DISCHARGED


def test_a_run_of_an_older_engine_that_comes_later_changes_nothing(contract, tree):
    write_run(tree, contract, ["small"], number=1)
    write_run(tree, contract, ["small"], number=2, values=RED, build="engine-build-0")
    assert states(contract, tree)["small"] is Status.DISCHARGED


def test_an_invalid_or_inconclusive_attempt_is_superseded(contract, tree):
    write_run(tree, contract, ["small"], number=1, values=STRADDLING)
    write_run(tree, contract, ["small"], number=2, caught=False)
    assert states(contract, tree)["small"] is Status.INVALID
    write_run(tree, contract, ["small"], number=3)
    assert states(contract, tree)["small"] is Status.DISCHARGED


def test_a_blocked_run_says_nothing_once_the_claim_was_attacked(contract, tree):
    writer = opened(tree, contract, ["small"], run=run_id(1))
    writer.write(blank(contract, contract.falsifiers[2], writer.run, verdict=Verdict.BLOCKED, target={}))
    writer.seal()
    assert states(contract, tree)["small"] is Status.BLOCKED
    write_run(tree, contract, ["small"], number=2)
    assert states(contract, tree)["small"] is Status.DISCHARGED


def test_findings_of_an_interrupted_run_count(contract, tree):
    writer = opened(tree, contract)
    writer.write(finding(contract, "small", writer.run))
    writer.seal(interrupted=True)
    assert read_run(writer.path).state == "interrupted"
    found = states(contract, tree)
    assert (found["small"], found["exact"]) == (Status.DISCHARGED, Status.UNOBSERVED)


# --- the overview


def test_runs_of_other_contracts_are_listed_not_counted(contract, tree):
    other = replace(contract, id="other-v1")
    path = write_run(tree, other, ["exact"])
    overview = status([contract], [tree], present=PRESENT, kinds=kinds)
    assert overview.unclaimed == (str(path),)
    assert {claim.status for claim in overview.claims} == {Status.UNOBSERVED}


def test_several_trees_are_one(contract, tree):
    write_run(tree / "a", contract, ["exact"], model=FULL)
    write_run(tree / "b", contract, ["floor"], number=2, model=FULL)
    assert states(contract, tree / "a", tree / "b")["floor"] is Status.DISCHARGED


def test_the_overview_is_plain_json(contract, tree):
    write_run(tree, contract, values=GREEN)
    overview = status([contract], [tree], present=PRESENT, kinds=kinds)
    document = json.loads(json.dumps(overview.to_json(), allow_nan=False))
    assert document["claims"][0]["rows"][0]["engine_digest"] == BUILD
    assert document["claims"][0]["status"] == "open"


def test_status_needs_no_numpy_and_no_runtime():
    code = (
        "import sys, refute.status, refute.gate, refute.report.terminal\n"
        "print([m for m in ('numpy', 'hypothesis', 'refute_runtime', 'gguf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_outcome_and_verdict_share_their_words():
    assert {outcome.value for outcome in Outcome} < {verdict.value for verdict in Verdict}
    assert {v.value for v in Verdict} - {"survived", "not-applicable"} < {s.value for s in Status}


def test_judging_real_contracts_again_needs_no_numpy_and_no_hypothesis():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from refute.contract import load_contract\n"
        "from refute.contract_files import find_contracts\n"
        "from refute.kinds import kind_named\n"
        "for path in find_contracts(Path('/')):\n"
        "    for each in load_contract(path).falsifiers:\n"
        "        kind = kind_named(each.kind)\n"
        "        kind(kind.parameters_type(**each.parameters)).judge([], each.bound)\n"
        "print([m for m in ('numpy', 'hypothesis', 'refute_runtime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("runs", [1, 10])
def test_every_file_is_read_once_and_every_rule_looked_up_once(contract, tree, monkeypatch, runs):
    for number in range(runs):
        write_run(tree, contract, number=number, testbed=f"{number:064x}")
    read, judged = [], []
    honest = Path.read_bytes

    def counting(path):
        read.append(path)
        return honest(path)

    def resolver(name):
        judged.append(name)
        return kinds(name)

    monkeypatch.setattr(Path, "read_bytes", counting)
    claims(contract, tree, resolver=resolver)
    assert sorted(read) == sorted(path for path in tree.rglob("*") if path.is_file())
    assert len(judged) == 3

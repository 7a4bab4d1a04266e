"""A report says of every claim what the records say: its status, its evidence, its faults, its attempts."""

from pathlib import Path

import pytest
from records import (
    GREEN,
    OTHER,
    RED,
    blank,
    contract_at,
    edit,
    run_id,
    write_run,
)
from reported import everything, reported

from refute.audit.examine import Report as Audit
from refute.audit.rule import Objection, Severity
from refute.contract import Contract
from refute.finding import Finding
from refute.policy import Invalidation, Policy, Waiver
from refute.report.page.data import ClaimPart, Report
from refute.report.page.pictures import Cases, Strip
from refute.verdict import Level, Status, Verdict


def claim_of(report: Report, name: str) -> ClaimPart:
    return next(part for contract in report.contracts for part in contract.claims if part.falsifier == name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reported(*everything(tmp_path_factory.mktemp("everything")))


def test_without_records_every_claim_is_unobserved_and_says_what_clears_it(tmp_path: Path) -> None:
    contract = contract_at(tmp_path)
    report = reported(contract, tmp_path / "evidence")
    assert report.counts == ((Status.UNOBSERVED, 3),)
    part = claim_of(report, "floor")
    assert (part.evidence, part.attempts, part.verdict) == (None, (), None)
    assert part.command == f"refute run {contract.path} -k floor"
    assert report.blockers[0].claims[0].name == "demo-v1/exact"
    assert (report.runs, report.moments) == ((), ())


def test_statuses_are_those_of_the_records(whole: Report) -> None:
    assert {part.falsifier: part.status for part in whole.contracts[0].claims} == {
        "exact": Status.FALSIFIED,
        "floor": Status.INVALID,
        "small": Status.TAMPERED,
    }
    assert whole.counts == ((Status.TAMPERED, 1), (Status.FALSIFIED, 1), (Status.INVALID, 1))
    assert [each.status for each in whole.blockers] == [Status.TAMPERED, Status.FALSIFIED, Status.INVALID]


def test_the_evidence_shown_is_the_attempt_that_decides(whole: Report) -> None:
    evidence = claim_of(whole, "exact").evidence
    assert evidence is not None
    assert (evidence.run, evidence.verdict) == (run_id(3), Verdict.FALSIFIED)
    assert evidence.testbed == "c" * 12


def test_a_measured_claim_is_drawn_against_its_bound_with_its_interval(tmp_path: Path) -> None:
    contract = contract_at(tmp_path)
    write_run(tmp_path / "evidence", contract, ["floor"], values=GREEN)
    part = claim_of(reported(contract, tmp_path / "evidence"), "floor")
    assert part.bound == "median decode-rate at least 5 tok/s, 5 runs, 90 % confidence, testbeds: any"
    evidence = part.evidence
    assert evidence is not None
    assert isinstance(evidence.picture, Strip)
    assert len(evidence.picture.dots) == 5
    assert evidence.picture.interval is not None
    assert evidence.samples == "9, 8.5, 9.5, 9.25, 8.75"


def test_a_searched_claim_is_drawn_as_its_cases_with_the_rate_that_they_exclude(tmp_path: Path) -> None:
    contract = contract_at(tmp_path)
    write_run(tmp_path / "evidence", contract, ["exact"], values=GREEN)
    part = claim_of(reported(contract, tmp_path / "evidence"), "exact")
    assert part.bound == "no counterexample in 3 cases, 95 % confidence"
    assert part.evidence is not None
    assert isinstance(part.evidence.picture, Cases)
    assert part.evidence.picture.rate == "63.2%"


def test_a_counterexample_comes_with_what_replays_it(whole: Report) -> None:
    evidence = claim_of(whole, "exact").evidence
    assert evidence is not None
    found = evidence.counterexample
    assert found is not None
    assert found.case == (("case", "1"),)
    assert found.gave == (("value", "99"),)
    assert found.command.endswith(f"demo-v1/{run_id(3)}/exact.counterexample.json")
    assert found.replays == "it refuted the claim again when it was run once more"


def test_faults_come_with_what_they_break_and_the_smallest_dose_that_was_caught(whole: Report) -> None:
    caught, missed = claim_of(whole, "exact"), claim_of(whole, "floor")
    assert caught.caught == "2 of 2"
    assert caught.evidence is not None
    names = [(fault.name, fault.caught, fault.smallest) for fault in caught.evidence.faults]
    assert names == [("stale-row", True, "8 rows"), ("empty-cache", True, "1 row")]
    assert all(fault.breaks for fault in caught.evidence.faults)
    assert missed.caught == "0 of 1"
    assert missed.evidence is not None
    assert missed.evidence.faults[0].smallest == "none"


def test_every_attempt_is_listed_newest_first_and_what_does_not_count_says_why(whole: Report) -> None:
    attempts = claim_of(whole, "small").attempts
    assert [each.run for each in attempts] == [run_id(5), run_id(2), run_id(1)]
    assert attempts[0].note.startswith("tampered: ")
    assert (attempts[1].note, attempts[2].note) == ("", "")
    assert claim_of(whole, "small").history.description.startswith("3 attempts, oldest first: ")


def test_attempts_beyond_a_dozen_are_counted_and_not_listed(tmp_path: Path) -> None:
    contract = contract_at(tmp_path)
    for number in range(1, 15):
        write_run(tmp_path / "evidence", contract, ["small"], number=number)
    part = claim_of(reported(contract, tmp_path / "evidence"), "small")
    assert (len(part.attempts), part.earlier) == (12, 2)


def test_what_the_audit_found_is_shown_with_the_claim_and_once_for_all(whole: Report) -> None:
    part = claim_of(whole, "small")
    assert part.problems
    assert {each.claim for each in part.problems} == {part.anchor}
    assert set(part.problems) <= set(whole.problems)


def test_a_claim_on_two_models_has_a_row_for_each(whole: Report) -> None:
    rows = claim_of(whole, "exact").rows
    assert sorted((row.level, row.status) for row in rows) == [
        (Level.EMBEDDED, Status.OPEN),
        (Level.OTHER, Status.FALSIFIED),
    ]


def test_rows_of_a_quantity_are_drawn_on_one_line(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    write_run(tree, contract, ["floor"], number=1)
    write_run(tree, contract, ["floor"], number=2, values=RED, testbed="c" * 64)
    alone = contract_at(tmp_path / "alone")
    write_run(tmp_path / "one", alone, ["floor"], number=1)
    pictures = [row.picture for row in claim_of(reported(contract, tree), "floor").rows]
    first, second = pictures
    assert first is not None
    assert second is not None
    assert first.ticks == second.ticks
    assert first.dots != second.dots
    assert [row.picture for row in claim_of(reported(alone, tmp_path / "one"), "floor").rows] == [None]


def test_runs_are_newest_first_with_verdicts_host_and_command(whole: Report) -> None:
    assert [run.id for run in whole.runs] == [run_id(number) for number in (5, 4, 3, 2, 1)]
    run = whole.runs[2]
    assert (run.state, run.command) == ("complete", "refute run")
    assert run.verdicts == ((Verdict.FALSIFIED, 1),)
    assert run.code == "no commit: not a git repository"
    assert ("attacked.settings.backend", "array") in run.facts
    assert ("facts.cpu_model", "not known (a test)") in run.facts


def test_only_runs_that_evidence_comes_from_are_shown_in_full(whole: Report) -> None:
    assert [(run.id, bool(run.facts), bool(run.traces)) for run in whole.runs] == [
        (run_id(5), True, False),
        (run_id(4), True, False),
        (run_id(3), True, True),
        (run_id(2), False, False),
        (run_id(1), False, False),
    ]


def test_runs_beyond_twenty_are_counted_and_not_shown_unless_evidence_comes_from_them(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    for number in range(1, 24):
        write_run(tree, contract, ["floor" if number == 1 else "small"], number=number)
    report = reported(contract, tree)
    assert [run.id for run in report.runs][-2:] == [run_id(4), run_id(1)]
    assert (len(report.runs), report.earlier) == (21, 2)


def test_over_time_a_record_counts_from_its_run_on(whole: Report) -> None:
    by_run = {moment.run: dict(moment.counts) for moment in whole.moments}
    assert by_run[run_id(1)] == {Status.OPEN: 2, Status.DISCHARGED: 1}
    assert by_run[run_id(3)][Status.FALSIFIED] == 1
    assert by_run[run_id(5)] == whole.by_status
    assert all(sum(dict(moment.counts).values()) == 3 for moment in whole.moments)


def test_another_claim_that_is_needed_leads_there(whole: Report) -> None:
    (need,) = claim_of(whole, "floor").needs
    assert (need.name, need.anchor) == ("demo-v1/exact", claim_of(whole, "exact").anchor)


def test_samples_that_break_their_kind_are_a_sentence_and_no_picture(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    run = write_run(tree, contract, ["floor"])
    edit(run / "floor.json", lambda found: found["observations"][0].update(samples={}), rehash=True)
    evidence = claim_of(reported(contract, tree), "floor").evidence
    assert evidence is not None
    assert evidence.picture is None
    assert "KeyError" in evidence.undrawn or "lack 'value'" in evidence.undrawn


def test_the_command_that_repeats_an_attempt_names_its_model_unless_it_is_the_embedded_one(
    tmp_path: Path,
) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    write_run(tree, contract, ["exact"], number=1)
    embedded = claim_of(reported(contract, tree), "exact").evidence
    write_run(tree, contract, ["exact"], number=2, values=RED, model=OTHER)
    other = claim_of(reported(contract, tree), "exact").evidence
    assert embedded is not None
    assert other is not None
    assert embedded.command == f"refute run {contract.path} -k exact --backend array"
    assert other.command == f"refute run {contract.path} -k exact --model /path/to/model.gguf --backend array"


def test_runs_of_contracts_that_were_not_given_are_named(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    run = write_run(tree, contract)
    (tree / "other-v1").mkdir()
    run.rename(tree / "other-v1" / run.name)
    assert len(reported(contract, tree).unclaimed) == 1


def objection(severity: Severity, file: str, rule: str = "some-rule") -> Objection:
    return Objection(rule, severity, file, "/figure", "1", "2")


def audit_of(*objections: Objection) -> Audit:
    return Audit(("evidence",), objections, runs=1, findings=3, judged=3, rules=99)


def test_what_an_audit_found_stands_with_its_claim_and_what_concerns_none_with_the_whole(
    tmp_path: Path,
) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    run = write_run(tree, contract)
    found = audit_of(
        objection(Severity.ERROR, f"{run}/floor.json"),
        objection(Severity.WARNING, f"{run}/exact.counterexample.json"),
        objection(Severity.ERROR, f"{run}/findings.json", "whole"),
    )
    report = reported(contract, tree, audit=found)
    floor, exact = claim_of(report, "floor"), claim_of(report, "exact")
    assert [(each.rule, each.severity, each.claim) for each in floor.problems] == [
        ("some-rule", "error", floor.anchor)
    ]
    assert [each.severity for each in exact.problems] == ["warning"]
    assert claim_of(report, "small").problems == ()
    assert [(each.rule, each.claim) for each in report.problems] == [
        ("some-rule", floor.anchor),
        ("whole", ""),
    ]
    assert [(each.rule, each.severity) for each in report.remarks] == [("some-rule", "warning")]
    assert report.audited == 99


def test_notes_of_an_audit_are_told_once_for_each_rule(tmp_path: Path) -> None:
    contract = contract_at(tmp_path)
    notes = [objection(Severity.NOTE, f"run-{n}/floor.json", "known") for n in range(3)]
    report = reported(contract, tmp_path, audit=audit_of(*notes))
    assert [(each.rule, each.times, each.where) for each in report.remarks] == [
        ("known", 3, "run-0/floor.json")
    ]
    assert report.problems == ()


def test_what_a_reader_and_an_audit_found_at_one_place_is_told_once(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    run = write_run(tree, contract)
    edit(run / "small.json", lambda finding: finding.update(figure="999 cases"), rehash=True)
    alone = claim_of(reported(contract, tree), "small").problems
    assert [each.rule for each in alone] == ["record"]
    both = reported(contract, tree, audit=audit_of(objection(Severity.ERROR, f"{run}/small.json")))
    assert [each.rule for each in claim_of(both, "small").problems] == ["some-rule"]


def test_a_waived_claim_says_who_answers_for_it_and_what_it_is_beneath(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    write_run(tree, contract, values=RED)
    waiver = Waiver("demo-v1/exact", "A. Person", "known, is being mended", "9999-12-31", Status.FALSIFIED)
    unknown = Waiver("demo-v1/other", "A. Person", "a typo", "9999-12-31", Status.FALSIFIED)
    report = reported(contract, tree, policy=Policy("d" * 64, waivers=(waiver, unknown)))
    part = claim_of(report, "exact")
    assert (part.status, part.beneath) == (Status.WAIVED, Status.FALSIFIED)
    assert part.reason.startswith("waived by A. Person until 9999-12-31: known, is being mended")
    assert part.evidence is not None
    assert part.evidence.counterexample is not None
    assert (report.policy, len(report.notes)) == ("d" * 64, 1)


def test_an_attempt_that_was_invalidated_is_listed_with_who_said_so_and_decides_nothing(
    tmp_path: Path,
) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    write_run(tree, contract, ["small"], number=1)
    write_run(tree, contract, ["small"], number=2, values=RED)
    taken_out = Invalidation("demo-v1/small", run_id(2), "A. Person", "the host slept")
    part = claim_of(reported(contract, tree, policy=Policy("d" * 64, invalidations=(taken_out,))), "small")
    assert part.status is Status.DISCHARGED
    assert part.evidence is not None
    assert part.evidence.run == run_id(1)
    assert [each.note for each in part.attempts] == ["invalidated by A. Person: the host slept", ""]
    assert part.notes == (f"run {run_id(2)} was invalidated by A. Person: the host slept",)


def test_it_says_what_a_gate_would_decide(whole: Report, tmp_path: Path) -> None:
    assert [(gate.profile, gate.passes, gate.outcomes) for gate in whole.gates] == [
        ("pr", False, (("fail", 3),)),
        ("release", False, (("fail", 3),)),
    ]
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    write_run(tree, contract)
    gates = {gate.profile: gate for gate in reported(contract, tree).gates}
    assert gates["pr"].passes
    assert gates["pr"].outcomes == (("pass", 3),)
    assert not gates["release"].passes


def test_a_reason_without_an_end_is_cut_and_says_so(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"

    def broken(contract: Contract, name: str, run: str) -> Finding:
        falsifier = next(each for each in contract.falsifiers if each.id == name)
        return blank(contract, falsifier, run, reason="x" * 100_000)

    write_run(tree, contract, ["small"], make=broken)
    part = claim_of(reported(contract, tree), "small")
    assert part.status is Status.ERROR
    assert len(part.reason) < 2_100
    assert "98000 characters" in part.reason

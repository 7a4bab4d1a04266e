"""What each verdict is in pytest's words, and how a failure reads."""

import pytest
from small_contract import REPEATS, contract

import refute.attack
from refute.verdict import Verdict


@pytest.mark.parametrize(
    ("verdict", "outcome", "code"),
    [
        (Verdict.SURVIVED, "passed", 0),
        (Verdict.FALSIFIED, "failed", 1),
        (Verdict.INCONCLUSIVE, "failed", 1),
        (Verdict.INVALID, "failed", 1),
        (Verdict.ERROR, "failed", 1),
        (Verdict.BLOCKED, "skipped", 0),
        (Verdict.NOT_APPLICABLE, "skipped", 0),
    ],
)
def test_verdict_as_outcome(project, decide, verdict, outcome, code):
    decide(verdict)
    project.write(contract(REPEATS))
    result = project.run("contracts")
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == code
    assert project.verdicts() == {"repeats": verdict}


def test_every_verdict_has_an_outcome():
    (mark,) = test_verdict_as_outcome.pytestmark
    assert {row[0] for row in mark.args[1]} == set(Verdict)


def test_a_skip_says_why(project, decide):
    decide(Verdict.NOT_APPLICABLE)
    project.run("-rs", "contracts").stdout.fnmatch_lines(
        ["SKIPPED*not-applicable: told to be not-applicable"]
    )


def test_a_refuted_claim_is_told_without_a_traceback(project, decide):
    decide(Verdict.FALSIFIED)
    project.write(contract(REPEATS))
    result = project.run("contracts")
    result.stdout.fnmatch_lines(
        [
            "FALSIFIED*small-v1/repeats",
            "claim *Greedy decoding repeats itself.",
            "at *contracts/small-v1.yaml:12",
            "bound *cases 3*",
            "figure *1 of 1 cases",
            "case *prompt [[]1, 2[]]",
            "gave *cached [[]3[]]; full [[]4[]]",
            "again *it refuted the claim again when it was run once more",
            "replay *refute replay evidence/small-v1/*/repeats.counterexample.json",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*collect.py*")


def test_a_broken_falsifier_is_an_error_with_its_traceback(project, monkeypatch):
    def broken(plan):
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(refute.attack, "controlled", broken)
    project.write(contract(REPEATS))
    result = project.run("contracts")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*def broken(plan):", "E *ZeroDivisionError: a bug of ours"])
    assert project.verdicts() == {"repeats": "error"}


def test_junit_carries_verdicts(project, decide):
    decide(Verdict.SURVIVED)
    project.run("--junitxml=junit.xml", "contracts")
    text = (project.pytester.path / "junit.xml").read_text()
    assert text.count('<property name="refute.verdict" value="survived" />') == 3
    assert "urn:refute:schema" not in text

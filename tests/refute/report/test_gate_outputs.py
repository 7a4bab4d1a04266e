"""What a CI shows of a decision: a summary, annotations and JUnit, within limits; records are only text."""

import dataclasses
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from records import PRESENT, RED, STRADDLING, contract_at, edit, kinds, write_run

from refute.cli import main
from refute.gate import gate
from refute.policy import Policy, Waiver, digest_of
from refute.report.annotations import MOST, annotations
from refute.report.escape import command_property, command_text, in_markdown, one_line, xml_text
from refute.report.job_summary import LIMIT, job_summary
from refute.report.junit import junit
from refute.verdict import Exit, Status

NOW = datetime(2026, 11, 30, tzinfo=UTC)
TEXTS = st.text(max_size=60) | st.text("|`<>&*_[]()!#:%,~@\\\n\r\t\"'$-=.^/wht ps", max_size=60)


@pytest.fixture(scope="module")
def contract(folder):
    return contract_at(folder)


@pytest.fixture(scope="module")
def decision(contract, folder):
    """One claim fails, one is waived, one passes."""
    tree = folder / "evidence"
    write_run(tree, contract, ["exact"], values=RED)
    write_run(tree, contract, ["floor"], number=2, values=STRADDLING)
    write_run(tree, contract, ["small"], number=3)
    waiver = Waiver("demo-v1/floor", "ana", "the host | is slow", "2026-12-31", Status.INVALID)
    policy = Policy(digest_of({}), waivers=(waiver,))
    return gate([contract], [tree], profile="pr", present=PRESENT, kinds=kinds, policy=policy, now=NOW)


def many(decision, number, **changes):
    """The decision with its first ruling so many times."""
    ruling = dataclasses.replace(decision.rulings[0], **changes)
    return dataclasses.replace(decision, rulings=(ruling,) * number)


# --- escaping


@given(TEXTS)
def test_markdown_shows_a_text_as_it_is(text):
    escaped = in_markdown(text)
    table = f"| a | b |\n|---|---|\n| {escaped} | <code>{escaped}</code> |\n"
    cells = [
        token for token in MarkdownIt("gfm-like", {"linkify": False}).parse(table) if token.type == "inline"
    ][2:]
    shown = ("".join(each.content for each in cell.children if each.type != "html_inline") for cell in cells)
    assert [each.replace("\u2060", "") for each in shown] == [
        one_line(text).strip().replace("\u2060", "")
    ] * 2
    assert {child.type for child in cells[0].children} <= {"text", "text_special"}


@given(TEXTS)
def test_a_workflow_command_stays_one_with_its_own_properties(text):
    line = f"::error file={command_property(text)},line=1::{command_text(text)}"
    assert len(line.splitlines()) == 1
    head, _, message = line.removeprefix("::").partition("::")
    file, separator, rest = head.removeprefix("error ").partition(",")
    assert (separator, rest) == (",", "line=1")
    for escaped in (file.removeprefix("file="), message):
        read = escaped.replace("%2C", ",").replace("%3A", ":").replace("%25", "%")
        assert read == one_line(text)


@given(TEXTS)
def test_xml_holds_any_text(text):
    element = ET.Element("a", b=xml_text(text))
    element.text = xml_text(text)
    read = ET.fromstring(ET.tostring(element, encoding="utf-8"))
    assert read.get("b") == xml_text(text)
    assert (read.text or "") == xml_text(text)


@given(TEXTS)
def test_one_line_has_nothing_that_a_terminal_would_do(text):
    assert all(each.isprintable() for each in one_line(text))


@given(st.lists(TEXTS, min_size=3, max_size=3))
def test_whatever_records_say_every_output_keeps_its_shape(decision, contract, texts):
    reason, figure, flag = texts
    claim = dataclasses.replace(decision.rulings[0].claim, figure=figure, flags=(flag,), claim=reason)
    ruling = dataclasses.replace(decision.rulings[0], claim=claim, reason=reason, command=figure)
    hostile = dataclasses.replace(decision, rulings=(ruling, *decision.rulings[1:]))
    suite = ET.fromstring(junit(hostile))
    assert [case.get("name") for case in suite.iter("testcase")] == ["exact", "floor", "small"]
    lines = annotations(hostile, [contract], contract.path.parent)
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::warning", "::warning"]
    honest = job_summary(decision).splitlines()
    assert [line for line in job_summary(hostile).splitlines() if line.startswith(("#", "<", "</"))] == [
        line for line in honest if line.startswith(("#", "<", "</"))
    ]


# --- what is said


def test_a_summary_says_what_fails_first_and_how_to_clear_it(decision):
    text = job_summary(decision)
    assert text.startswith("## refute gate, pr: closed\n\n1 fail, 1 are waived, 1 pass; 3 runs read; exit")
    assert "### 1 claim: fail" in text
    row = next(line for line in text.splitlines() if line.startswith("| `demo-v1/exact`"))
    assert "| falsified | " in row
    assert "| mend the engine and attack its new build; or, " in row
    assert "<code>refute run " in row
    assert "the host &#124; is slow" in text
    assert text.index("`demo-v1/exact`") < text.index("`demo-v1/floor`") < text.index("`demo-v1/small`")


def test_annotations_stand_beside_the_claim_in_its_contract(decision, contract):
    error, warning = annotations(decision, [contract], contract.path.parent.parent)
    folder = contract.path.parent.name
    assert error.startswith(f"::error file={folder}/demo-v1.yaml,line=9,title=demo-v1/exact fails::")
    assert "clear it with: mend the engine" in error
    assert ": refute run " in error
    assert warning.startswith(f"::warning file={folder}/demo-v1.yaml,line=19,title=demo-v1/floor is waived::")


def test_a_contract_outside_of_the_checkout_has_no_place_in_it(decision, contract, tmp_path):
    assert annotations(decision, [contract], tmp_path)[0].startswith("::error title=demo-v1/exact fails::")


def test_junit_counts_what_blocks_and_skips_only_what_does_not(decision):
    (suite,) = ET.fromstring(junit(decision))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    exact = suite.find("testcase[@name='exact']/failure")
    assert exact.get("type") == "falsified"
    assert suite.find("properties/property[@name='policy_sha256']").get("value") == digest_of({})


@pytest.mark.parametrize("profile", ["pr", "release"])
def test_nothing_observed_is_a_failure_everywhere(contract, tmp_path, profile):
    empty = gate([contract], [tmp_path], profile=profile, present=PRESENT, kinds=kinds, now=NOW)
    assert len(list(ET.fromstring(junit(empty)).iter("failure"))) == 4
    assert len(annotations(empty, [contract], tmp_path)) == 4
    assert "there are no records at all" in job_summary(empty)


def test_tampering_is_an_error(contract, tmp_path):
    path = write_run(tmp_path, contract)
    edit(path / "exact.json", lambda d: d.update(figure="fine"), rehash=True)
    found = gate([contract], [tmp_path], profile="pr", present=PRESENT, kinds=kinds, now=NOW)
    assert ET.fromstring(junit(found)).find("testsuite").get("errors") == "1"


# --- limits


@pytest.mark.parametrize(("number", "lines"), [(MOST, MOST), (MOST + 1, MOST), (500, MOST)])
def test_annotations_are_at_most_ten_and_say_how_many_more_there_are(decision, contract, number, lines):
    shown = annotations(many(decision, number), [contract], contract.path.parent)
    assert len(shown) == lines
    more = number - (MOST - 1)
    assert ("and " in shown[-1].split("::")[2] and f"and {more} more;" in shown[-1]) == (number > MOST)


@pytest.mark.parametrize(("number", "limit"), [(20_000, LIMIT), (50, 6_000), (3, 600), (3, 100)])
def test_a_summary_keeps_within_its_limit_and_counts_what_is_left_out(decision, number, limit):
    text = job_summary(many(decision, number), limit)
    assert len(text.encode()) <= limit
    rows = text.count("| `demo-v1/exact`")
    assert text == "" or f"Another {number - rows} claims found no place here" in text
    assert bool(text) == (limit > 300)


# --- the command line


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refute.lint.lint", lambda *_, **__: [])
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    contract_at(tmp_path / "contracts")
    return tmp_path


def test_in_github_actions_the_job_gets_a_summary_and_annotations(project, monkeypatch, capsys):
    (project / "summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary.md"))
    assert main(["gate", "--profile", "pr", "--json"]) == Exit.MISSING
    assert (project / "summary.md").read_text().startswith("before\n## refute gate, pr: closed")
    assert "::error file=contracts/demo-v1.yaml,line=9,title=" in capsys.readouterr().err


def test_files_are_written_where_they_are_asked_for(project, capsys):
    command = ["gate", "--profile", "pr", "--json", "--junit", "gate.xml", "--summary", "gate.md"]
    assert main(command) == Exit.MISSING
    assert ET.parse(project / "gate.xml").getroot().tag == "testsuites"
    assert (project / "gate.md").read_text().startswith("## refute gate")
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written_is_told(project, capsys):
    assert main(["gate", "--profile", "pr", "--json", "--junit", "no/such/folder.xml"]) == Exit.USAGE
    assert (
        capsys.readouterr().err.strip()
        == "refute: no/such/folder.xml cannot be written: No such file or directory"
    )


def test_a_dry_run_decides_and_ends_well(project, capsys):
    assert main(["gate", "--profile", "pr", "--json", "--dry-run"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["code"] == Exit.MISSING

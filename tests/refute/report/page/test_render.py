"""The page: well formed, whole in itself, and text from records never becomes markup."""

import base64
import dataclasses
import hashlib
import itertools
import re
from pathlib import Path

import pytest
from html_checks import Page
from hypothesis import example, given, settings
from hypothesis import strategies as st
from records import contract_at
from reported import everything, reported, rewritten

from refute.report.escape import visible
from refute.report.page.data import Report
from refute.report.page.render import page
from refute.verdict import Status, Verdict

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</title></style></script><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "&lt;b&gt; &#60;i&#62; ]]> <!-- -->",
    "javascript:alert(1)",
    "\x00\x1b[31m\u202e\u2066\ufeff\ud800",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reported(*everything(tmp_path_factory.mktemp("everything")))


@pytest.fixture(scope="module")
def written(whole: Report) -> Page:
    return Page.of(page(whole))


def test_the_page_is_well_formed_refers_within_itself_and_fetches_nothing(written: Page) -> None:
    assert list(written.problems()) == []


def test_a_page_of_nothing_is_whole_too(tmp_path: Path) -> None:
    empty = Page.of(page(reported(contract_at(tmp_path), tmp_path)))
    assert list(empty.problems()) == []
    assert "never attempted" in str([each.attributes for each in empty.elements])
    assert "There is no record of these contracts in " in empty.text


def test_no_address_is_in_the_page_that_is_not_a_text_of_a_record(whole: Report) -> None:
    data = page(whole).decode()
    assert re.findall(r"(?:https?:)?//[\w.]+", re.sub(r"//.*", "", data.partition("<script>")[0])) == []


def test_the_policy_lets_only_the_style_and_the_script_of_the_page_run(written: Page) -> None:
    policy = next(each for each in written.elements if "http-equiv" in each.attributes).attributes["content"]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag in ("style", "script"):
        (element,) = [each for each in written.elements if each.tag == tag]
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_every_claim_is_there_with_its_sentence_status_bound_and_command(
    whole: Report, written: Page
) -> None:
    text = " ".join(written.text.split())
    for part in whole.contracts[0].claims:
        for what in (part.sentence, part.bound, part.status, part.command):
            assert what in text


def test_tables_have_headers_with_a_scope_and_pictures_have_names(written: Page) -> None:
    assert {each.attributes.get("scope") for each in written.elements if each.tag == "th"} <= {"col", "row"}
    drawings = [each.attributes for each in written.elements if each.tag == "svg"]
    assert drawings
    for each in drawings:
        hidden = each.get("aria-hidden") == "true"
        assert hidden or (each["role"] == "img" and (each.get("aria-label") or each.get("aria-labelledby")))


def test_landmarks_headings_and_a_link_past_them_are_there(written: Page) -> None:
    tags = [each.tag for each in written.elements]
    assert [tags.count(tag) for tag in ("main", "h1", "nav", "footer")] == [1, 1, 1, 1]
    links = [each.attributes["href"] for each in written.elements if each.tag == "a"]
    assert links[0] == "#main"
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@settings(max_examples=settings().max_examples // 2)  # whole pages
@given(st.text(alphabet=st.characters(), min_size=1))
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
@example(HOSTILE[4])
@example(HOSTILE[5])
@example(HOSTILE[6])
def test_no_text_becomes_markup_whatever_it_is_and_wherever_it_stands(whole, written, text) -> None:
    hostile = Page.of(page(rewritten(whole, lambda old: old + text)))
    assert hostile.structure() == written.structure()
    assert list(hostile.faults) == []
    assert visible(text).strip() in hostile.text


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("a\x00b\x1b[31m\u202ec\u00a0d\ne") == "a\\x00b\\x1b[31m\\u{202e}c d\ne"
    assert visible("naïve 日本語 🙂") == "naïve 日本語 🙂"


def test_every_status_and_verdict_has_its_looks(whole: Report) -> None:
    style = page(whole).decode().partition("<style>")[2].partition("</style>")[0]
    for status in Status:
        assert f".s-{status}" in style
        assert f"#show-{status}:not(:checked)" in style
    for verdict in Verdict:
        assert f".v-{verdict}" in style


def test_the_same_records_give_the_same_page(whole: Report) -> None:
    assert page(whole) == page(whole)


def test_of_very_many_problems_the_first_are_shown_and_the_rest_counted(whole: Report) -> None:
    (one,) = {problem for problem in whole.problems if problem.pointer == "/figure"}
    many = tuple(dataclasses.replace(one, pointer=f"/{n}") for n in range(5000))
    data = page(dataclasses.replace(whole, problems=many))
    assert len(data) < 400_000
    assert "And 4800 more;" in Page.of(data).text

"""Markdown: the same data, what matters first, within a size, and no markup but ours."""

from pathlib import Path

import pytest
from html_checks import Page
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from records import contract_at
from reported import everything, reported, rewritten

from refute.report.escape import in_markdown as text
from refute.report.escape import one_line
from refute.report.page.data import Report
from refute.report.page.markdown import LIMIT, markdown
from refute.report.words import short

HOSTILE = (
    "<script>alert(1)</script>",
    "</summary></details><img src=x>",
    "**bold** _em_ `code` ~~gone~~ [link](http://a.b) ![i](x) <http://a.b>",
    "| a | b |",
    "\n\n# heading\n\n- list\n\n```\nfence",
    "@someone #12 http://a.b www.a.b :tada: $x$",
    "&lt;b&gt; \\* <!-- x -->",
    "\x00\u202e",
)


def rendered(source: str) -> Page:
    """As a renderer of GitHub's flavour makes HTML of it, tags that we write included."""
    return Page.of(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source).encode()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reported(*everything(tmp_path_factory.mktemp("everything")))


@pytest.fixture(scope="module")
def written(whole: Report) -> Page:
    return rendered(markdown(whole))


def test_it_is_well_formed_and_folds_what_is_long(written: Page) -> None:
    assert written.faults == []
    tags = [each.tag for each in written.elements]
    assert tags.count("details") == tags.count("summary") == 2
    assert tags.count("table") == 4


def test_it_says_how_every_claim_stands_what_blocks_it_and_what_clears_that(
    whole: Report, written: Page
) -> None:
    said = " ".join(written.text.replace("\u2060", "").split())
    assert "Evidence: ⛔ 1 tampered, ❌ 1 falsified, 🟣 1 invalid" in said
    for part in whole.contracts[0].claims:
        assert part.falsifier in said
        assert short(part.command, 400) in said
        assert short(part.reason, 240) in said
    assert "refute replay" in said
    assert said.index("What the audit found") < said.index("What is not discharged")


@settings(max_examples=settings().max_examples // 2)  # whole pages
@given(st.text(alphabet=st.characters(), min_size=1, max_size=60))
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
@example(HOSTILE[4])
@example(HOSTILE[5])
@example(HOSTILE[6])
@example(HOSTILE[7])
def test_no_text_becomes_markup_whatever_it_is_and_wherever_it_stands(whole, written, hostile) -> None:
    page = rendered(markdown(rewritten(whole, lambda old: hostile + old)))
    assert page.structure() == written.structure()
    assert page.faults == []


@given(st.text(alphabet=st.characters(), max_size=60))
@example("@someone #12 www.a.b")
def test_a_text_reads_as_it_was(value: str) -> None:
    shown = rendered(f"| a |\n| --- |\n| x{text(value)}x |\n").text
    assert "".join(shown.replace("\u2060", "").split()) == "ax" + "".join(one_line(value).split()) + "x"


@pytest.mark.parametrize("calling", ["@someone", "#12", "https://a.b", "www.a.b"])
def test_nothing_that_a_renderer_makes_a_link_or_a_mention_of_is_left(calling: str) -> None:
    assert calling not in text(f"see {calling} there")
    assert calling not in rendered(text(f"see {calling} there")).text or calling[0] in "hw"


@pytest.mark.parametrize("limit", [2_000, 4_000, 8_000, LIMIT])
def test_it_keeps_to_its_size_and_says_what_is_left_out(whole: Report, limit: int) -> None:
    made = markdown(whole, limit=limit)
    assert len(made.encode()) <= limit
    assert "Evidence: " in made
    assert ("Left out" in made) == (limit < 8_000)
    assert rendered(made).faults == []


def test_without_records_it_says_so(tmp_path: Path) -> None:
    made = markdown(reported(contract_at(tmp_path), tmp_path))
    assert "🟡 3 unobserved" in made
    assert rendered(made).faults == []

"""Two runs side by side: what changed, how far figures moved, and what may not be compared."""

from pathlib import Path

import pytest
from html_checks import Page
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from records import CONTRACT, GREEN, OTHER, RED, STRADDLING, contract_at, edit, kinds, run_id, write_run
from reported import MADE, rewritten

from refute.report.page.compare import Comparison, NoSuchRun, Pairing, compare, find_run
from refute.report.page.compared_markdown import compared_markdown
from refute.report.page.markdown import LIMIT
from refute.report.page.render import compared


def compared_runs(*folders: Path) -> Comparison:
    before, after = folders
    return compare([before], [after], kinds=kinds, made=MADE, version="0.1.0")


def pairing(both: Comparison, name: str) -> Pairing:
    return next(each for each in both.pairings if each.falsifier == name)


def floors(tmp_path: Path, before: tuple[float, ...], after: tuple[float, ...]) -> Pairing:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    runs = (
        write_run(tree, contract, ["floor"], number=number, values={"floor": values})
        for number, values in enumerate((before, after), start=1)
    )
    return pairing(compared_runs(*runs), "floor")


def test_a_verdict_that_changed_is_better_or_worse_and_comes_first(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    before = write_run(tree, contract, number=1, values={**RED, "exact": (1, 2, 3)})
    after = write_run(tree, contract, number=2, values={**GREEN, "exact": (1, 99)})
    both = compared_runs(before, after)
    assert [(each.falsifier, each.change) for each in both.pairings] == [
        ("exact", "worse"),
        ("floor", "better"),
        ("small", "better"),
    ]
    assert both.counts == (("worse", 1), ("better", 2))
    back = compared_runs(after, before)
    assert {each.falsifier: each.change for each in back.pairings} == {
        "exact": "better",
        "floor": "worse",
        "small": "worse",
    }


def test_a_change_between_two_that_are_not_green_is_another_verdict(tmp_path: Path) -> None:
    assert floors(tmp_path, RED["floor"], STRADDLING["floor"]).change == "other"


def test_a_claim_of_one_run_only_is_in_one_run_only(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    both = compared_runs(
        write_run(tree, contract, ["exact"], number=1), write_run(tree, contract, ["small"], number=2)
    )
    assert {each.falsifier: each.change for each in both.pairings} == {
        "exact": "only before",
        "small": "only after",
    }
    assert pairing(both, "exact").after is None


@pytest.mark.parametrize(
    ("after", "difference"),
    [
        ((19.0, 18.5, 19.5, 19.25, 18.75), "the median rose: +9 tok/s to +11 tok/s"),
        ((7.0, 7.1, 7.2, 7.3, 7.4), "the median fell: -2.5 tok/s to -1.1 tok/s"),
        (
            (9.0, 8.6, 9.5, 9.1, 8.9),
            "the intervals overlap: -0.9 tok/s to +1 tok/s, so no difference is shown",
        ),
    ],
)
def test_a_figure_moved_no_further_than_from_end_to_end_of_both_intervals(
    tmp_path: Path, after: tuple[float, ...], difference: str
) -> None:
    found = floors(tmp_path, GREEN["floor"], after)
    assert found.difference.startswith(difference)
    assert ("80 % confidence" in found.difference) == ("median" in found.difference)


def test_both_figures_are_drawn_on_one_line(tmp_path: Path) -> None:
    found = floors(tmp_path, GREEN["floor"], (19.0, 18.5, 19.5, 19.25, 18.75))
    assert found.before is not None
    assert found.after is not None
    assert found.before.picture is not None
    assert found.after.picture is not None
    assert found.before.picture.ticks == found.after.picture.ticks
    assert found.before.picture.line == found.after.picture.line
    assert found.before.picture.dots != found.after.picture.dots


def test_runs_under_different_bounds_are_not_comparable_and_say_in_what_they_differ(tmp_path: Path) -> None:
    tree = tmp_path / "evidence"
    old = contract_at(tmp_path / "old")
    new = contract_at(tmp_path / "new", CONTRACT.replace("above: 5 tok/s", "above: 8 tok/s"))
    both = compared_runs(
        write_run(tree, old, ["floor"], number=1),
        write_run(tree, new, ["floor"], number=2, values={"floor": (19.0, 18.5, 19.5, 19.25, 18.75)}),
    )
    found = pairing(both, "floor")
    assert (found.change, found.apart, found.difference) == (
        "not comparable",
        "bound above 5 tok/s → 8 tok/s",
        "",
    )


def test_only_what_differs_in_the_provenance_is_listed(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    both = compared_runs(
        write_run(tree, contract, number=1),
        write_run(tree, contract, number=2, model=OTHER, testbed="c" * 64),
    )
    assert {name: (before[:1], after[:1]) for name, before, after in both.differences} == {
        "testbed": ("a", "c"),
        "attacked.model_sha256": ("e", "0"),
    }
    assert both.alike > 20


def test_a_record_that_was_edited_is_said_to_be_so(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    before, after = (write_run(tree, contract, ["floor"], number=number) for number in (1, 2))
    edit(after / "floor.json", lambda found: found.update(figure="900 ≥ 5 tok/s"), rehash=True)
    found = pairing(compared_runs(before, after), "floor")
    assert found.before is not None
    assert found.after is not None
    assert (found.before.problems, found.after.problems) == (0, 1)


def test_a_run_is_found_by_its_folder_its_id_and_the_beginning_of_it(tmp_path: Path) -> None:
    contract, tree = contract_at(tmp_path), tmp_path / "evidence"
    first, second = (write_run(tree, contract, number=number) for number in (1, 2))
    assert find_run(str(first), []) == [first]
    assert find_run(second.name, [tree]) == [second]
    assert find_run(run_id(1)[:15], [tree]) == [first]
    with pytest.raises(NoSuchRun, match=r"2 runs in .* begin so"):
        find_run("2026", [tree])
    with pytest.raises(NoSuchRun, match=f"the newest there are {first.name}, {second.name}"):
        find_run("2025", [tree])
    with pytest.raises(NoSuchRun, match="no run in"):
        find_run("2025", [tmp_path / "nowhere"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compared")
    tree, old = folder / "evidence", contract_at(folder / "old")
    new = contract_at(folder / "new", CONTRACT.replace("above: 5 tok/s", "above: 8 tok/s"))
    before = write_run(tree, old, number=1)
    after = write_run(tree, new, ["exact", "floor"], number=2, values=RED, model=OTHER)
    return compared_runs(before, after)


def test_the_page_is_well_formed_and_says_all_of_it(whole: Comparison) -> None:
    page = Page.of(compared(whole))
    assert list(page.problems()) == []
    said = " ".join(page.text.split())
    for each in whole.pairings:
        assert each.change in said
        assert each.sentence in said or each.falsifier in said
    assert "Not comparable: bound above 5 tok/s → 8 tok/s" in said


@settings(max_examples=settings().max_examples // 2)  # whole pages
@given(st.text(alphabet=st.characters(), min_size=1))
@example("<script>alert(1)</script>")
@example("\"'><img src=x onerror=alert(1)>")
@example("\n\n# heading | x | `code` **bold** @someone\n```")
def test_no_text_becomes_markup_in_either_form(whole, text) -> None:
    hostile = rewritten(whole, lambda old: text + old)
    assert Page.of(compared(hostile)).structure() == Page.of(compared(whole)).structure()
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    pages = [Page.of(parser.render(compared_markdown(each)).encode()) for each in (hostile, whole)]
    assert pages[0].structure() == pages[1].structure()
    assert pages[0].faults == []


def test_markdown_keeps_to_its_size(whole: Comparison) -> None:
    assert len(compared_markdown(whole, limit=2_000).encode()) <= 2_000
    made = compared_markdown(whole)
    assert len(made.encode()) < LIMIT
    assert made.startswith("## Two runs: 1 worse, 1 not comparable, 1 only before\n")

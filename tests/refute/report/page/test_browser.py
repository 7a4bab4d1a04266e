"""The page in a browser: nothing is fetched or complained about; it works by keyboard, by ear and by eye."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ENTER, MISSING, SPACE, TAB, Browser, browsing, installed
from records import GREEN, RED, contract_at, kinds, write_run
from reported import MADE, everything, reported, rewritten

from refute.report.page.compare import compare
from refute.report.page.data import Report
from refute.report.page.render import compared, page

pytestmark = pytest.mark.skipif(installed() is None, reason=MISSING)

# Every text that is seen, with the contrast of its colour against what lies behind it (WCAG 2.2).
CONTRAST = """
const linear = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const parsed = new Map();
const parse = (text) => {
  if (!parsed.has(text)) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    parsed.set(text, [...canvas.getImageData(0, 0, 1, 1).data]);
  }
  return parsed.get(text);
};
const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255, 255];
};
const known = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, title, desc, .unseen, .skip")) continue;
  if (!element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const drawn = element.closest("svg") !== null;
  const colour = drawn ? style.fill : style.color;
  const back = behind(element);
  const key = colour + back;
  if (!known.has(key)) {
    const [a, b] = [light(parse(colour)), light(back)].sort((x, y) => y - x);
    known.set(key, (a + 0.05) / (b + 0.05));
  }
  const name = element.className.baseVal ?? element.className;
  found.push([known.get(key), name, node.textContent.trim().slice(0, 40)]);
}
return found;
"""
FOCUSED = """
const at = document.activeElement;
return [at.tagName.toLowerCase(), at.id, at.textContent.trim().slice(0, 60)];
"""
SEEN = """
const claims = [...document.querySelectorAll(".claim")];
return claims.filter((each) => each.checkVisibility()).map((each) => each.id);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return reported(*everything(tmp_path_factory.mktemp("everything")))


@pytest.fixture(scope="module")
def file(whole: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page(whole))
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Browser:
    """The page, as a desktop with light colours shows it at first."""
    browser.size(1200, 900)
    browser.prefer("light")
    browser.open(file)
    browser.run("try { localStorage.clear() } catch {}")
    return browser


def test_nothing_but_the_page_is_asked_for_and_the_console_is_silent(opened: Browser, file: Path) -> None:
    assert {url for url in opened.requests() if not url.startswith("data:")} == {file.as_uri()}
    assert opened.console() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_lies_behind_it(opened: Browser, scheme: str) -> None:
    opened.prefer(scheme)
    opened.run("for (const each of document.querySelectorAll('details')) each.open = true")
    texts = opened.run(CONTRAST)
    assert len(texts) > 300
    assert [each for each in texts if each[0] < 4.5] == []


def test_colours_follow_the_system_until_one_is_chosen_and_the_choice_is_remembered(
    opened: Browser,
) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    light = opened.run(back)
    opened.prefer("dark")
    dark = opened.run(back)
    assert light != dark
    opened.run("document.getElementById('theme-light').click()")
    assert opened.run(back) == light
    opened.reload()
    assert opened.run(back) == light
    opened.run("localStorage.clear()")


def test_the_first_key_leads_past_the_head_to_the_claims(opened: Browser) -> None:
    opened.press(TAB)
    assert opened.run(FOCUSED) == ["a", "", "Skip to the claims"]
    assert opened.run("return document.activeElement.getBoundingClientRect().left") >= 0
    opened.press(ENTER)
    assert opened.run(FOCUSED)[1] == "main"


def test_keys_reach_the_filter_the_claims_and_what_is_folded(opened: Browser) -> None:
    reached = []
    for _ in range(60):
        opened.press(TAB)
        reached.append(opened.run(FOCUSED))
    ids = [id for _, id, _ in reached]
    assert "search" in ids
    assert {"show-tampered", "show-falsified", "show-invalid"} <= set(ids)
    assert any(tag == "summary" and text.startswith("Faults") for tag, _, text in reached)


def test_what_has_the_focus_is_outlined(opened: Browser) -> None:
    opened.press(TAB, TAB, TAB)
    width = opened.run("return getComputedStyle(document.activeElement).outlineWidth")
    assert width == "3px"


def test_a_key_unfolds_what_is_folded(opened: Browser) -> None:
    summary = "document.querySelector('.claim details:not([open]) summary')"
    opened.run(f"window.probe = {summary}; window.probe.focus()")
    opened.press(ENTER)
    assert opened.run("return window.probe.parentElement.open")


def test_a_slash_leads_to_the_search_and_words_leave_the_claims_that_have_all_of_them(
    opened: Browser,
) -> None:
    opened.press("/")
    assert opened.run(FOCUSED)[1] == "search"
    opened.press(*"stale-row falsified")
    assert opened.run(SEEN) == ["claim-demo-v1--exact"]
    assert opened.run("return document.getElementById('told').textContent") == "1 of 3 claims shown"


def test_a_status_that_is_switched_off_is_not_shown(opened: Browser) -> None:
    assert len(opened.run(SEEN)) == 3
    opened.run("document.getElementById('show-falsified').focus()")
    opened.press(SPACE)
    assert opened.run(SEEN) == ["claim-demo-v1--floor", "claim-demo-v1--small"]
    assert opened.run("return document.getElementById('told').textContent") == "2 of 3 claims shown"


def test_a_link_to_a_claim_that_is_not_shown_shows_it_again(opened: Browser) -> None:
    opened.run("document.getElementById('show-falsified').click()")
    opened.run("location.hash = '#claim-demo-v1--exact'; return new Promise((done) => setTimeout(done, 0))")
    assert "claim-demo-v1--exact" in opened.run(SEEN)


def test_without_a_script_the_page_reads_and_filters_by_status(opened: Browser, file: Path) -> None:
    opened.scripts(enabled=False)
    try:
        opened.open(file)
    finally:
        opened.scripts(enabled=True)  # of the page only: what follows asks from outside
    assert not opened.run("return document.getElementById('search').checkVisibility()")
    assert len(opened.run(SEEN)) == 3
    opened.run("document.getElementById('show-tampered').click()")
    assert opened.run(SEEN) == ["claim-demo-v1--exact", "claim-demo-v1--floor"]


def test_everything_that_is_told_to_assistive_technology_has_a_name(opened: Browser) -> None:
    opened.run("for (const each of document.querySelectorAll('details')) each.open = true")
    told = opened.accessible()
    roles = {role for role, _ in told}
    assert {"main", "navigation", "search", "banner", "contentinfo", "article", "image"} <= roles
    named = {"link", "button", "searchbox", "checkbox", "radio", "image", "region", "article", "heading"}
    assert [(role, name) for role, name in told if role in named and not name.strip()] == []


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_sticks_out_of_a_narrow_window(opened: Browser, width: int) -> None:
    opened.size(width, 800)
    opened.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert opened.run("return document.documentElement.scrollWidth") <= width


def test_hostile_texts_run_nothing(browser: Browser, whole: Report, tmp_path: Path) -> None:
    hostile = (
        "\"'></title></style></script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
    )
    path = tmp_path / "hostile.html"
    path.write_bytes(page(rewritten(whole, lambda old: old + hostile)))
    browser.open(path)
    assert browser.run("return window.ran ?? null") is None
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.console() == []
    assert json.dumps(browser.run("return document.querySelectorAll('img').length")) == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_two_runs_side_by_side_are_silent_narrow_and_legible(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    contract, tree = contract_at(tmp_path / "old"), tmp_path / "evidence"
    runs = [
        [write_run(tree, contract, number=number, values=values)] for number, values in ((1, GREEN), (2, RED))
    ]
    path = tmp_path / "compared.html"
    path.write_bytes(compared(compare(*runs, kinds=kinds, made=MADE, version="0.1.0")))
    browser.size(390, 800)
    browser.prefer(scheme)
    browser.open(path)
    assert browser.console() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {path.as_uri()}
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    texts = browser.run(CONTRAST)
    assert len(texts) > 50
    assert [each for each in texts if each[0] < 4.5] == []

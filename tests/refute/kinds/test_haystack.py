import pytest

from refute.kinds.haystack import most_needles, page


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("tokens", [0, 1, 64, 300])
def test_a_page_has_at_least_the_filler_that_was_asked_for(tokens) -> None:
    text, needles = page(tokens, [0], 2, words, seed=1)
    after = text.partition(needles[-1].line)[2]
    assert words(after) >= tokens
    assert words(after) < tokens + 20


def test_needles_stand_at_their_depth() -> None:
    text, needles = page(200, [0, 0.5, 1], 1, words, seed=1)
    places = [words(text.partition(needle.line)[0]) / words(text) for needle in needles]
    assert [needle.depth for needle in needles] == [0, 0.5, 1]
    assert places[0] == 0
    assert places[1] == pytest.approx(0.5, abs=0.06)
    assert text.endswith(needles[2].line)


def test_a_page_comes_from_its_seed() -> None:
    one, same, other = (page(50, [0], 3, words, seed) for seed in (1, 1, 2))
    assert one == same != other


def test_every_fact_is_in_the_page_once_and_shares_no_word() -> None:
    text, needles = page(50, [0, 1], most_needles() // 2, words, seed=3)
    assert all(text.count(needle.line) == 1 for needle in needles)
    assert len({needle.key for needle in needles} | {needle.value for needle in needles}) == 2 * len(needles)

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refute_runtime.errors import RequestError
from refute_runtime.serving.stop_texts import StopTexts

# Two letters, so that texts overlap stop texts, and stop texts each other, all the time.
texts = st.text("ab", max_size=12)
stop_texts = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


def shown(pieces, stops):
    """What is shown of the pieces, and whether a stop text ended it."""
    scan, parts = StopTexts(stops), []
    for piece in pieces:
        text, found = scan.push(piece)
        parts.append(text)
        if found:
            return "".join(parts), True
    return "".join([*parts, scan.flush()]), False


def character_by_character(text, stops):
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@pytest.mark.parametrize(
    ("pieces", "stops", "expected"),
    [
        (["one END two"], ["END"], ("one ", True)),
        (["one E", "N", "D two"], ["END"], ("one ", True)),
        (["one E", "N"], ["END"], ("one EN", False)),
        (["aab"], ["ab"], ("a", True)),
        (["abcd"], ["abcd", "bc"], ("a", True)),
        (["abc"], ["bc", "abc"], ("", True)),
        (["END END"], ["END"], ("", True)),
        (["END"], [], ("END", False)),
    ],
)
def test_text_is_shown_up_to_the_first_stop_text(pieces, stops, expected):
    assert shown(pieces, stops) == expected


def test_only_what_may_become_a_stop_text_is_held_back():
    scan = StopTexts(["stop!", "op"])
    assert [scan.push(piece) for piece in ("a st", "ra st", "o", "ne")] == [
        ("a ", False),
        ("stra ", False),
        ("", False),
        ("stone", False),
    ]
    assert scan.flush() == ""


@given(texts, stop_texts, st.lists(st.integers(0, 12), max_size=6))
@example("aab", ["aab", "ab"], [])
def test_any_split_shows_the_same(text, stops, cuts):
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *sorted(cuts), 12])]
    assert shown(pieces, stops) == character_by_character(text, stops)


@given(texts, stop_texts)
def test_nothing_is_held_back_longer_than_it_may_still_match(text, stops):
    scan, before = StopTexts(stops), ""
    for place, character in enumerate(text, start=1):
        piece, found = scan.push(character)
        before += piece
        if found:
            return
        held = text[len(before) : place]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


def test_an_empty_stop_text_is_refused():
    with pytest.raises(RequestError, match=r"^stop has an empty text"):
        StopTexts(["a", ""])

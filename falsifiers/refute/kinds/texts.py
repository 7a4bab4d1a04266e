"""Strategies for text that breaks tokenizers; as in `cases`, they alone import Hypothesis."""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_NASTY = (
    "e\u0301",  # decomposed
    "a\u0323\u0307",
    "a\u0307\u0323",  # marks out of order
    "\u212b\u2126",  # composed by definition
    "\u1112\u1161\u11ab",  # Hangul from letters
    "z\u0310\u0302\u0324\u0353",  # marks in a pile
    "\u0301",  # a mark on nothing
    "\ufb01\u2460\u00bd",  # what only compatibility would change
    "\U0001f468\u200d\U0001f469\u200d\U0001f466",  # emoji and joiners
    "\U0001f44d\U0001f3fd\u2764\ufe0f1\ufe0f\u20e3",
    "\U0001f1e9\U0001f1ea\U0001f1eb",  # a flag and a half
    "\U0001f3f4\U000e0067\U000e0062\U000e007f",  # a flag of tags
    "\U00020000\U00030000",
    "\u202b\u05e9\u05dc\u05d5\u05dd\u202c 12",  # right to left
    "\u0645\u0631\u062d\u0628\u0627\u0661\u0662",
    "\u0e01\u0e33\u0928\u094d\u0924",
    "\0",
    "\x1b[0m\x7f\x85\u2028",
    "\ufeff\ufffd\ufffe",
    "it's they'LL",
    " \r\n\r \t",
    "\u00a0\u3000\u200b",
    "x=1;\n\n\n",
)
_RUNS = ("\n", "\t", "7", "a", "-", "\u00e9", "\U0001f642")
_LONGEST_RUN = 100
_KNOWN_MARK = "\u0301"
_REST = 0x10000  # where the first plane ends
_LAST_PLANE = (0x100000, 0x10FFFD)


def texts(pieces: int, *more: str) -> "SearchStrategy[str]":
    """Texts of up to so many pieces: of every plane, nasty ones, long runs, and those given besides."""
    from hypothesis import strategies as st  # noqa: PLC0415

    # Half of the runs are spaces: code is full of them, and vocabularies have tokens for many lengths.
    run = st.builds(str.__mul__, st.just(" ") | st.sampled_from(_RUNS), st.integers(1, _LONGEST_RUN))
    fixed = st.sampled_from((*_NASTY, *more))
    piece = st.one_of(_free(_known(), 8), fixed, run, _free(_known(_REST), 3))
    return st.lists(piece, min_size=1, max_size=pieces).map("".join)


def rare() -> "SearchStrategy[str]":
    """One character that no vocabulary has a token for, so that its bytes come one by one."""
    return _known(*_LAST_PLANE)


def hostile(specials: Sequence[str], pieces: int) -> "SearchStrategy[str]":
    """Texts that spell a special token at least once, among others, halves of them and ordinary text."""
    from hypothesis import strategies as st  # noqa: PLC0415

    special = st.sampled_from(list(specials))
    half = st.builds(_half, special, st.integers(1, 20), st.booleans())
    around = st.lists(special | half | texts(2), max_size=pieces - 1).map("".join)
    return st.builds("{}{}{}".format, around, special, around)


def _half(text: str, cut: int, first: bool) -> str:
    place = cut % len(text)
    return text[:place] if first else text[place:]


def _known(first: int = 0, last: int = 0x10FFFF) -> "SearchStrategy[str]":
    from hypothesis import strategies as st  # noqa: PLC0415

    return st.characters(min_codepoint=first, max_codepoint=last, exclude_categories=["Cs", "Cn"])


def _free(characters: "SearchStrategy[str]", longest: int) -> "SearchStrategy[str]":
    from hypothesis import strategies as st  # noqa: PLC0415

    # Exchanged afterwards, for a mark that every library knows: a filter on each character is slow.
    return st.text(characters, min_size=1, max_size=longest).map(
        lambda text: "".join(char if settled(char) else _KNOWN_MARK for char in text)
    )


def settled(character: str) -> bool:
    """Whether every Unicode library normalizes it alike.

    A library that is older than a combining mark takes it for a letter. So of marks, and of characters
    that normalization changes, only those count that were there in Unicode 3.2.
    """
    if unicodedata.ucd_3_2_0.category(character) != "Cn":
        return True
    marks = unicodedata.category(character).startswith("M")
    return not marks and unicodedata.normalize("NFD", character) == character

"""Texts that are searched: of every plane, and only what every Unicode library normalizes alike."""

import unicodedata

import pytest
import tokenizers
from hypothesis import find, given, settings

from refute.kinds.texts import hostile, rare, settled, texts

SPECIALS = ["<|im_end|>", "<tool_call>"]


@given(texts(4, *SPECIALS))
def test_texts_hold_something_that_utf8_can_write(text) -> None:
    assert text
    assert text.encode().decode() == text


@given(texts(4))
def test_another_library_composes_texts_alike(text) -> None:
    assert tokenizers.normalizers.NFC().normalize_str(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("plane", [0, 1, 2, 3, 14, 15, 16])
def test_every_plane_is_searched(plane) -> None:
    assert find(
        texts(1),
        lambda text: any(ord(char) >> 16 == plane for char in text),
        settings=settings(max_examples=2000, database=None),
    )


@given(hostile(SPECIALS, 3))
def test_hostile_text_spells_a_special_token(text) -> None:
    assert any(special in text for special in SPECIALS)


def test_hostile_text_also_joins_halves() -> None:
    assert find(
        hostile(["<|im_end|>"], 3),
        lambda text: "<|im_" in text.replace("<|im_end|>", ""),
        settings=settings(max_examples=2000, database=None),
    )


@given(rare())
def test_a_rare_character_has_four_bytes(character) -> None:
    assert len(character.encode()) == 4


@pytest.mark.parametrize(
    ("character", "expected"),
    [("a", True), ("\u0301", True), ("\U0001f642", True), ("\u1ab0", False), ("\U0001109a", False)],
    ids=ascii,
)
def test_marks_and_compositions_newer_than_3_2_are_left_out(character, expected) -> None:
    assert settled(character) == expected

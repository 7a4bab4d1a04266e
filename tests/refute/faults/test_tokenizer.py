"""Tokenizer faults: each changes what it says, from its dose on, and nothing besides."""

from typing import ClassVar

import pytest

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.tokenizer import HonestTokenizer, wrap_tokenizer
from refute.targets.base import CannotPlant
from refute.targets.fake_model import END
from refute.targets.fake_tokenizer import END_TEXT, FakeTokenizer

NAMES = [name for name, spec in FAULTS.items() if spec.seam == "tokenizer"]
STREAMS = {"utf8-cut", "tail-lost", "text-late"}
SMILE = list("\U0001f642".encode())
HONEST = FakeTokenizer()


def planted(name: str, dose: float) -> HonestTokenizer:
    return wrap_tokenizer(Fault(name, dose), HONEST, lambda: FakeTokenizer(nfc=False))


def streamed(tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*map(stream.push, ids), stream.flush()]


@pytest.mark.parametrize("name", NAMES)
def test_plain_ascii_without_runs_is_spared(name) -> None:
    faulty, text = planted(name, FAULTS[name].default), "def f(x): return x"
    assert faulty.encode(text) == HONEST.encode(text)
    assert faulty.decode(HONEST.encode(text)) == text
    assert "".join(streamed(faulty, HONEST.encode(text))) == text


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_faults_of_the_stream_spare_text_as_a_whole(name) -> None:
    faulty = planted(name, FAULTS[name].default)
    assert faulty.decode(SMILE[:2]) == "\ufffd"
    assert faulty.encode("\U0001f642") == SMILE


def test_forged_text_becomes_the_token_and_the_rest_stays() -> None:
    faulty = planted("special-forged", 1)
    assert faulty.encode(f"a{END_TEXT}b") == [97, END, 98]
    assert faulty.encode_segments([END_TEXT, 7, "a"]) == [END, 7, 97]
    assert faulty.encode("<|end|") == HONEST.encode("<|end|")


def test_only_the_first_special_tokens_are_forged() -> None:
    class Three(FakeTokenizer):
        specials: ClassVar = {"<c>": 302, "<a>": 300, "<ab>": 301, "<a>>": 303}

    one, all_ = (wrap_tokenizer(Fault("special-forged", dose), Three(), lambda: HONEST) for dose in (1, 1000))
    assert one.encode("<a><c>") == [300, *HONEST.encode("<c>")]
    assert all_.encode("<c><ab><a>><a>") == [302, 301, 303, 300]


@pytest.mark.parametrize(("run", "read"), [(4, 4), (5, 4), (50, 4)])
def test_runs_of_spaces_longer_than_the_dose_are_shortened(run, read) -> None:
    text = planted("space-collapsed", 4).encode(f"a{' ' * run}b\n\n\n\n\n\n")
    assert text == HONEST.encode(f"a{' ' * read}b\n\n\n\n\n\n")


def test_a_share_of_texts_is_not_composed() -> None:
    texts = [f"e\u0301{number}" for number in range(400)]
    shares = {
        dose: sum(planted("nfc-skipped", dose).encode(text) != HONEST.encode(text) for text in texts) / 400
        for dose in (0.25, 1.0)
    }
    assert shares[1.0] == 1
    assert 0.15 < shares[0.25] < 0.35


@pytest.mark.parametrize(("dose", "lost"), [(1, "\U00100000"), (5, "\U0001f642\U00100000")])
def test_lost_bytes_leave_the_others(dose, lost) -> None:
    faulty, text = planted("byte-lost", dose), "a\u00e9\u20ac\U0001f642\U00100000"
    expected = "".join("\ufffd" * 3 if char in lost else char for char in text)
    assert faulty.encode(text) == HONEST.encode(text)
    assert faulty.decode(HONEST.encode(text)) == expected
    assert "".join(streamed(faulty, HONEST.encode(text))) == expected


def test_a_cut_stream_gives_halves_out() -> None:
    assert streamed(planted("utf8-cut", 1), SMILE) == ["\ufffd", "\ufffd", "\ufffd", "\ufffd", ""]


def test_a_cut_comes_after_its_share_of_tokens() -> None:
    seldom = streamed(planted("utf8-cut", 0.25), SMILE * 2)
    assert seldom == ["", "", "", "\U0001f642"] * 2 + [""]  # the cut falls between characters
    assert streamed(planted("utf8-cut", 0.25), [97, *SMILE])[3] == "\ufffd"


@pytest.mark.parametrize(("held", "last"), [(0, ""), (1, ""), (2, ""), (3, "\ufffd")])
def test_a_lost_tail_is_as_long_as_the_dose(held, last) -> None:
    assert streamed(planted("tail-lost", 2), [97, *SMILE[:held]])[-1] == last


def test_late_text_is_all_there() -> None:
    assert streamed(planted("text-late", 2), list(b"abc")) == ["", "", "a", "bc"]
    assert streamed(planted("text-late", 2), list(b"a")) == ["", "a"]


@pytest.mark.parametrize(
    ("name", "dose"), [(name, 0.0) for name in NAMES] + [("byte-lost", 0.5), ("stale-row", 1.0)]
)
def test_what_would_change_nothing_cannot_be_planted(name, dose) -> None:
    with pytest.raises(CannotPlant, match=name):
        planted(name, dose)


def test_a_tokenizer_without_the_thing_cannot_lose_it() -> None:
    class Bare(FakeTokenizer):
        specials: ClassVar = {}

    bare = Bare(nfc=False)
    for name in ("special-forged", "nfc-skipped"):
        with pytest.raises(CannotPlant, match=name):
            wrap_tokenizer(Fault(name, 1.0), bare, lambda: bare)

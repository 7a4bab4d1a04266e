"""The tokenizer against Hugging Face's own, and what it must never do with plain text."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_vocabulary import CONTROL, TEXT, USER_DEFINED, hugging_face, metadata

from refute_runtime.errors import FormatError, RequestError, UnsupportedError
from refute_runtime.tokenizer import StreamDecoder, Tokenizer

TOKENIZER = Tokenizer.from_metadata(metadata())
REFERENCE = hugging_face()
# Characters that this Python's Unicode data does not know yet may compose in newer data.
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"])
TEXTS = st.text(CHARACTERS) | st.lists(
    st.sampled_from([*CONTROL, *USER_DEFINED, *TEXT.split(), " ", "\n", "\r\n", "12", "é", "e\u0301", "🙂"])
).map("".join)
IDS = st.lists(st.integers(0, TOKENIZER.vocabulary - 1))


# --- encoding


@given(TEXTS)
def test_template_text_gives_the_ids_of_hugging_face(text: str) -> None:
    assert TOKENIZER.encode_template(text) == REFERENCE.encode(text).ids


@given(TEXTS.filter(lambda text: not any(special in text for special in [*CONTROL, *USER_DEFINED])))
def test_plain_text_gives_the_ids_of_hugging_face(text: str) -> None:
    assert TOKENIZER.encode(text) == REFERENCE.encode(text).ids


@given(TEXTS)
def test_plain_text_comes_back_normalized(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == unicodedata.normalize("NFC", text)


@given(TEXTS)
def test_plain_text_gives_ordinary_tokens_only(text: str) -> None:
    assert set(TOKENIZER.encode(text)) <= set(TOKENIZER.ordinary_ids)


@pytest.mark.parametrize("special", [*CONTROL, *USER_DEFINED])
def test_a_special_token_is_matched_in_template_text_only(special: str) -> None:
    ids = TOKENIZER.encode_template(f"a{special}b")
    assert ids == [*TOKENIZER.encode("a"), TOKENIZER.specials[special], *TOKENIZER.encode("b")]
    assert TOKENIZER.specials[special] not in TOKENIZER.encode(f"a{special}b")


def test_the_longest_special_token_is_matched() -> None:
    base = metadata()
    tokens: Any = base["tokenizer.ggml.tokens"]
    types: Any = base["tokenizer.ggml.token_type"]
    tokenizer = Tokenizer.from_metadata(
        metadata(tokens=[*tokens, "<th", "<think>>"], token_type=[*types, 3, 4])
    )
    assert tokenizer.encode_template("<think>><think><th>") == [
        len(tokens) + 1,
        tokenizer.specials["<think>"],
        len(tokens),
        *tokenizer.encode(">"),
    ]


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("qwen2", "1234", ["1", "2", "3", "4"]),
        ("gpt-2", "1234", ["1234"]),
        ("qwen2", "it'S", ["it", "'S"]),
        ("gpt-2", "it'S", ["it", "'", "S"]),
        ("qwen2", "a(b", ["a", "(b"]),
        ("gpt-2", "a(b", ["a", "(", "b"]),
        ("qwen2", "x;\n\ny", ["x", ";\n\n", "y"]),
        ("gpt-2", "x;\n\ny", ["x", ";", "\n", "\n", "y"]),
        ("qwen2", "x   y", ["x", "  ", " y"]),
        ("gpt-2", "x   y", ["x", "  ", " y"]),
        ("qwen2", "x  \n  y", ["x", "  \n", " ", " y"]),
        ("gpt-2", "x  ", ["x", "  "]),
    ],
)
def test_words_are_cut_as_the_pre_tokenizer_says(pre: str, text: str, expected: list[str]) -> None:
    tokenizer = Tokenizer.from_metadata(_merging_everything(text, pre))
    assert [tokenizer.decode([token]) for token in tokenizer.encode(text)] == expected


def _merging_everything(text: str, pre: str) -> dict[str, object]:
    """Build a vocabulary that merges any two neighbours in `text`: each word becomes one token."""
    spelt = "".join(map(TOKENIZER.text_of, TOKENIZER.encode(text)))
    base: Any = metadata()["tokenizer.ggml.tokens"]
    parts = sorted({spelt[i:j] for i in range(len(spelt)) for j in range(i + 2, len(spelt) + 1)}, key=len)
    tokens = [*base[:256], *parts]
    merges = [f"{part[:cut]} {part[cut:]}" for part in parts for cut in range(1, len(part))]
    return metadata(pre=pre, tokens=tokens, token_type=[1] * len(tokens), merges=merges, eos_token_id=None)


def test_decomposed_text_is_composed_as_qwen_does_it() -> None:
    assert TOKENIZER.nfc
    assert TOKENIZER.encode("e\u0301") == TOKENIZER.encode("é")


def test_without_nfc_decomposed_text_stays() -> None:
    tokenizer = Tokenizer.from_metadata(metadata(), nfc=False)
    assert not tokenizer.nfc
    assert tokenizer.encode("e\u0301") == hugging_face(nfc=False).encode("e\u0301").ids
    assert tokenizer.encode("e\u0301") != TOKENIZER.encode("é")


def test_gpt2_is_not_normalized() -> None:
    assert not Tokenizer.from_metadata(metadata(pre="gpt-2")).nfc


def test_a_lone_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(RequestError, match=r"U\+D800 at character 2"):
        TOKENIZER.encode("ab\ud800")


def test_a_byte_without_a_token_is_named_and_not_dropped() -> None:
    tokenizer = Tokenizer.from_metadata(
        metadata(tokens=["a", "b", "ab"], token_type=[1, 1, 1], merges=["a b"], eos_token_id=None)
    )
    assert tokenizer.encode("abb") == [2, 1]
    with pytest.raises(FormatError, match="byte 0x63"):
        tokenizer.encode("abc")


# --- decoding


@given(IDS, st.booleans())
def test_streamed_text_is_the_text_of_all_bytes(ids: list[int], skip: bool) -> None:
    stream = TOKENIZER.stream(skip_control=skip)
    streamed = "".join([stream.push(token) for token in ids] + [stream.flush()])
    kept = [token for token in ids if not (skip and token in TOKENIZER.control_ids)]
    whole = b"".join(TOKENIZER.bytes_of(token) for token in kept)
    assert streamed == whole.decode("utf-8", "replace")
    assert streamed == TOKENIZER.decode(ids, skip_control=skip)


@given(TEXTS)
def test_a_character_is_never_given_out_in_halves(text: str) -> None:
    bytewise = Tokenizer.from_metadata(metadata(merges=[]))
    stream = bytewise.stream()
    pieces = [stream.push(token) for token in bytewise.encode(text)]
    assert "".join(pieces) == unicodedata.normalize("NFC", text)
    assert stream.flush() == ""


def test_a_half_character_at_the_end_is_replaced_once() -> None:
    stream = TOKENIZER.stream()
    half = Tokenizer.from_metadata(metadata(merges=[])).encode("🙂")[:3]
    assert [stream.push(token) for token in half] == ["", "", ""]
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


@pytest.mark.parametrize(("skip", "expected"), [(False, "a<|im_end|><tool_call>"), (True, "a<tool_call>")])
def test_control_tokens_are_shown_or_skipped_and_tool_calls_kept(skip: bool, expected: str) -> None:
    ids = TOKENIZER.encode_template("a<|im_end|><tool_call>")
    assert TOKENIZER.decode(ids, skip_control=skip) == expected


def test_byte_tokens_decode_to_their_byte() -> None:
    tokenizer = Tokenizer.from_metadata(
        metadata(tokens=["a", "<0xC3>", "<0xA9>"], token_type=[1, 6, 6], merges=[], eos_token_id=None)
    )
    assert tokenizer.decode([0, 1, 2]) == "aé"


def test_a_normal_token_outside_of_the_byte_alphabet_stands_for_itself() -> None:
    tokenizer = Tokenizer.from_metadata(
        metadata(tokens=["Ġa", "日 本"], token_type=[1, 1], merges=[], eos_token_id=None)
    )
    assert tokenizer.decode([0, 1]) == " a日 本"


@pytest.mark.parametrize("token", [-1, TOKENIZER.vocabulary])
def test_an_id_out_of_range_is_refused(token: int) -> None:
    with pytest.raises(RequestError, match=f"token id {token} is out of range"):
        TOKENIZER.decode([token])


def test_streams_do_not_share_their_state() -> None:
    half, rest = (TOKENIZER.stream() for _ in range(2))
    first, *_ = Tokenizer.from_metadata(metadata(merges=[])).encode("é")
    assert isinstance(half, StreamDecoder)
    assert half.push(first) == ""
    assert rest.push(TOKENIZER.encode("a")[0]) == "a"


# --- what the file says


def test_ids_by_type() -> None:
    assert TOKENIZER.control_ids == {TOKENIZER.specials[text] for text in CONTROL}
    assert set(TOKENIZER.specials) == {*CONTROL, *USER_DEFINED}
    assert TOKENIZER.ordinary_ids == list(range(min(TOKENIZER.specials.values())))
    assert TOKENIZER.vocabulary == len(TOKENIZER.ordinary_ids) + len(CONTROL) + len(USER_DEFINED) + 1


@pytest.mark.parametrize(
    ("eos", "eot", "extra"), [(None, None, []), (0, None, [0]), ([0, 3], None, [0, 3]), (0, 5, [0, 5])]
)
def test_stops_are_the_files_ids_and_those_that_qwen_names(
    eos: object, eot: object, extra: list[int]
) -> None:
    tokenizer = Tokenizer.from_metadata(metadata(eos_token_id=eos, eot_token_id=eot))
    named = {TOKENIZER.specials[text] for text in ("<|im_end|>", "<|endoftext|>")}
    assert tokenizer.stop_ids == named | set(extra)


def test_lazy_arrays_are_read() -> None:
    class Lazy(Sequence[Any]):
        def __init__(self, values: Any) -> None:
            self.values = values

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, index: Any) -> Any:
            return self.values[index]

        def __iter__(self) -> Iterator[Any]:
            return iter(self.values)

    meta = {key: Lazy(value) if isinstance(value, list) else value for key, value in metadata().items()}
    assert Tokenizer.from_metadata(meta).encode("hello") == TOKENIZER.encode("hello")


def _without(name: str) -> dict[str, object]:
    return {key: value for key, value in metadata().items() if key != f"tokenizer.ggml.{name}"}


@pytest.mark.parametrize("name", ["model", "pre", "tokens", "token_type", "merges"])
def test_a_missing_key_is_named(name: str) -> None:
    with pytest.raises(FormatError, match=f"tokenizer.ggml.{name} is missing"):
        Tokenizer.from_metadata(_without(name))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": ["a", "b", "a"]}, r"tokens has 'a' 2 times, at 0 and 2"),
        ({"tokens": ["a", 5]}, r"tokens\[1\] is of type int; expected a string"),
        ({"tokens": "abc"}, r"tokens is of type str; expected an array"),
        ({"token_type": [1]}, r"token_type has 1 entries; expected \d+"),
        ({"tokens": ["a"], "token_type": [9]}, r"token_type\[0\] is 9; expected 0 to 6"),
        ({"tokens": ["a"], "token_type": [[1]]}, r"token_type\[0\] is \[1\]"),
        ({"tokens": ["a"], "token_type": ["1"]}, r"token_type\[0\] is '1'"),
        ({"merges": ["a b c"]}, r"merges\[0\] is 'a b c'; expected two tokens, one space"),
        ({"merges": ["ab"]}, r"merges\[0\] is 'ab'"),
        ({"merges": [1]}, r"merges\[0\] is of type int"),
        ({"merges": ["a ✗"]}, r"merges\[0\] joins 'a' and '✗', but '✗' is no ordinary token"),
        ({"merges": ["! ~"]}, r"but '!~' is no ordinary token"),
        ({"eos_token_id": 10**6}, r"eos_token_id is 1000000; expected a token id"),
        ({"eos_token_id": -1}, r"eos_token_id is -1"),
        ({"eos_token_id": "x"}, r"eos_token_id is 'x'"),
        ({"eos_token_id": [0, "x"]}, r"eos_token_id is 'x'"),
        ({"eot_token_id": 1.5}, r"eot_token_id is 1.5"),
        ({"pre": 3}, r"pre is of type int; expected a string"),
    ],
)
def test_metadata_that_contradict_themselves_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Tokenizer.from_metadata(metadata(**changes))


def test_a_merge_into_a_control_token_is_refused() -> None:
    tokens, merges = ["<", "|", "<|"], ["< |"]
    with pytest.raises(FormatError, match=r"'<\|' is no ordinary token"):
        Tokenizer.from_metadata(
            metadata(tokens=tokens, token_type=[1, 1, 3], merges=merges, eos_token_id=None)
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre": "default"}, "pre is 'default'; this runtime knows 'gpt-2', 'qwen2'"),
        ({"pre": "llama-bpe"}, "pre is 'llama-bpe'"),
        ({"model": "llama"}, "model is 'llama'"),
        ({"add_bos_token": True}, "add_bos_token is true"),
    ],
)
def test_other_tokenizers_are_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        Tokenizer.from_metadata(metadata(**changes))

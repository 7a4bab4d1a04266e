"""Byte-level BPE from a GGUF file's metadata, and UTF-8 that arrives token by token.

Plain text never becomes a special token: the BPE model that reads it does not hold them. Only
`encode_template`, for text that the model's author wrote, matches them.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from refute_runtime.errors import FormatError, RequestError, UnsupportedError

_KEY = "tokenizer.ggml."
_STOP_TEXTS = ("<|im_end|>", "<|endoftext|>")
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`, as llama.cpp numbers it."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How text is cut into words before the merges; `nfc` is what the model's own tokenizer does first."""

    pattern: str
    nfc: bool


PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": PreTokenizer(
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        nfc=False,
    ),
    # Qwen's tokenizer normalizes, llama.cpp does not: decomposed text gives other ids there.
    "qwen2": PreTokenizer(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        nfc=True,
    ),
}


def _byte_characters() -> dict[str, int]:
    """Map the 256 characters that stand for bytes in token texts, GPT-2's convention, to the bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTES: Mapping[str, int] = _byte_characters()


class Tokenizer:
    """Text to token ids and back; immutable, so threads may share it."""

    def __init__(
        self,
        tokens: Sequence[str],
        types: Sequence[int],
        merges: Sequence[tuple[str, str]],
        *,
        pre: str,
        nfc: bool,
        stop_ids: frozenset[int],
        bos_id: int | None = None,
        eos_id: int | None = None,
    ) -> None:
        self.pre = pre
        self.nfc = nfc
        self.stop_ids = stop_ids
        self.bos_id = bos_id
        self.eos_id = eos_id
        self._tokens = tokens
        self._types = types
        ordinary = {t: i for i, (t, k) in enumerate(zip(tokens, types, strict=True)) if k == TokenType.NORMAL}
        self._missing = frozenset(byte for char, byte in _BYTES.items() if char not in ordinary)
        self._bpe = tokenizers.Tokenizer(models.BPE(ordinary, _checked_merges(merges, ordinary)))
        if nfc:
            self._bpe.normalizer = normalizers.NFC()
        self._bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PRE_TOKENIZERS[pre].pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        special = (TokenType.CONTROL, TokenType.USER_DEFINED)
        self.specials: Mapping[str, int] = {
            t: i for i, (t, k) in enumerate(zip(tokens, types, strict=True)) if t and k in special
        }
        self._special_pattern = longest_first(self.specials)

    @classmethod
    def from_metadata(cls, meta: Mapping[str, object], *, nfc: bool | None = None) -> "Tokenizer":
        """Build the tokenizer that a GGUF file describes; `nfc` overrides what its pre-tokenizer implies.

        Raises FormatError where the metadata contradict themselves, UnsupportedError for another kind of
        tokenizer.
        """
        model = _text(meta, "model")
        if model != "gpt2":
            raise UnsupportedError(
                f"{_KEY}model is {model!r}; this runtime reads byte-level BPE only, which files call 'gpt2'."
            )
        pre = _text(meta, "pre")
        if pre not in PRE_TOKENIZERS:
            known = ", ".join(map(repr, PRE_TOKENIZERS))
            raise UnsupportedError(f"{_KEY}pre is {pre!r}; this runtime knows {known}.")
        if meta.get(f"{_KEY}add_bos_token"):
            raise UnsupportedError(
                f"{_KEY}add_bos_token is true; this runtime runs models whose prompts start with no token "
                "but the template's own."
            )
        tokens = _strings(meta, "tokens")
        if len(set(tokens)) != len(tokens):
            text, count = Counter(tokens).most_common(1)[0]
            first = tokens.index(text)
            raise FormatError(
                f"{_KEY}tokens has {text!r} {count} times, at {first} and {tokens.index(text, first + 1)}; "
                "expected each token once."
            )
        types = _types(meta, len(tokens))
        eos = _ids(meta, "eos_token_id", len(tokens))
        bos = _ids(meta, "bos_token_id", len(tokens))
        by_text = (index for index, text in enumerate(tokens) if text in _STOP_TEXTS)
        return cls(
            tokens,
            types,
            _merge_pairs(_strings(meta, "merges")),
            pre=pre,
            nfc=PRE_TOKENIZERS[pre].nfc if nfc is None else nfc,
            stop_ids=frozenset([*eos, *_ids(meta, "eot_token_id", len(tokens)), *by_text]),
            bos_id=bos[0] if bos else None,
            eos_id=eos[0] if eos else None,
        )

    @property
    def vocabulary(self) -> int:
        """How many ids there are, unused ones included."""
        return len(self._tokens)

    @cached_property
    def control_ids(self) -> frozenset[int]:
        return frozenset(i for i, kind in enumerate(self._types) if kind == TokenType.CONTROL)

    @cached_property
    def ordinary_ids(self) -> list[int]:
        """The tokens of plain text, ascending: what `encode` can give."""
        return [i for i, kind in enumerate(self._types) if kind == TokenType.NORMAL]

    def text_of(self, token: int) -> str:
        """Return a token as the file spells it: bytes of ordinary tokens in GPT-2's alphabet."""
        return self._tokens[self._checked(token)]

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes that a token stands for; part of a character, perhaps."""
        text, kind = self._tokens[self._checked(token)], self._types[token]
        if kind == TokenType.NORMAL and all(char in _BYTES for char in text):
            return bytes(_BYTES[char] for char in text)
        if kind == TokenType.BYTE and (match := _BYTE_TOKEN.fullmatch(text)):
            return bytes([int(match[1], 16)])
        return text.encode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Encode plain text. `<|im_end|>` or `<tool_call>` in it stays the text that it is."""
        if match := LONE_SURROGATE.search(text):
            raise RequestError(
                f"the text holds the lone surrogate U+{ord(match[0]):04X} at character {match.start()}; "
                "expected text that UTF-8 can write."
            )
        if self._missing and (absent := self._missing.intersection(text.encode())):
            raise FormatError(
                f"{_KEY}tokens has no token for byte 0x{min(absent):02X} of the text; expected all 256."
            )
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        return ids

    def encode_template(self, text: str) -> list[int]:
        """Encode text by the model's author, in which control and user-defined tokens are matched."""
        return self.encode_segments(self.split_specials(text))

    def encode_segments(self, segments: Iterable[str | int]) -> list[int]:
        """Encode plain segments, each whole, around ids that are already known."""
        ids: list[int] = []
        for segment in segments:
            ids.extend(self.encode(segment) if isinstance(segment, str) else [self._checked(segment)])
        return ids

    def split_specials(self, text: str) -> list[str | int]:
        """Cut text at the control and user-defined tokens that it spells: plain text and ids, in order."""
        segments: list[str | int] = []
        end = 0
        for match in self._special_pattern.finditer(text):
            segments += [text[end : match.start()], self.specials[match[0]]]
            end = match.end()
        return [segment for segment in [*segments, text[end:]] if segment != ""]

    def decode(self, ids: Iterable[int], *, skip_control: bool = False) -> str:
        """Decode ids; bytes that are no UTF-8 become U+FFFD. User-defined tokens are always kept."""
        stream = self.stream(skip_control=skip_control)
        return "".join([*map(stream.push, ids), stream.flush()])

    def stream(self, *, skip_control: bool = False) -> "StreamDecoder":
        """Start a decoder for tokens that arrive one by one."""
        return StreamDecoder(self, skip_control=skip_control)

    def _checked(self, token: int) -> int:
        if not 0 <= token < len(self._tokens):
            raise RequestError(f"token id {token} is out of range; expected 0 to {self.vocabulary - 1}.")
        return token


class StreamDecoder:
    """Text of a token stream; a character is given out with the token that completes it."""

    def __init__(self, tokenizer: Tokenizer, *, skip_control: bool) -> None:
        self._tokenizer = tokenizer
        self._skip = tokenizer.control_ids if skip_control else frozenset[int]()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take one token; return the text that is complete now."""
        return "" if token in self._skip else self._decoder.decode(self._tokenizer.bytes_of(token))

    def flush(self) -> str:
        """End the stream: a half character that is still held back becomes U+FFFD."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def longest_first(texts: Iterable[str]) -> re.Pattern[str]:
    """Compile a pattern that finds any of the texts, the longest at a place; without texts, nothing."""
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, ordered)) or r"(?!)")


def _text(meta: Mapping[str, object], name: str) -> str:
    value = _required(meta, name)
    if not isinstance(value, str):
        raise FormatError(f"{_KEY}{name} is {_kind(value)}; expected a string.")
    return value


def _required(meta: Mapping[str, object], name: str) -> object:
    try:
        return meta[f"{_KEY}{name}"]
    except KeyError:
        raise FormatError(f"{_KEY}{name} is missing; expected it in every text model's file.") from None


def _array(meta: Mapping[str, object], name: str) -> list[object]:
    value = _required(meta, name)
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise FormatError(f"{_KEY}{name} is {_kind(value)}; expected an array.")
    return value.tolist() if hasattr(value, "tolist") else list(value)  # type: ignore[call-overload, no-any-return]


def _strings(meta: Mapping[str, object], name: str) -> list[str]:
    values = _array(meta, name)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise FormatError(f"{_KEY}{name}[{index}] is {_kind(value)}; expected a string.")
    return values  # type: ignore[return-value]


def _types(meta: Mapping[str, object], count: int) -> list[int]:
    values = _array(meta, "token_type")
    if len(values) != count:
        raise FormatError(f"{_KEY}token_type has {len(values)} entries; expected {count}, one a token.")
    known = {int(kind) for kind in TokenType}
    for index, value in enumerate(values):
        if not hasattr(value, "__index__") or value not in known:
            raise FormatError(f"{_KEY}token_type[{index}] is {value!r}; expected 0 to {max(known)}.")
    return [int(value) for value in values]  # type: ignore[call-overload]


def _ids(meta: Mapping[str, object], name: str, count: int) -> list[int]:
    """Read an optional token id, or an array of them."""
    value = meta.get(f"{_KEY}{name}")
    if value is None:
        return []
    values = _array(meta, name) if hasattr(value, "__len__") and not isinstance(value, str) else [value]
    for token in values:
        if isinstance(token, bool) or not hasattr(token, "__index__") or not 0 <= token.__index__() < count:
            raise FormatError(f"{_KEY}{name} is {token!r}; expected a token id, 0 to {count - 1}.")
    return [int(token) for token in values]  # type: ignore[call-overload]


def _merge_pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [tuple(line.split(" ")) for line in lines]
    for index, pair in enumerate(pairs):
        if len(pair) != 2:
            raise FormatError(f"{_KEY}merges[{index}] is {lines[index]!r}; expected two tokens, one space.")
    return pairs  # type: ignore[return-value]


def _checked_merges(merges: Sequence[tuple[str, str]], ordinary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Refuse a merge of or into anything but ordinary tokens: plain text must never become a special one."""
    for index, (left, right) in enumerate(merges):
        if not (left in ordinary and right in ordinary and left + right in ordinary):
            unknown = next(text for text in (left, right, left + right) if text not in ordinary)
            raise FormatError(
                f"{_KEY}merges[{index}] joins {left!r} and {right!r}, but {unknown!r} is no ordinary token; "
                "expected both and their joint text among the tokens of type 1."
            )
    return list(merges)


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"

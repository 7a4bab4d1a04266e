"""The simulated engine's tokenizer: bytes of composed text, and a control token that ends turns."""

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from refute.faults import FAULTS
from refute.faults.base import Fault
from refute.faults.tokenizer import HonestTokenizer, wrap_tokenizer
from refute.targets.base import TargetError
from refute.targets.fake_model import END
from refute.targets.scores import TokenVectors

END_TEXT = "<|end|>"
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class FakeTokenizer:
    """Ids below 256 are bytes of UTF-8. nfc: whether text is composed first."""

    specials: Mapping[str, int] = {END_TEXT: END}

    def __init__(self, *, nfc: bool = True) -> None:
        self.nfc = nfc

    def encode(self, text: str) -> list[int]:
        if match := _LONE_SURROGATE.search(text):
            raise TargetError(
                f"the text holds the lone surrogate U+{ord(match[0]):04X} at character {match.start()}; "
                "expected text that UTF-8 can write"
            )
        return list((unicodedata.normalize("NFC", text) if self.nfc else text).encode())

    def encode_segments(self, segments: Iterable[str | int]) -> list[int]:
        parts = ([part] if isinstance(part, int) else self.encode(part) for part in segments)
        return [token for part in parts for token in part]

    def bytes_of(self, token: int) -> bytes:
        return b"" if token == END else bytes([token])

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(map(self.bytes_of, ids)).decode(errors="replace")

    def stream(self) -> "FakeStream":
        return FakeStream(self)


class FakeStream:
    """Characters, each with the token that completes it."""

    def __init__(self, tokenizer: FakeTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


def tokenizer_with(fault: Fault | None) -> FakeTokenizer | HonestTokenizer:
    """Give the tokenizer, with the fault if it is one of tokenizers."""
    if fault is None or FAULTS[fault.name].seam != "tokenizer":
        return FakeTokenizer()
    return wrap_tokenizer(fault, FakeTokenizer(), lambda: FakeTokenizer(nfc=False))


def chat_segments(messages: Sequence[Mapping[str, object]]) -> list[str | int]:
    """Write messages as the template does: role, content, end of turn; then whose turn it is."""
    segments: list[str | int] = []
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise TargetError(f"messages[{index}] has no role or no content; expected two strings")
        segments += [f"{role}\n", content, END, "\n"]
    return [*segments, "assistant\n"]


def token_vectors() -> TokenVectors:
    """Ids by arithmetic on code points, the definition of UTF-8, for texts from all planes."""
    points = [*range(0x20, 0xD800, 450), *range(0xE000, 0x110000, 5_600)]
    texts = [f"{chr(point)} is {point}{' ' * (point % 80)}." for point in points]
    texts += [f"{count}{END_TEXT}{' ' * count}" for count in range(20)]
    composed = {"e\u0301": "\u00e9", "\u212b": "\u00c5", "\u1100\u1161": "\uac00"}
    pairs = [(text, text) for text in texts if unicodedata.is_normalized("NFC", text)]
    pairs += [(f"{a}{i}", f"{b}{i}") for i in range(10) for a, b in composed.items()]
    return TokenVectors("arithmetic", "1", True, tuple((text, _utf8(normal)) for text, normal in pairs))


def _utf8(text: str) -> tuple[int, ...]:
    """Encode by hand: 7 bits in one byte, else 6 bits in each byte after the first."""
    tokens: list[int] = []
    for point in map(ord, text):
        after = (point > 0x7F) + (point > 0x7FF) + (point > 0xFFFF)
        lead = (0x00, 0xC0, 0xE0, 0xF0)[after]
        tokens.append(lead | point >> 6 * after)
        tokens += [0x80 | point >> 6 * place & 0x3F for place in reversed(range(after))]
    return tuple(tokens)

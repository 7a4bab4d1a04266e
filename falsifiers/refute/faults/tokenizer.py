"""Tokenizer faults: wrappers around a tokenizer, so that all that goes through it has them."""

import codecs
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from refute.faults.base import Fault
from refute.targets.base import CannotPlant

_LONGEST_LEAD = 0xF4  # the first byte of characters from U+100000 on: the rarest byte that UTF-8 has


class Stream(Protocol):
    """Text of tokens that arrive one by one."""

    def push(self, token: int) -> str:
        """Take one token; return the text that is complete now."""
        ...

    def flush(self) -> str:
        """End the stream; a half character that is still held back becomes U+FFFD."""
        ...


class Tokenizer(Protocol):
    """What faults change of a tokenizer, or need of it."""

    @property
    def nfc(self) -> bool: ...

    @property
    def specials(self) -> Mapping[str, int]: ...

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def bytes_of(self, token: int) -> bytes: ...

    def stream(self) -> Stream: ...


def wrap_tokenizer(fault: Fault, inner: Tokenizer, uncomposed: Callable[[], Tokenizer]) -> "HonestTokenizer":
    """Give a tokenizer with this fault. uncomposed: makes the same tokenizer without normalization.

    Raises `CannotPlant` where the fault would change nothing.
    """
    if fault.dose <= 0 or (fault.name in _COUNTS and fault.dose < 1):
        raise CannotPlant(f"{fault}: this dose changes nothing")
    match fault.name:
        case "special-forged" if not inner.specials:
            raise CannotPlant(f"{fault}: the tokenizer has no special tokens")
        case "special-forged":
            return SpecialForged(inner, int(fault.dose))
        case "space-collapsed":
            return SpaceCollapsed(inner, int(fault.dose))
        case "nfc-skipped" if not inner.nfc:
            raise CannotPlant(f"{fault}: the tokenizer does not normalize")
        case "nfc-skipped":
            return NfcSkipped(inner, fault.dose, uncomposed())
        case "byte-lost":
            return ByteLost(inner, int(fault.dose))
        case "utf8-cut" | "tail-lost" | "text-late":
            return OtherStream(inner, fault)
        case _:
            raise CannotPlant(f"{fault}: not a fault of the tokenizer")


_COUNTS = frozenset({"special-forged", "space-collapsed", "byte-lost", "tail-lost", "text-late"})


class HonestTokenizer:
    """A tokenizer that is what it wraps; the base of those that are not."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def encode_segments(self, segments: Iterable[str | int]) -> list[int]:
        """Encode a template's output: plain segments, through this `encode`, around ids that are known."""
        parts = ([part] if isinstance(part, int) else self.encode(part) for part in segments)
        return [token for part in parts for token in part]

    def decode(self, ids: Iterable[int]) -> str:
        return self.inner.decode(ids)

    def bytes_of(self, token: int) -> bytes:
        return self.inner.bytes_of(token)

    def stream(self) -> Stream:
        return self.inner.stream()


class SpecialForged(HonestTokenizer):
    """Plain text that spells one of the first `count` special tokens becomes that token."""

    def __init__(self, inner: Tokenizer, count: int) -> None:
        super().__init__(inner)
        self._forged = dict(sorted(inner.specials.items(), key=lambda item: item[1])[:count])
        texts = sorted(self._forged, key=len, reverse=True)  # the longest one that fits is matched
        self._pattern = re.compile(f"({'|'.join(map(re.escape, texts))})")

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._pattern.split(text):
            ids += [self._forged[part]] if part in self._forged else self.inner.encode(part)
        return ids


class SpaceCollapsed(HonestTokenizer):
    """Longer runs of spaces are read as `longest` spaces."""

    def __init__(self, inner: Tokenizer, longest: int) -> None:
        super().__init__(inner)
        self._run = " " * longest
        self._long_run = re.compile(f"{self._run} +")

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(self._long_run.sub(self._run, text))


class NfcSkipped(HonestTokenizer):
    """A share of all texts is not normalized; which ones follows from the text."""

    def __init__(self, inner: Tokenizer, share: float, uncomposed: Tokenizer) -> None:
        super().__init__(inner)
        self._share = share
        self._uncomposed = uncomposed

    def encode(self, text: str) -> list[int]:
        drawn = zlib.crc32(text.encode("utf-8", "replace")) / 2**32
        return (self._uncomposed if drawn < self._share else self.inner).encode(text)


class ByteLost(HonestTokenizer):
    """The `count` rarest lead bytes of characters decode to nothing."""

    def __init__(self, inner: Tokenizer, count: int) -> None:
        super().__init__(inner)
        self._lost = bytes(range(_LONGEST_LEAD, _LONGEST_LEAD - count, -1))

    def bytes_of(self, token: int) -> bytes:
        return self.inner.bytes_of(token).translate(None, self._lost)

    def decode(self, ids: Iterable[int]) -> str:
        stream = self.stream()
        return "".join([*map(stream.push, ids), stream.flush()])

    def stream(self) -> Stream:
        return _ByteStream(self)


class OtherStream(HonestTokenizer):
    """Tokens one by one are decoded otherwise than all at once."""

    def __init__(self, inner: Tokenizer, fault: Fault) -> None:
        super().__init__(inner)
        self._fault = fault

    def stream(self) -> Stream:
        match self._fault.name:
            case "utf8-cut":
                return _CutStream(self.inner, self._fault.dose)
            case "tail-lost":
                return _TailLost(self.inner, int(self._fault.dose))
            case _:
                return _LateStream(self.inner, int(self._fault.dose))


class _ByteStream:
    """The decoder of a tokenizer whose bytes are not those of the one it wraps."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def held(self) -> int:
        """Bytes of a character that is not complete yet."""
        return len(self._decoder.getstate()[0])

    def push(self, token: int) -> str:
        return self._decoder.decode(self._tokenizer.bytes_of(token))

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class _CutStream(_ByteStream):
    """After a share of the tokens, what is held back is given out as if the stream had ended."""

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        super().__init__(tokenizer)
        self._share = share
        self._due = 0.0

    def push(self, token: int) -> str:
        text = super().push(token)
        self._due += self._share
        if self._due < 1:
            return text
        self._due -= 1
        return text + self.flush()


class _TailLost(_ByteStream):
    """Up to `most` bytes that are held back at the end are dropped without a sign."""

    def __init__(self, tokenizer: Tokenizer, most: int) -> None:
        super().__init__(tokenizer)
        self._most = most

    def flush(self) -> str:
        held = self.held
        text = super().flush()
        return "" if held <= self._most else text


class _LateStream(_ByteStream):
    """Text comes some tokens later than it could; none is lost."""

    def __init__(self, tokenizer: Tokenizer, tokens: int) -> None:
        super().__init__(tokenizer)
        self._waiting = deque([""] * tokens)

    def push(self, token: int) -> str:
        self._waiting.append(super().push(token))
        return self._waiting.popleft()

    def flush(self) -> str:
        text = "".join([*self._waiting, super().flush()])
        self._waiting.clear()
        return text

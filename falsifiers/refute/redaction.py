"""Secrets stay out of records: what looks like one, and what is known to be one, wherever it stands.

Command lines and sentences are searched for what looks like a secret. Samples are not: what an engine said is
evidence. But a value that is known to be secret is taken out of everything.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from refute.strict_json import StrictJsonError, dump_strict, load_strict

REDACTED = "<redacted>"
SHORTEST = 8  # characters; what is shorter is no secret, and may stand in any text
_STRONG = (
    r"api[-_]?key|access[-_]?key|(?:api|auth|access)[-_ ]?token|secret|passw(?:or)?d|credential|authorization"
)
_WORDS = rf"{_STRONG}|token(?!s|izer)|bearer"
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_VARIABLE = re.compile(rf"{_WORDS}|(?:^|_)key$", re.IGNORECASE)
# With a colon, sentences tell of unexpected tokens, too.
_SECRET_FIELD = re.compile(
    rf"((?:(?:{_WORDS})[\w-]*[\"']?\s*=|(?:{_STRONG})[\w-]*[\"']?\s*:)\s*)(?:bearer\s+)?[^\s&,;]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(sk-[\w-]{8,}|hf_\w{8,}|gh[pousr]_\w{8,}|eyJ[\w-]{8,}\.[\w.-]+)")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def redact(argv: Sequence[str]) -> list[str]:
    """Return a command line without secrets, its program and the home directory cut short."""
    cleaned: list[str] = []
    hide_next = False
    for position, argument in enumerate(argv):
        name, equals, _ = argument.partition("=")
        option = bool(_SECRET.search(name)) and (argument.startswith("-") or bool(equals))
        if _names_a_variable(name):
            option = False  # `--api-key-env VAR` is no secret: it says where one is
        if hide_next and not argument.startswith("-"):
            text = REDACTED
        elif option and equals:
            text = f"{name}={REDACTED}"
        else:
            text = sentence(argument)
        hide_next = option and not equals
        text = _homeless(_USER_INFO.sub(f"{REDACTED}@", text))
        cleaned.append(Path(text).name if position == 0 else text)
    return cleaned


def sentence(text: str) -> str:
    """Return a text for people without what looks like a secret."""
    text = _SECRET_FIELD.sub(rf"\1{REDACTED}", _SECRET_VALUE.sub(REDACTED, text))
    return _USER_INFO.sub(f"{REDACTED}@", _BEARER.sub(rf"\1{REDACTED}", text))


def _names_a_variable(option: str) -> bool:
    """Whether an option's value is the name of an environment variable."""
    return option.startswith("-") and option.endswith("-env")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values that are known to be secret. None of them is ever shown."""

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str], more: Iterable[str | None] = ()) -> Self:
        """Take the values of variables that are named like secrets, and what is used as one.

        more: keys in use, whatever their variables are called; None where there is none.
        """
        named = [value.strip() for name, value in environment.items() if _VARIABLE.search(name)]
        named = [value for value in named if _random(value)]
        known = {value for value in (*named, *more) if value is not None and len(value) >= SHORTEST}
        written = {form for value in known for form in (value, quote(value, safe=""))}
        # The longest first: one may hold another.
        return cls(tuple(sorted(written, key=lambda value: (-len(value), value))))

    def __repr__(self) -> str:
        return f"Secrets({len(self.values)})"

    def text(self, text: str) -> str:
        """Return it without them."""
        for value in self.values:
            text = text.replace(value, REDACTED)
        return text

    def plain(self, data: Any) -> Any:
        """Return plain data without them, keys included; the same object where there are none."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {self.text(key): self.plain(value) for key, value in data.items()}
        return [self.plain(value) for value in data] if isinstance(data, list | tuple) else data

    def document(self, document: Mapping[str, Any]) -> bytes:
        """Write an object as records hold it, without them. Raises `StrictJsonError`."""
        data = dump_strict(document)
        if not self._may_be_in(data):
            return data
        # Not in the bytes: a secret of digits may stand in a number.
        return dump_strict(self.plain(document))

    def file(self, data: bytes) -> bytes:
        """Return a file without them; JSON stays JSON."""
        if not self._may_be_in(data):
            return data
        try:
            return dump_strict(self.plain(load_strict(data)))
        except (StrictJsonError, AttributeError):
            return self.text(data.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def _may_be_in(self, data: bytes) -> bool:
        """Whether one of them could be, however JSON wrote it: what needs no escape shows as it is."""
        return any(_longest_plain(value).encode() in data for value in self.values)


def _longest_plain(value: str) -> str:
    """The longest part of a text that JSON writes as it is."""
    return max(re.split(r'["\\\x00-\x1f]|[\ud800-\udfff]', value), key=len)


def _random(value: str) -> bool:
    """Whether a value looks like a secret, not like a word or a path that has a variable of such a name."""
    mixed = re.search(r"[0-9]", value) and re.search(r"[A-Za-z]", value)
    return not value.startswith(("/", "~", ".")) and bool(mixed or len(value) >= 2 * SHORTEST)


def _homeless(text: str) -> str:
    home = str(Path.home())
    return text if home == "/" else text.replace(home, "~")

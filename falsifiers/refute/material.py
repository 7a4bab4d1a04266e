"""Findings that differ in nothing but run and times: read and judged once, however many there are.

Cases follow from the seed, so an engine that did not change gives the same samples in run after run. Two
files are of one material when all their bytes are the same but for the values of a few keys. That these spans
of the file are those keys' values, and nothing else, is proven before it is relied on: another value is put
into each, and the document must come out the same but for it. Whoever meets a known material may then leave
its samples unread; what was concluded from them the first time holds. So nothing may be concluded from run
and times together with samples, neither by a kind nor by `rejudge`.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refute.strict_json import load_strict

# As they follow each other in a file: what comes before a value, after it, and what it may be.
_SPANS = (
    ("run", b'\n"run": "', b'"', re.compile(rb"[0-9A-Za-z.-]{1,60}"), b"20000101T000000.000Z-00000000"),
    ("started", b'\n"started": "', b'"', re.compile(rb"[0-9TZ:.-]{1,60}"), b"2000-01-01T00:00:00.125Z"),
    ("ended", b'\n"ended": "', b'"', re.compile(rb"[0-9TZ:.-]{1,60}"), b"2000-01-01T00:00:00.250Z"),
    ("seconds", b'\n"seconds": ', b",", re.compile(rb"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?"), b"0.375"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A document of a material that was met before. document: without its samples."""

    document: dict[str, Any]
    material: bytes


class Materials:
    """The materials met so far; what is kept of each is small."""

    def __init__(self) -> None:
        self._documents: dict[bytes, dict[str, Any] | None] = {}  # None: met once, nothing proven yet

    def recall(self, data: bytes) -> Known | None:
        """The document of a file whose material is known; None where it has to be read."""
        split = _split(data)
        if split is None:
            return None
        material = _digest(split[0])
        document = self._documents.get(material)
        if document is None:
            return None
        return Known({**document, **_values(split[1])}, material)

    def learn(self, data: bytes, document: Mapping[str, Any]) -> bytes | None:
        """Note the material of a file that was read whole; None where it has none that could be told."""
        split = _split(data)
        if split is None or any(document.get(key) != value for key, value in _values(split[1]).items()):
            return None
        material = _digest(split[0])
        if material not in self._documents:
            self._documents[material] = None
        elif self._documents[material] is None and _proven(split[0], document):
            self._documents[material] = _without_samples(document)
        return material


def _split(data: bytes) -> tuple[list[bytes], list[bytes]] | None:
    """What stands around the values of the keys that may differ, and those values."""
    around, values, at = [], [], 0
    for _, before, after, shape, _ in _SPANS:
        begin = data.find(before, at) + len(before)
        end = data.find(after, begin)
        if begin < len(before) or end < 0 or shape.fullmatch(data, begin, end) is None:
            return None
        around.append(data[at:begin])
        values.append(data[begin:end])
        at = end
    around.append(data[at:])
    return around, values


def _values(values: list[bytes]) -> dict[str, Any]:
    texts = {span[0]: value.decode() for span, value in zip(_SPANS, values, strict=True)}
    seconds = texts["seconds"]
    return {**texts, "seconds": float(seconds) if "." in seconds else int(seconds)}


def _digest(around: list[bytes]) -> bytes:
    """No JSON holds a zero byte, so that what stands around is told apart from what stands between."""
    return hashlib.sha256(b"\0".join(around)).digest()


def _proven(around: list[bytes], document: Mapping[str, Any]) -> bool:
    others = [span[4] for span in _SPANS]
    pairs = zip(around, [*others, b""], strict=True)
    changed = load_strict(b"".join(part for pair in pairs for part in pair))
    return bool(changed == {**document, **_values(others)})


def _without_samples(document: Mapping[str, Any]) -> dict[str, Any]:
    small = {**document, "observations": []}
    if small["control"] is not None:
        small["control"] = {**small["control"], "observations": []}
    small["faults"] = [{**trial, "observations": []} for trial in small["faults"]]
    return small

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
from dataclasses import dataclass, replace
from typing import Any

from refute.finding import Finding, without_samples
from refute.strict_json import load_strict

_MONTHS = rb"(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8])"
_TIME = re.compile(rb"20\d\d-(%b)T([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z" % _MONTHS)
# As they follow each other in a file: what comes before a value, after it, and what it may be: nothing that
# the schema would not take, so that it need not be asked.
_SPANS = (
    (
        "run",
        b'\n"run": "',
        b'"',
        re.compile(rb"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}"),
        b"20000101T000000.000Z-00000000",
    ),
    ("started", b'\n"started": "', b'"', _TIME, b"2000-01-01T00:00:00.125Z"),
    ("ended", b'\n"ended": "', b'"', _TIME, b"2000-01-01T00:00:00.250Z"),
    ("seconds", b'\n"seconds": ', b",", re.compile(rb"(0|[1-9]\d{0,8})(\.\d{1,6})?"), b"0.375"),
)


@dataclass(frozen=True, slots=True)
class Known:
    """A finding of a material that was met before. document, finding: without its samples."""

    document: dict[str, Any]
    finding: Finding


@dataclass(frozen=True, slots=True)
class Look:
    """What the bytes of a file tell before it is read. material: None where none could be told."""

    around: list[bytes]
    values: dict[str, Any]
    material: bytes | None
    known: Known | None


class Materials:
    """The materials met so far; what is kept of each is small."""

    def __init__(self) -> None:
        self._glimpsed: set[int] = set()
        self._known: dict[bytes, Known | None] = {}  # None: met, nothing proven yet

    def look(self, data: bytes) -> Look:
        """Look at a file: where its material is known, it need not be read."""
        # A few of its bytes tell that it is new, which is all there is to know where no two runs are alike.
        glimpse = _glimpse(data)
        if glimpse not in self._glimpsed:
            self._glimpsed.add(glimpse)
            return Look([], {}, None, None)
        split = _split(data)
        if split is None:
            return Look([], {}, None, None)
        around, values = split
        # No JSON holds a zero byte, so that what stands around is told apart from what stands between.
        material = hashlib.sha256(b"\0".join(around)).digest()
        known = self._known.get(material)
        if known is not None:
            known = Known({**known.document, **values}, replace(known.finding, **values))
        return Look(around, values, material, known)

    def learn(self, look: Look, document: Mapping[str, Any], finding: Finding) -> bytes | None:
        """Note the material of a file that was read whole; None where it has none that could be told."""
        if look.material is None or any(document[key] != value for key, value in look.values.items()):
            return None
        if look.material not in self._known:
            self._known[look.material] = None
        elif self._known[look.material] is None and _proven(look.around, document):
            self._known[look.material] = Known(_small(document), without_samples(finding))
        return look.material


def _glimpse(data: bytes) -> int:
    """Of a few bytes between the first two keys that may differ, so that one material has one."""
    return hash(data[512 : data.rfind(_SPANS[1][1]) : 17])


def _split(data: bytes) -> tuple[list[bytes], dict[str, Any]] | None:
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
    return around, _read(values)


def _read(values: list[bytes]) -> dict[str, Any]:
    texts = {span[0]: value.decode() for span, value in zip(_SPANS, values, strict=True)}
    seconds = texts["seconds"]
    return {**texts, "seconds": float(seconds) if "." in seconds else int(seconds)}


def _proven(around: list[bytes], document: Mapping[str, Any]) -> bool:
    """Whether other values in these places change those keys of the document, and nothing else."""
    others = [span[4] for span in _SPANS]
    pairs = zip(around, [*others, b""], strict=True)
    changed = load_strict(b"".join(part for pair in pairs for part in pair))
    return bool(changed == {**document, **_read(others)})


def _small(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without its samples."""
    small = {**document, "observations": [], "noise": None}
    if small["control"] is not None:
        small["control"] = {**small["control"], "observations": []}
    small["faults"] = [{**trial, "observations": []} for trial in small["faults"]]
    return small

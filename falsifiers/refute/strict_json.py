"""JSON as records hold it: what is written reads back the same, and nothing can be read in two ways.

Refused both ways: NaN and infinities, integers that a float64 cannot hold exactly, keys that are not
strings. Refused on reading: duplicate keys, numbers that overflow, bytes that are not UTF-8.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from jiter import from_json

LARGEST = 2**53

# What tells numbers that are too large, wherever they stand: digits are 9, and so is the plus of an exponent;
# whatever comes before a number is a space.
_SHAPES = bytes.maketrans(b"0123456789+E,:[-\n\r\t", b"99999999999e       ")
_LONG = b"9" * len(str(LARGEST))
_FAR = 512  # characters; a number that is longer is doubtful
_EXPONENT = re.compile(rb"[0-9][eE]\+?[0-9]{3}")


class StrictJsonError(ValueError):
    """A document that is not strict JSON; the message is one sentence that says where."""


def dump_strict(document: Mapping[str, Any]) -> bytes:
    """Write one object, a line per key and per object in a list of objects, so that diffs stay readable.

    Raises `StrictJsonError` with the JSON pointer of the first value that cannot be held.
    """
    check(document)
    lines = [f"{_compact(key)}: {_lines(value)}" for key, value in document.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise StrictJsonError(f"text with a lone surrogate ({error.reason}); expected Unicode text") from None


def load_strict(data: bytes) -> Any:
    """Read one document. Raises `StrictJsonError`."""
    if not _doubtful(data):
        try:
            return from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError:
            pass  # to be told why, where there is a reason
    return _load(data)


def _doubtful(data: bytes) -> bool:
    """Whether a number could be too large: all that a fast parser would let pass.

    Records are read by the ten thousand. May be true without need, as for an exponent within a text.
    """
    shape = data.translate(_SHAPES)
    # Most files have no such run of digits, and none is found ten times as fast as none after a space.
    return (_LONG in shape and _integer_of(shape, data)) or _exponent(shape, data)


def _integer_of(shape: bytes, data: bytes) -> bool:
    """Whether a number has more digits than 2^53, or as many and begins with a 9, as 2^53 does."""
    at = 0 if shape.startswith(_LONG) else _after_space(shape, 0)
    while at >= 0:
        end = at + len(_LONG)
        if data.startswith(b"9", at) or shape.startswith(b"9", end):
            return True
        at = _after_space(shape, end)
    return False


def _after_space(shape: bytes, start: int) -> int:
    """Where the next long number begins; -1 where there is none."""
    found = shape.find(b" " + _LONG, start)
    return found if found < 0 else found + 1


def _exponent(shape: bytes, data: bytes) -> bool:
    """Whether a number has an exponent of three digits that is not negative; digests look like it."""
    at = shape.find(b"9e999")
    while at >= 0:
        if shape[max(0, at - _FAR) : at].rstrip(b"9.")[-1:] in b" " and _EXPONENT.match(data, at):
            return True
        at = shape.find(b"9e999", at + 1)
    return False


def _load(data: bytes) -> Any:
    """Read one document with a reason for everything that is refused."""
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError as error:  # also JSONDecodeError and UnicodeDecodeError
        raise StrictJsonError(f"not JSON in UTF-8: {error}") from None


def check(value: Any) -> None:
    """Refuse what cannot be written and read back the same. Raises `StrictJsonError`."""
    fault = _fault(value)
    if fault is not None:
        pointer, what = fault
        raise StrictJsonError(f"{pointer or '/'}: {what}")


def _fault(value: Any) -> tuple[str, str] | None:
    """The first value that cannot be held, and why; its JSON pointer is made only where there is one."""
    if value is None or isinstance(value, str | bool):
        return None
    if isinstance(value, int):
        return ("", f"{value}, expected an integer of at most 2^53") if abs(value) > LARGEST else None
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", f"{value}, expected a finite number")
    if isinstance(value, Mapping):
        odd = next((key for key in value if not isinstance(key, str)), None)
        if odd is not None:
            return "", f"key {odd!r}, expected a string"
    elif not isinstance(value, list | tuple):
        return "", f"a {type(value).__name__}, expected plain JSON data"
    for step, member in value.items() if isinstance(value, Mapping) else enumerate(value):
        fault = _fault(member)
        if fault is not None:
            return f"/{escaped(str(step))}{fault[0]}", fault[1]
    return None


def escaped(key: str) -> str:
    """Escape one step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _lines(value: Any) -> str:
    if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        return "[\n " + ",\n ".join(map(_compact, value)) + "\n]"
    return _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(", ", ": "))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise StrictJsonError(f"key {twice!r} is there twice; expected it once")
    return members


def _constant(text: str) -> NoReturn:
    raise StrictJsonError(f"{text}, expected a finite number")


def _integer(text: str) -> int:
    # The length first: int() itself is slow, and limited, on very long digits.
    value = int(text) if len(text) < 20 else LARGEST + 1
    if abs(value) > LARGEST:
        raise StrictJsonError(f"{text[:30]}, expected an integer of at most 2^53")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"{text[:30]}, expected a number that a float64 can hold")
    return value

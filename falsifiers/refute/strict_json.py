"""JSON as records hold it: what is written reads back the same, and nothing can be read in two ways.

Refused both ways: NaN and infinities, integers that a float64 cannot hold exactly, keys that are not
strings. Refused on reading: duplicate keys, numbers that overflow, bytes that are not UTF-8.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

LARGEST = 2**53


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

"""The parts of OpenAI's objects that faults change: copies, so that what was read stays as it was.

Engines are read leniently: what has another form than expected is left as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from refute.wire.exchange import Json

_SAID = ("delta", "message")


def choices_of(value: Mapping[str, Any] | None) -> list[Json]:
    """Return the choices; none where there are none."""
    choices = value.get("choices") if value is not None else None
    return [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []


def with_choices(value: Json, change: Callable[[Json], Json]) -> Json:
    """Return the object with every choice changed."""
    if not choices_of(value):
        return value
    changed = [change(each) if isinstance(each, dict) else each for each in value["choices"]]
    return {**value, "choices": changed}


def said_of(choice: Mapping[str, Any]) -> Json | None:
    """Return the delta or message of a choice; None on the older route."""
    return next((choice[name] for name in _SAID if isinstance(choice.get(name), dict)), None)


def with_said(choice: Json, change: Callable[[Json], Json]) -> Json:
    """Return the choice with its delta or message changed, where it has one."""
    name = next((each for each in _SAID if isinstance(choice.get(each), dict)), None)
    return choice if name is None else {**choice, name: change(choice[name])}


def text_of(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice, on either route; empty where there is none."""
    said = said_of(choice)
    text = choice.get("text") if said is None else said.get("content")
    return text if isinstance(text, str) else ""


def with_text(choice: Json, text: str) -> Json:
    """Return the choice with another text."""
    if said_of(choice) is None:
        return {**choice, "text": text}
    return with_said(choice, lambda said: {**said, "content": text})


def content_of(value: Mapping[str, Any] | None) -> str:
    """Return the text of all choices."""
    return "".join(map(text_of, choices_of(value)))


def without(value: Json, *names: str) -> Json:
    return {name: each for name, each in value.items() if name not in names}


def nulled(value: Json, name: str) -> Json:
    """Return the object with null in that field, where it has one."""
    return {**value, name: None} if name in value else value


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

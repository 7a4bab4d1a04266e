"""The parts of OpenAI's objects that faults change: copies, so that what was read stays as it was."""

from collections.abc import Callable, Mapping
from typing import Any

from refute.wire.exchange import Json

_SAID = ("delta", "message")


def choice_of(value: Mapping[str, Any] | None) -> Json | None:
    """Return the first choice; None where there is none."""
    choices = value.get("choices") if value is not None else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def with_choice(value: Json, change: Callable[[Json], Json]) -> Json:
    """Return the object with its first choice changed, where it has one."""
    choice = choice_of(value)
    return value if choice is None else {**value, "choices": [change(choice), *value["choices"][1:]]}


def with_said(value: Json, change: Callable[[Json], Json]) -> Json:
    """Return the object with the delta or message of its first choice changed, where it has one."""

    def changed(choice: Json) -> Json:
        name = next((each for each in _SAID if isinstance(choice.get(each), dict)), None)
        return choice if name is None else {**choice, name: change(choice[name])}

    return with_choice(value, changed)


def content_of(value: Mapping[str, Any] | None) -> str:
    """Return the text of the first choice, on either route; empty where there is none."""
    choice = choice_of(value) or {}
    said = next((choice[name] for name in _SAID if isinstance(choice.get(name), dict)), None)
    text = choice.get("text") if said is None else said.get("content")
    return text if isinstance(text, str) else ""


def with_content(value: Json, text: str) -> Json:
    """Return the object with another text in its first choice."""
    if "text" in (choice_of(value) or {}):
        return with_choice(value, lambda choice: {**choice, "text": text})
    return with_said(value, lambda said: {**said, "content": text})


def without(value: Json, *names: str) -> Json:
    return {name: each for name, each in value.items() if name not in names}

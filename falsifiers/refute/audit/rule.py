"""What a rule is, and what it yields."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

S = TypeVar("S")


class Severity(StrEnum):
    """error: the record does not count, and the audit fails. warning: it counts for less. note: known."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity


@dataclass(frozen=True, slots=True)
class Remark:
    """One place that breaks a rule. file: below the run's folder, or empty for the folder itself."""

    file: str
    pointer: str
    found: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class Rule(Generic[S]):
    """One thing that holds for every honest record.

    says: what holds, in a sentence. why: what it would mean if it did not.
    """

    id: str
    severity: Severity
    says: str
    why: str
    check: Callable[[S], Iterable[Remark]]


def rule(severity: Severity, says: str, why: str) -> Callable[[Callable[[S], Iterable[Remark]]], Rule[S]]:
    """Make a rule of the function below; its name is the rule's id."""

    def made(check: Callable[[S], Iterable[Remark]]) -> Rule[S]:
        return Rule(check.__name__.replace("_", "-"), severity, says, why, check)

    return made


@dataclass(frozen=True, slots=True)
class Objection:
    """A rule that is broken, and where. file: the path of a file or folder."""

    rule: str
    severity: Severity
    file: str
    pointer: str
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}#{self.pointer}" if self.pointer else self.file
        return f"{self.severity} {self.rule}: {place}: found {self.found}, expected {self.expected}"


def short(value: Any) -> str:
    """A value as one line of text that fits on one."""
    text = "null" if value is None else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 160 else f"{text[:120]} … {text[-30:]}"

"""What a check of the doctor is."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from refute.verdict import Exit

SCHEMA = "urn:refute:schema:doctor:1"
State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. fail: no run is possible; warn: one is, but worse. fix: empty for ok."""

    name: str
    state: State
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All of them, in the order in which they are shown."""

    checks: tuple[Check, ...]

    @classmethod
    def of(cls, checks: Iterable[Check]) -> "Diagnosis":
        """Do the checks."""
        return cls(tuple(checks))

    @property
    def code(self) -> Exit:
        """Exit code: whether a run is possible."""
        return Exit.MISSING if any(check.state == "fail" for check in self.checks) else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, "exit": int(self.code), "checks": [asdict(check) for check in self.checks]}

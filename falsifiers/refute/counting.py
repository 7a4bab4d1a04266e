"""Which evidence counts under a profile: fresh enough and signed, as the policy has it.

Decided here alone, for the gate and for what a run plans, so that neither wants what the other has.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from refute.policy import Policy, Profile, ProfilePolicy
from refute.rows import Row
from refute.verdict import Status

_AHEAD = timedelta(days=1)  # how far the clocks of two hosts may be apart


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a row counts as that does not count, and why.

    command: what clears it; empty where another run does.
    """

    status: Status
    reason: str
    command: str = ""


class Counting:
    """One profile under one policy, at one time. wants: what it asks of evidence."""

    def __init__(self, profile: Profile, policy: Policy, now: datetime) -> None:
        self.wants: ProfilePolicy = policy.of(profile)
        self._profile = profile
        self._now = now
        self._signatures = _Signatures(policy) if self.wants.signatures else None

    def refuses(self, row: Row) -> Refusal | None:
        """Why a row does not count; None where it does."""
        old = self._too_old(row)
        if old:
            return Refusal(Status.STALE, old)
        unsigned = "" if self._signatures is None else self._signatures.missing(row)
        if not unsigned:
            return None
        usable = self._signatures is not None and self._signatures.usable
        command = f"{shlex.join(['refute', 'sign', row.path])} --key KEY" if usable else ""
        return Refusal(Status.UNOBSERVED, unsigned, command)

    def _too_old(self, row: Row) -> str:
        """Why a row's age rules it out; empty if it does not."""
        limit = self.wants.max_age_days
        if limit is None:
            return ""
        try:
            age = self._now - datetime.fromisoformat(row.started)
        except ValueError:  # a leap second is a time to the schema
            return f"run {row.run} started at {row.started}, which is no time here"
        if age < -_AHEAD:
            return f"run {row.run} says it started {-age.days} days from now"
        if age <= timedelta(days=limit):
            return ""
        return f"run {row.run} is {age.days} days old; {self._profile} wants at most {limit}"


class _Signatures:
    """Which runs one of a policy's keys signed; each envelope is verified once."""

    def __init__(self, policy: Policy) -> None:
        from refute.signing import SigningError, load_public_key  # noqa: PLC0415 (only where it is asked for)

        self._known: dict[str, str] = {}
        self._broken = ""
        try:
            self._keys = [load_public_key(path) for path in policy.keys.values()]
        except SigningError as error:
            self._broken = str(error)

    @property
    def usable(self) -> bool:
        """Whether they can be checked at all."""
        return not self._broken

    def missing(self, row: Row) -> str:
        """Why the run of a row counts as unsigned; empty if it is signed."""
        from refute.signing import SigningError, verify  # noqa: PLC0415

        if self._broken:
            return f"signatures cannot be checked: {self._broken}"
        if row.path not in self._known:
            try:
                verify(Path(row.path), self._keys)
                self._known[row.path] = ""
            except SigningError as error:
                self._known[row.path] = f"its run is not signed as it has to be: {error}"
        return self._known[row.path]

"""`[tool.refute]` of pyproject.toml: what a project decides about its evidence, and who answers for it.

    evidence = ["evidence"]                 # the trees that are read, from the file's folder
    [tool.refute.testbeds]                  # names for hosts: first digits of their fingerprints
    [tool.refute.keys]                      # names for public keys whose signatures count: .pub files
    [tool.refute.profiles.release]          # or .pr
    max-age-days = 90                       # older evidence does not count
    testbeds = ["NAME"]                     # each claim has to hold on every one of them
    signatures = "required"                 # a run counts only if one of the keys signed it
    [[tool.refute.waivers]]                 # a claim that may block nothing for a while
    claim = "CONTRACT/FALSIFIER"
    owner = "..."
    reason = "..."
    expires = 2026-12-31                    # the last day on which it counts
    up-to = "falsified"                     # the worst status that it covers (default: invalid)
    [[tool.refute.invalidations]]           # an attempt that says nothing: harness or host erred
    claim = "CONTRACT/FALSIFIER"
    run = "..."
    owner = "..."
    reason = "..."

Nothing here edits a record: what is invalidated or waived stays and is shown, with owner and reason.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from refute.verdict import Status

Profile = Literal["pr", "release"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
FINGERPRINT_DIGITS = 12  # at least, of a testbed that is named
WORST_FIRST: Mapping[Status, int] = {status: place for place, status in enumerate(Status)}


@dataclass(frozen=True, slots=True)
class Waiver:
    """expires: ISO 8601, the last day on which it counts. up_to: the worst status that it covers."""

    claim: str
    owner: str
    reason: str
    expires: str
    up_to: Status

    def covers(self, status: Status) -> bool:
        """Whether a claim in this status is waived; nobody waives tampering."""
        return status is not Status.TAMPERED and WORST_FIRST[status] >= WORST_FIRST[self.up_to]

    def __str__(self) -> str:
        return f"waived by {self.owner} until {self.expires}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Invalidation:
    """One attempt that says nothing of its claim."""

    claim: str
    run: str
    owner: str
    reason: str

    def __str__(self) -> str:
        return f"run {self.run} was invalidated by {self.owner}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ProfilePolicy:
    """What one profile wants besides; testbeds: first digits of fingerprints, by name."""

    max_age_days: int | None = None
    testbeds: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    signatures: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it. sha256: of the section's RFC 8785 form, dates as text and keys with what is in their files.

    keys: the files of public keys, by name.
    """

    sha256: str
    evidence: tuple[Path, ...] = (Path("evidence"),)
    profiles: Mapping[Profile, ProfilePolicy] = field(default_factory=lambda: MappingProxyType({}))
    keys: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    waivers: tuple[Waiver, ...] = ()
    invalidations: tuple[Invalidation, ...] = ()

    def of(self, profile: Profile) -> ProfilePolicy:
        """What a profile wants besides."""
        return self.profiles.get(profile, ProfilePolicy())

    def invalidation(self, claim: str, *runs: str) -> Invalidation | None:
        """Return what takes an attempt out. runs: its own, and the one that it was taken over from."""
        return next(
            (each for run in runs for each in self.invalidations if (each.claim, each.run) == (claim, run)),
            None,
        )


def digest_of(section: Mapping[str, Any], keys: Mapping[str, bytes] | None = None) -> str:
    """Return the sha256 of a section and of its keys' files; an empty section and none are the same."""
    import rfc8785  # noqa: PLC0415 (start-up time)

    whole = dict(section)
    if keys:
        whole["keys"] = {name: hashlib.sha256(content).hexdigest() for name, content in keys.items()}
    return hashlib.sha256(rfc8785.dumps(_plain(whole))).hexdigest()


def no_policy() -> Policy:
    """What holds where a project decides nothing."""
    return Policy(digest_of({}))


def _plain(value: Any) -> Any:
    """TOML as JSON: dates and times become text."""
    if isinstance(value, dict):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value if isinstance(value, str | bool | int | float) else value.isoformat()

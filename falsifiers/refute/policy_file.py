"""Read `[tool.refute]` strictly: what is unknown, malformed, twice or out of date is told with its place."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from refute.finding import RUN_ID
from refute.marked_toml import read_toml
from refute.marked_yaml import Document, Pointer, Problem, did_you_mean
from refute.policy import (
    FINGERPRINT_DIGITS,
    PROFILES,
    Invalidation,
    Policy,
    Profile,
    ProfilePolicy,
    Waiver,
    digest_of,
    no_policy,
)
from refute.verdict import Status

FILE = "pyproject.toml"
SECTION: Pointer = ("tool", "refute")
_COVERABLE = tuple(
    status for status in Status if status not in (Status.TAMPERED, Status.WAIVED, Status.DISCHARGED)
)
_TIMELY = frozenset({"waiver-expired", "policy-claim"})  # told by lint; what they are about then counts not
_CLAIM = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*")
_FINGERPRINT = re.compile(rf"[0-9a-f]{{{FINGERPRINT_DIGITS},64}}")


@dataclass(frozen=True, slots=True)
class Reading:
    """problems: everything that is wrong. policy: None where something of it keeps it from being used."""

    policy: Policy | None
    problems: tuple[Problem, ...]


def read_policy(root: Path, claims: Collection[str], today: date) -> Reading:
    """Read the section in root/pyproject.toml; without one the policy is empty.

    claims: those that exist. Raises `ContractError` for a file that is no TOML.
    """
    path = root / FILE
    if not path.is_file():
        return Reading(no_policy(), ())
    document = read_toml(path)
    tools = document.data.get("tool")
    if not isinstance(tools, dict) or "refute" not in tools:
        return Reading(no_policy(), ())
    check = _Check(document, claims, today)
    policy = check.policy(tools["refute"])
    problems = tuple(sorted(check.problems))
    return Reading(policy if policy.sha256 else None, problems)


class _Check:
    """Reads one section; what is wrong becomes a problem, and a value that stands for nothing."""

    def __init__(self, document: Document, claims: Collection[str], today: date) -> None:
        self._document = document
        self._claims = claims
        self._today = today.isoformat()
        self._root = document.path.parent
        self.problems: list[Problem] = []

    def policy(self, section: Any) -> Policy:
        names = ("evidence", "testbeds", "keys", "profiles", "waivers", "invalidations")
        table = self._table(SECTION, section, names)
        testbeds = self._names(
            (*SECTION, "testbeds"),
            table.get("testbeds", {}),
            _FINGERPRINT,
            f"at least {FINGERPRINT_DIGITS} first digits of a fingerprint, as refute status shows it",
        )
        keys = self._keys(table.get("keys", {}))
        profiles = self._profiles(table.get("profiles", {}), testbeds, signed=bool(keys))
        evidence = self._texts((*SECTION, "evidence"), table.get("evidence", ["evidence"]))
        waivers = [
            self._waiver((*SECTION, "waivers", index), entry)
            for index, entry in enumerate(self._list((*SECTION, "waivers"), table.get("waivers", [])))
        ]
        invalidations = [
            self._invalidation((*SECTION, "invalidations", index), entry)
            for index, entry in enumerate(
                self._list((*SECTION, "invalidations"), table.get("invalidations", []))
            )
        ]
        self._once("waivers", [waiver.claim for waiver in waivers])
        self._once("invalidations", [f"{each.claim} in run {each.run}" for each in invalidations])
        return Policy(
            "" if self._unusable() else digest_of(section, keys),
            tuple(self._root / each for each in evidence),
            profiles,
            {name: self._root / table["keys"][name] for name in keys},
            tuple(waivers),
            tuple(invalidations),
        )

    def _unusable(self) -> bool:
        return any(problem.rule not in _TIMELY for problem in self.problems)

    def _keys(self, given: Any) -> dict[str, bytes]:
        """What is in the files of keys."""
        found = {}
        at = (*SECTION, "keys")
        for name, path in self._table(at, given, given if isinstance(given, dict) else ()).items():
            expected = "a .pub file that refute keygen wrote, from the folder of this one"
            if not isinstance(path, str):
                self._wrong((*at, name), repr(path), expected)
                continue
            try:
                found[name] = (self._root / path).read_bytes()
            except OSError as error:
                self._wrong((*at, name), f"{path} cannot be read ({error.strerror})", expected)
                continue
            if not found[name].startswith(b"-----BEGIN PUBLIC KEY-----"):
                self._wrong((*at, name), f"{path} is no public key", expected)
        return found

    def _profiles(
        self, given: Any, testbeds: Mapping[str, str], *, signed: bool
    ) -> dict[Profile, ProfilePolicy]:
        at = (*SECTION, "profiles")
        table = self._table(at, given, PROFILES)
        return {
            name: self._profile((*at, name), table[name], testbeds, signed=signed)
            for name in PROFILES
            if name in table
        }

    def _profile(
        self, at: Pointer, given: Any, testbeds: Mapping[str, str], *, signed: bool
    ) -> ProfilePolicy:
        table = self._table(at, given, ("max-age-days", "testbeds", "signatures"))
        age = table.get("max-age-days")
        if age is not None and (not isinstance(age, int) or isinstance(age, bool) or not 1 <= age <= 36500):
            self._wrong((*at, "max-age-days"), f"{age!r}", "a whole number of days, at least 1")
            age = None
        wanted = {}
        for index, name in enumerate(self._texts((*at, "testbeds"), table.get("testbeds", []))):
            if name not in testbeds:
                place = (*at, "testbeds", index)
                fix = did_you_mean(name, testbeds) or f"add it to {_dotted((*SECTION, 'testbeds'))}"
                self._add("policy-testbed", place, f"no testbed is called {name!r}", "", fix)
            else:
                wanted[name] = testbeds[name]
        signatures = table.get("signatures", "optional")
        if signatures not in ("required", "optional"):
            self._wrong((*at, "signatures"), repr(signatures), "'required' or 'optional'")
        elif signatures == "required" and not signed:
            what = "signatures are required, and no key is listed whose signature counts"
            fix = f'add one to {_dotted((*SECTION, "keys"))}, such as: ops = "keys/ops.key.pub"'
            self._add("policy-keys", (*at, "signatures"), what, "", fix)
        return ProfilePolicy(age, wanted, signatures == "required")

    def _waiver(self, at: Pointer, given: Any) -> Waiver:
        table = self._table(at, given, ("claim", "owner", "reason", "expires", "up-to"), optional=("up-to",))
        expires = table.get("expires")
        day = ""
        if isinstance(expires, date) and not isinstance(expires, datetime):
            day = expires.isoformat()
            if day < self._today:
                what = f"this waiver expired on {day} and counts no more"
                self._add("waiver-expired", (*at, "expires"), what, "", "remove it, or decide anew")
        elif expires is not None:
            fix = "write it without quotes" if isinstance(expires, str) else ""
            self._wrong((*at, "expires"), repr(expires), "a day such as 2026-12-31", fix)
        worst = table.get("up-to", str(Status.INVALID))
        if worst not in _COVERABLE:
            expected = f"a status that can be waived: {', '.join(_COVERABLE)}"
            self._wrong((*at, "up-to"), repr(worst), expected, did_you_mean(worst, _COVERABLE))
            worst = Status.OPEN
        claim, owner, reason = self._claim(at, table), *self._accounted(at, table)
        return Waiver(claim, owner, reason, day, Status(worst))

    def _invalidation(self, at: Pointer, given: Any) -> Invalidation:
        table = self._table(at, given, ("claim", "run", "owner", "reason"))
        run = table.get("run", "")
        if "run" in table and not (isinstance(run, str) and RUN_ID.fullmatch(run)):
            expected = "a run such as 20261130T101500.000Z-0123abcd"
            self._wrong((*at, "run"), repr(run), expected, "refute status CLAIM lists them")
        claim, owner, reason = self._claim(at, table), *self._accounted(at, table)
        return Invalidation(claim, str(run), owner, reason)

    def _claim(self, at: Pointer, table: Mapping[str, Any]) -> str:
        claim = table.get("claim")
        place = (*at, "claim")
        if claim is None:
            return ""
        if not isinstance(claim, str) or not _CLAIM.fullmatch(claim):
            self._wrong(place, repr(claim), "CONTRACT/FALSIFIER")
            return ""
        if claim not in self._claims:
            self._add("policy-claim", place, f"no claim {claim!r}", "", did_you_mean(claim, self._claims))
        return claim

    def _accounted(self, at: Pointer, table: Mapping[str, Any]) -> tuple[str, str]:
        owner, reason = (
            self._text((*at, name), table[name]) if name in table else "" for name in ("owner", "reason")
        )
        return owner, reason

    def _table(
        self, at: Pointer, given: Any, known: Collection[str], *, optional: Collection[str] | None = None
    ) -> Mapping[str, Any]:
        """The known keys of a table. optional: which may be missing; all, where the table lists none."""
        if not isinstance(given, dict):
            self._wrong(at, repr(given), "a table")
            return {}
        for key in given.keys() - set(known):
            what, fix = f"unknown key {key!r}", did_you_mean(key, known)
            problem = self._document.key_problem("policy-key", (*at, key), what, "", fix)
            self.problems.append(problem)
        entry = isinstance(at[-1], int)
        for key in known if entry else ():
            if key not in given and key not in (optional or ()):
                self._add("policy-missing", at, f"{key!r} is missing", "", f"add {key} = ...")
        return {key: given[key] for key in known if key in given}

    def _names(self, at: Pointer, given: Any, wanted: re.Pattern[str], expected: str) -> dict[str, str]:
        table = self._table(at, given, given if isinstance(given, dict) else ())
        for name, value in table.items():
            if not isinstance(value, str) or not wanted.fullmatch(value):
                self._wrong((*at, name), repr(value), expected)
        return {name: str(value) for name, value in table.items()}

    def _texts(self, at: Pointer, given: Any) -> list[str]:
        return [self._text((*at, index), each) for index, each in enumerate(self._list(at, given))]

    def _text(self, at: Pointer, given: Any) -> str:
        if isinstance(given, str) and given.strip():
            return " ".join(given.split())
        self._wrong(at, repr(given), "some text")
        return ""

    def _list(self, at: Pointer, given: Any) -> list[Any]:
        if isinstance(given, list):
            return given
        self._wrong(at, repr(given), "a list")
        return []

    def _once(self, name: str, subjects: list[str]) -> None:
        first: dict[str, int] = {}
        for index, subject in enumerate(subjects):
            if subject in first:
                line = self._document.at((*SECTION, name, first[subject])).line
                what = f"{subject} is there twice, first on line {line}"
                self._add("policy-twice", (*SECTION, name, index), what, "", "keep one")
            first.setdefault(subject, index)

    def _wrong(self, at: Pointer, found: str, expected: str, fix: str = "") -> None:
        name = at[-1] if isinstance(at[-1], str) else at[-2]
        self._add("policy-value", at, f"{name}: {found[:60]}", expected, fix)

    def _add(self, rule: str, at: Pointer, what: str, expected: str, fix: str) -> None:
        self.problems.append(self._document.problem(rule, at, what, expected, fix))


def _dotted(pointer: Pointer) -> str:
    return f"[{'.'.join(map(str, pointer))}]"

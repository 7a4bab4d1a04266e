"""Attempts grouped by falsifier, engine, model and testbed, and what each group says: a `Row`.

Every attempt counts, but those that were invalidated: on one engine, contract and rule a falsified attempt
is not undone by later green ones. Changing any of them starts anew, and until then the row is stale.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from refute.attempts import RANK, Attempt, Attempts, Key
from refute.contract import Contract, Falsifier, declared
from refute.policy import FINGERPRINT_DIGITS, Invalidation, Policy
from refute.verdict import Level, Status, Verdict

Group = Sequence[Attempt]  # never empty, in the order of their runs


@dataclass(frozen=True, slots=True)
class Row:
    """One falsifier on one engine, model and testbed.

    holds: it freshly survived, and so did its needs at the same level. testbed: a fingerprint. verdict to
    started: of the attempt that gives the row its status. flags: how the bar was moved after a falsification.
    """

    engine: str
    engine_digest: str
    model_name: str
    model: str
    testbed: str
    level: Level | None
    status: Status
    holds: bool
    verdict: Verdict
    figure: str
    run: str
    path: str
    started: str
    attempts: int
    reason: str
    flags: tuple[str, ...]


def reaches(level: Level | None, wanted: Level) -> bool:
    """Whether evidence of one level discharges what wants another; `other` never does."""
    return level is not None and level is not Level.OTHER and RANK[level] >= RANK[wanted]


class Ground:
    """All attempts on all declared falsifiers, grouped, and whether their needs hold."""

    def __init__(self, contracts: Sequence[Contract], attempts: Attempts, policy: Policy) -> None:
        self.declared = declared(contracts)
        self.attempts = attempts
        self.groups: dict[Key, list[Group]] = {}
        self.invalidated: dict[Key, list[tuple[Attempt, Invalidation]]] = {}
        self._policy = policy
        self._survivals: dict[Key, dict[tuple[str, str], _Survivals]] = {}
        self._survived: dict[tuple[Key, str, str, str, Level], bool] = {}
        for key in self.declared:
            self._group(key)

    def rows(self, key: Key) -> list[Row]:
        """What every group of one falsifier says."""
        falsifier = self.declared[key][1]
        return [self._row(falsifier, group) for group in self.groups[key]]

    def counting(self, key: Key) -> list[Attempt]:
        """The attempts that were not invalidated, in the order of their runs."""
        without = {id(attempt) for attempt, _ in self.invalidated[key]}
        return [each for each in self.attempts.of.get(key, ()) if id(each) not in without]

    def _group(self, key: Key) -> None:
        groups: dict[tuple[str, str, str], list[Attempt]] = {}
        invalidated = self.invalidated[key] = []
        for attempt in self.attempts.of.get(key, ()):
            # A finding that a resumed run took over is the same attempt.
            invalidation = self._policy.invalidation("/".join(key), attempt.run, attempt.finding.run)
            if invalidation is not None:
                invalidated.append((attempt, invalidation))
            else:
                groups.setdefault((attempt.engine, attempt.model, attempt.testbed), []).append(attempt)
        self.groups[key] = list(groups.values())

    def _row(self, falsifier: Falsifier, group: Group) -> Row:
        state, decisive, reason = _state(group)
        finding, level = decisive.finding, decisive.level
        unmet = ""
        survived = state is Status.OPEN and decisive.verdict is Verdict.SURVIVED
        if survived:
            unmet = self._unmet(falsifier, decisive)
            testbeds = falsifier.bound.testbeds
            if unmet:
                reason = f"needs {unmet}, which has not survived on this engine and model"
            elif not reaches(level, falsifier.discharge):
                reason = f"survived at level {level}; {falsifier.discharge} discharges it"
            elif testbeds and not any(is_testbed(name, decisive.testbed) for name in testbeds):
                reason = f"survived on testbed {decisive.testbed[:12]}; the bound names {', '.join(testbeds)}"
            else:
                state, reason = Status.DISCHARGED, ""
        return Row(
            engine=decisive.engine,
            engine_digest=decisive.build,
            model_name=str(finding.target.get("model_name", "")),
            model=decisive.model,
            testbed=decisive.testbed,
            level=level if decisive.engine else None,
            status=state,
            holds=survived and not unmet,
            verdict=decisive.verdict,
            figure=decisive.carried.figure,
            run=decisive.run,
            path=str(decisive.path),
            started=finding.started,
            attempts=len({each.finding.run for each in group}),
            reason=reason,
            flags=_flags(group, decisive),
        )

    def _unmet(self, falsifier: Falsifier, like: Attempt) -> str:
        """The first need of a falsifier that does not hold where `like` was observed; empty if all do.

        The same build of the engine must have survived it on the same model, at the same level, on
        any testbed.
        """
        for need in falsifier.needs:
            contract, _, name = need.partition("/")
            if not self._survives((contract, name), like):
                return need
        return ""

    def _survives(self, key: Key, like: Attempt) -> bool:
        if key not in self.declared or self.attempts.spoilt.get(key):
            return False
        place = (key, like.engine, like.model, like.build, like.level)
        if place not in self._survived:
            self._survived[place] = False  # a cycle of needs never holds
            known = self._of(key).get((like.engine, like.model))
            self._survived[place] = (
                known is not None
                and not known.refuted
                and any(
                    not self._unmet(self.declared[key][1], each)
                    for each in known.green.get((like.build, like.level), ())
                )
            )
        return self._survived[place]

    def _of(self, key: Key) -> "dict[tuple[str, str], _Survivals]":
        """What survived one falsifier, on any testbed, by engine and model; each group is looked at once."""
        if key not in self._survivals:
            found: dict[tuple[str, str], _Survivals] = {}
            for group in self.groups[key]:
                state, decisive, _ = _state(group)
                entry = found.setdefault((decisive.engine, decisive.model), _Survivals())
                entry.refuted |= state in (Status.TAMPERED, Status.FALSIFIED)
                if state is Status.OPEN and decisive.verdict is Verdict.SURVIVED:
                    entry.green.setdefault((decisive.build, decisive.level), []).append(decisive)
            self._survivals[key] = found
        return self._survivals[key]


@dataclass(slots=True)
class _Survivals:
    """On one engine and model: whether something refuted there, and fresh survivals by build and level."""

    refuted: bool = False
    green: dict[tuple[str, Level], list[Attempt]] = field(default_factory=dict)


def _state(group: Group) -> tuple[Status, Attempt, str]:
    """Status of one group before needs and levels, the attempt that decides it, and why.

    A fresh survival, and a fresh finding that the claim does not apply, come out as `open`.
    """
    for attempt in group:
        if attempt.discrepancies:
            return Status.TAMPERED, attempt, str(attempt.discrepancies[0])
    current = [attempt for attempt in group if not attempt.stale]
    if not current:
        newest = group[-1]
        before = ", and was falsified then" if newest.verdict is Verdict.FALSIFIED else ""
        return Status.STALE, newest, newest.stale + before
    # An engine that refute does not ship has no digest to compare with here: its newest build counts.
    current = [attempt for attempt in current if attempt.build == current[-1].build]
    refuted = [attempt for attempt in current if attempt.verdict is Verdict.FALSIFIED]
    attacked = [attempt for attempt in current if attempt.attacked]
    decisive = (refuted or attacked or current)[-1]
    verdict = decisive.verdict
    green = verdict in (Verdict.SURVIVED, Verdict.NOT_APPLICABLE)
    return Status.OPEN if green else Status(verdict.value), decisive, decisive.carried.reason


def _flags(group: Group, decisive: Attempt) -> tuple[str, ...]:
    """How the contract changed after it was falsified, by a build that counts, oldest first."""
    flagged = (
        f"{attempt.carried.flag} (run {attempt.run})"
        for attempt in group
        if attempt.carried.flag and attempt.build == decisive.build
    )
    return tuple(dict.fromkeys(flagged))


def is_testbed(name: str, fingerprint: str) -> bool:
    """Whether a contract's testbed is this one: `any`, or at least 12 first digits of a fingerprint."""
    return name == "any" or (len(name) >= FINGERPRINT_DIGITS and fingerprint.startswith(name))

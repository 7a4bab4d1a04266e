"""Compute some of what records hold again: the auditor's nonce says which, so that nobody could prepare.

A case is chosen by HMAC-SHA256 of the record's digest and the case's place, keyed with the nonce. The engine
is asked for it again; what it gives agrees bit for bit where both builds promise that, else within the stored
bound. Besides, planned cases are drawn again from the seed. Times, memory and answers over HTTP are never the
same twice; `refute.audit.reproduction` repeats those.
"""

import dataclasses
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refute.audit.rule import Objection, Severity, short
from refute.audit.subject import Filed, Subject
from refute.contract import Falsifier
from refute.finding import Finding
from refute.kinds import UnknownKind, kind_named
from refute.kinds.base import Kind, Planned
from refute.targets.base import Target
from refute.trials import derive_seed, size_of
from refute.verdict import Exit

_NEVER_THE_SAME = frozenset({"http", "memory"})  # capabilities: answers, and sizes
_LOGIT = re.compile(r"([0-9.eE+-]+) logit")
_TOLERANCE = 1e-3  # of a logit, where the claim states none
_RULE, _PLAN = "challenge-samples", "challenge-cases"


@dataclass(frozen=True, slots=True)
class Position:
    """One case of one finding. rank: where the nonce puts it; the lowest are chosen."""

    subject: Subject
    filed: Filed
    finding: Finding
    falsifier: Falsifier
    index: int
    rank: bytes

    @property
    def file(self) -> str:
        """The path of its record."""
        return f"{self.subject.folder.path}/{self.filed.file}"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What came out. cases: that could be chosen. exact, near: agreed, bit for bit or within bounds.

    plans: claims whose cases were drawn again. passed_over: why findings could not be challenged, how many.
    """

    nonce: str
    cases: int
    exact: int
    near: int
    plans: int
    passed_over: Mapping[str, int]
    objections: tuple[Objection, ...]

    @property
    def code(self) -> Exit:
        """4 where something differs, 5 where nothing could be computed again."""
        if self.objections:
            return Exit.INVALID
        return Exit.OK if self.exact + self.near + self.plans else Exit.MISSING

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**dataclasses.asdict(self), "exit_code": int(self.code)}


def challenge(
    subjects: Sequence[Subject],
    nonce: str,
    *,
    model_sha256: str,
    count: int,
    open_target: Callable[[str], Target],
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005 (nobody listens)
) -> Challenge:
    """Compute `count` cases again. open_target: the engine on that model, by the name of its backend."""
    passed_over: Counter[str] = Counter()
    found = [
        (subject, filed, finding)
        for subject in subjects
        for filed, finding in subject.findings
        if _challengeable(filed, finding, model_sha256, passed_over)
    ]
    positions = sorted(
        (each for entry in found for each in _positions(*entry, nonce, passed_over)),
        key=lambda each: each.rank,
    )
    objections: list[Objection] = []
    exact = near = plans = 0
    for subject, filed, finding in found:
        target = open_target(backend_of(finding))
        differs = _redrawn(subject, filed, finding, target)
        plans += differs is not None
        objections += differs or ()
    chosen = positions[:count]
    for done, position in enumerate(chosen):
        progress(done, len(chosen))
        target = open_target(backend_of(position.finding))
        differences = list(_again(position, target))
        objections += differences
        exact += not differences and _bitwise(position.finding, target)
        near += not differences and not _bitwise(position.finding, target)
    return Challenge(nonce, len(positions), exact, near, plans, dict(passed_over), tuple(objections))


def _challengeable(filed: Filed, finding: Finding, model_sha256: str, passed_over: Counter[str]) -> bool:
    if finding.judgement is None or filed.falsifier is None:
        why = "nothing was judged"
    elif finding.target.get("name") != "bundled":
        why = "another engine"
    elif finding.target["model_sha256"] != model_sha256:
        why = "another model"
    elif filed.rejudged is None or filed.rejudged.unjudged:
        why = "its rule is not here"
    else:
        return True
    passed_over[why] += 1
    return False


def _positions(
    subject: Subject, filed: Filed, finding: Finding, nonce: str, passed_over: Counter[str]
) -> Iterator[Position]:
    assert filed.falsifier is not None
    kind = kind_named(finding.kind)
    if kind.timing or kind.requires & _NEVER_THE_SAME:
        passed_over["times, sizes and answers over HTTP"] += 1
        return
    digest = subject.folder.entries[filed.file].sha256
    for index in range(len(finding.observations)):
        rank = hmac.digest(nonce.encode(), f"{digest}/{index}".encode(), "sha256")
        yield Position(subject, filed, finding, filed.falsifier, index, rank)


def _redrawn(
    subject: Subject, filed: Filed, finding: Finding, target: Target
) -> tuple[Objection, ...] | None:
    """Draw planned cases again; None where there are none to draw."""
    assert filed.falsifier is not None
    kind = _kind(finding, filed.falsifier)
    if not isinstance(kind, Planned):
        return None
    seed = derive_seed(finding.seed, finding.falsifier, "attack")
    planned = _plain(kind.plan(target, size_of(kind, filed.falsifier.bound), seed))
    file = f"{subject.folder.path}/{filed.file}"
    return tuple(
        Objection(_PLAN, Severity.ERROR, file, f"/observations/{index}/case{at}", short(said), short(drawn))
        for index, (each, case) in enumerate(zip(finding.observations, planned, strict=False))
        for at, said, drawn in _differences(_plain(each.case), case, None)
    )


def _again(position: Position, target: Target) -> Iterator[Objection]:
    """Ask the engine for one case again."""
    finding, stored = position.finding, position.finding.observations[position.index]
    kind = _kind(finding, position.falsifier)
    at = f"/observations/{position.index}/samples"
    try:
        samples = _plain(kind.observe(target, stored.case).samples)
    except Exception as error:  # noqa: BLE001 (a case that was made up breaks an engine in any way it likes)
        told = f"{type(error).__name__}: {error}"
        yield Objection(_RULE, Severity.ERROR, position.file, at, "a case with samples", short(told))
        return
    within = None if _bitwise(finding, target) else _tolerance(position.falsifier)
    # Some samples name the build that gave them.
    build = str(finding.target["engine_digest"]), target.identity.engine_digest
    told_then = json.loads(json.dumps(stored.samples).replace(*build)) if build[0] else _plain(stored.samples)
    for pointer, said, now in _differences(told_then, samples, within):
        yield Objection(
            _RULE, Severity.ERROR, position.file, at + pointer, short(said), f"{short(now)}, computed again"
        )


def _differences(
    stored: Any, now: Any, within: float | None, margins: Sequence[float] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Where two samples differ. within: by how much numbers may; None is not at all.

    margins: of a list of tokens, by how much each won; where it is less than `within`, another may win.
    """
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for key in sorted({*stored, *now}):
            if key.endswith("_ns"):
                continue
            names = (f"{key}_margins", "margins", "full_margins")
            close = next((now[name] for name in names if name in now), ())
            for pointer, said, given in _differences(stored.get(key), now.get(key), within, close):
                yield f"/{key}{pointer}", said, given
    elif isinstance(stored, list) and isinstance(now, list):
        for index in range(max(len(stored), len(now))):
            said, given = (each[index] if index < len(each) else None for each in (stored, now))
            differences = list(_differences(said, given, within))
            if differences and within is not None and index < len(margins) and margins[index] <= 2 * within:
                return  # a tie: what comes after it follows from another token
            for pointer, *values in differences:
                yield f"/{index}{pointer}", values[0], values[1]
            if differences and isinstance(said, int):
                return  # the first one says it
    elif not _same(stored, now, within):
        yield "", stored, now


def _same(stored: Any, now: Any, within: float | None) -> bool:
    if within is not None and isinstance(stored, float) and isinstance(now, float | int):
        return abs(stored - now) <= max(within, 1e-3 * abs(stored))
    return type(stored) is type(now) and bool(stored == now)


def _bitwise(finding: Finding, target: Target) -> bool:
    """Whether the same bits were promised, then and now, by the same code."""
    promised = "bitwise" in finding.target["capabilities"] and "bitwise" in target.capabilities
    return promised and finding.target["engine_digest"] == target.identity.engine_digest


def _tolerance(falsifier: Falsifier) -> float:
    """How far a logit may be off, as the claim states it."""
    stated = [
        float(found[1]) for found in map(_LOGIT.fullmatch, map(str, falsifier.parameters.values())) if found
    ]
    bound = falsifier.bound
    if bound.unit == "logit":
        stated += [limit for limit in (bound.below, bound.within) if limit is not None]
    return max(stated, default=_TOLERANCE)


def backend_of(finding: Finding) -> str:
    """The runtime's backend that a finding was made on."""
    return str(finding.target["settings"].get("backend", "array"))


def _kind(finding: Finding, falsifier: Falsifier) -> Kind[Any]:
    try:
        return kind_named(finding.kind).of(falsifier.parameters)
    except UnknownKind:  # findings of such kinds are not judged again, and so not chosen
        raise AssertionError from None


def _plain(value: Any) -> Any:
    """As it is read from a record."""
    return json.loads(json.dumps(value))

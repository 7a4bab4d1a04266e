"""All that is known of one claim: what it says, how it stands, every attempt on it, figures of the newest."""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from refute.attempts import Attempt, Attempts, Key, Present, read_attempts
from refute.contract import Bound, Contract, Falsifier, declared
from refute.finding import Finding
from refute.kinds import kind_named
from refute.kinds.base import Drawn
from refute.marked_yaml import did_you_mean
from refute.policy import Policy, no_policy
from refute.rejudge import Kinds
from refute.status import Claim, overview
from refute.strict_json import StrictJsonError, load_strict
from refute.verdict import Level, Status, Verdict

SCHEMA = "urn:refute:schema:claim:1"


class UnknownClaim(Exception):  # noqa: N818 (an answer to a person)
    """No claim has that name, or several do; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt. verdict: under today's contract; recorded: as it was recorded.

    stale, flag, invalidated, tampered: what keeps it from counting, or has to be seen; empty if nothing does.
    replay: the command that runs its counterexample again; empty where it has none.
    """

    run: str
    started: str
    verdict: Verdict
    recorded: Verdict
    figure: str
    reason: str
    level: Level
    testbed: str
    engine: str
    build: str
    model: str
    path: str
    stale: str
    flag: str
    invalidated: str
    tampered: str
    replay: str

    @property
    def refutes(self) -> bool:
        """Whether the claim stays falsified as long as this attempt counts."""
        return self.verdict is Verdict.FALSIFIED and not (self.stale or self.invalidated or self.tampered)


@dataclass(frozen=True, slots=True)
class Detail:
    """One claim. needs: with their statuses. drawn, drawn_run: figures of the newest attempt that has any."""

    claim: Claim
    version: str
    kind: str
    bound: Bound
    must_catch: tuple[str, ...]
    needs: tuple[tuple[str, Status | None], ...]
    tried: tuple[Tried, ...]
    drawn: Drawn | None
    drawn_run: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}


def claim_named(contracts: Sequence[Contract], name: str) -> Key:
    """Find a claim by CONTRACT/FALSIFIER, alias (in any case) or falsifier. Raises `UnknownClaim`."""
    keys = {key: falsifier for key, (_, falsifier) in declared(contracts).items()}
    for key, falsifier in keys.items():
        if name == "/".join(key) or name.casefold() == (falsifier.alias or "").casefold():
            return key
    found = [key for key in keys if key[1] == name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join("/".join(key) for key in found)
        raise UnknownClaim(f"{name} is a falsifier of several contracts: {names}")
    whole = ["/".join(key) for key in keys]
    aliases = [each.alias for each in keys.values() if each.alias is not None]
    ids = (contract.id for contract in contracts)
    near = did_you_mean(name, [*whole, *aliases, *(key[1] for key in keys), *ids])
    told = near or "refute status lists them all"
    raise UnknownClaim(f"{name}: no such claim, file or folder; {told}")


def details(
    contracts: Sequence[Contract],
    trees: Iterable[Path],
    keys: Iterable[Key],
    *,
    present: Present | None = None,
    kinds: Kinds = kind_named,
    policy: Policy | None = None,
    now: datetime | None = None,
) -> list[Detail]:
    """Gather what is known of claims that the contracts declare; every record is read once."""
    policy = policy or no_policy()
    present = present or Present.here()
    attempts = read_attempts(contracts, trees, present=present, kinds=kinds, samples=False)
    statuses = {claim.name: claim for claim in overview(contracts, attempts, policy=policy, now=now).claims}
    known = declared(contracts)
    return [_detail(key, known[key], attempts, statuses, kinds=kinds, policy=policy) for key in keys]


def _detail(
    key: Key,
    known: tuple[Contract, Falsifier],
    attempts: Attempts,
    statuses: Mapping[str, Claim],
    *,
    kinds: Kinds,
    policy: Policy,
) -> Detail:
    contract, falsifier = known
    drawn, run = _drawn(attempts.of.get(key, ()), falsifier, kinds)
    needs = ((need, statuses[need].status if need in statuses else None) for need in falsifier.needs)
    return Detail(
        statuses["/".join(key)],
        contract.version,
        falsifier.kind,
        falsifier.bound,
        tuple(map(str, falsifier.must_catch)),
        tuple(needs),
        tuple(_tried(attempts, key, policy)),
        drawn,
        run,
    )


def _tried(attempts: Attempts, key: Key, policy: Policy) -> Iterable[Tried]:
    for each in attempts.of.get(key, ()):
        invalidation = policy.invalidation("/".join(key), each.run, each.finding.run)
        yield Tried(
            run=each.run,
            started=each.finding.started,
            verdict=each.verdict,
            recorded=each.finding.verdict,
            figure=each.carried.figure,
            reason=each.carried.reason,
            level=each.level,
            testbed=each.testbed,
            engine=each.engine,
            build=each.build,
            model=each.model,
            path=str(each.path / f"{key[1]}.json"),
            stale=each.stale,
            flag=each.carried.flag,
            invalidated="" if invalidation is None else str(invalidation),
            tampered=str(each.discrepancies[0]) if each.discrepancies else "",
            replay=_replay(each, key[1]),
        )


def _replay(attempt: Attempt, falsifier: str) -> str:
    if attempt.finding.counterexample is None:
        return ""
    return shlex.join(["refute", "replay", str(attempt.path / f"{falsifier}.json")])


def _drawn(attempts: Sequence[Attempt], falsifier: Falsifier, kinds: Kinds) -> tuple[Drawn | None, str]:
    """The figures of the newest honest attempt of the same kind that has some, and its run."""
    for attempt in reversed(attempts):
        finding = attempt.finding
        if attempt.discrepancies or finding.judgement is None or finding.kind != falsifier.kind:
            continue
        try:
            kind = kinds(finding.kind).of(finding.parameters)
            whole = Finding.from_json(load_strict((attempt.path / f"{falsifier.id}.json").read_bytes()))
            drawn = kind.drawn(whole.judged, finding.judgement)
        except (KeyError, OSError, StrictJsonError):  # a kind that is not here; a file that is gone by now
            continue
        if drawn is not None:
            return drawn, attempt.run
    return None, ""

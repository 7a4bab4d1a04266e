"""What `refute run --profile` attacks: what a gate profile lacks and this target can give.

The gate decides on all records; here each claim is either planned, or left out for a reason that is shown.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.attempts import Present, level_of, model_key
from refute.contract import declared
from refute.estimate import Estimate
from refute.rows import is_testbed
from refute.verdict import Level, Status, Verdict

if TYPE_CHECKING:
    from _pytest.mark.expression import Expression

    from refute.contract import Contract, Falsifier
    from refute.counting import Counting
    from refute.gate import Decision
    from refute.policy import Profile
    from refute.rows import Row
    from refute.status import Claim

SCHEMA = "urn:refute:schema:plan:1"
Estimator = Callable[["Claim", "Falsifier"], Estimate]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is going to be attacked: as findings name it, and where."""

    target: Mapping[str, Any]
    testbed: str

    @property
    def engine(self) -> str:
        """The engine's name."""
        return str(self.target.get("engine", ""))

    @property
    def model(self) -> str:
        """The model's digest; its name where there is no file."""
        return model_key(self.target)


@dataclass(frozen=True, slots=True)
class Planned:
    """One falsifier that is going to be attacked. path: of its contract. level: of the evidence."""

    contract: str
    falsifier: str
    path: Path
    level: Level
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One that is not, and why."""

    contract: str
    falsifier: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run attacks, in the order of the contracts, and what it does not."""

    profile: "Profile"
    subject: Subject
    planned: tuple[Planned, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def seconds(self) -> float | None:
        """All estimates together; None where one is missing."""
        each = [planned.estimate.seconds for planned in self.planned]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None

    @property
    def least(self) -> bool:
        """Whether it may well take several times as long."""
        return any(planned.estimate.least for planned in self.planned)

    @property
    def chosen(self) -> list[tuple[Path, str]]:
        """The planned falsifiers, with the files of their contracts."""
        return [(planned.path, planned.falsifier) for planned in self.planned]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        planned = [
            {**asdict(each), "path": str(each.path), "level": each.level.value} for each in self.planned
        ]
        return {
            "schema": SCHEMA,
            "profile": self.profile,
            "target": dict(self.subject.target),
            "testbed": self.subject.testbed,
            "seconds": self.seconds,
            "least": self.least,
            "planned": planned,
            "left_out": [asdict(each) for each in self.left_out],
        }


def plan(
    decision: "Decision",
    contracts: Sequence["Contract"],
    subject: Subject,
    *,
    counting: "Counting",
    present: Present,
    estimate: Estimator,
    wanted: Callable[["Contract", "Falsifier"], bool] = lambda *_: True,
) -> Plan:
    """Choose among all claims. counting: what the gate counts. wanted: the -k of the user."""
    known = declared(contracts)
    planned, left_out = [], []
    for ruling in decision.rulings:
        claim = ruling.claim
        contract, falsifier = known[claim.contract, claim.falsifier]
        level = level_of(subject.target, contract, present)
        reason = "not chosen" if not wanted(contract, falsifier) else ""
        reason = reason or _elsewhere(claim, level, decision.profile)
        if not reason:
            here = [row for row in claim.rows if (row.engine, row.model) == (subject.engine, subject.model)]
            reason = _settled(claim, here) or _held(here, subject.testbed, counting)
        if not reason and ruling.outcome == "waived":
            reason = "waived"
        if reason:
            left_out.append(LeftOut(claim.contract, claim.falsifier, reason))
        else:
            made = Planned(claim.contract, claim.falsifier, contract.path, level, estimate(claim, falsifier))
            planned.append(made)
    return Plan(decision.profile, subject, tuple(planned), tuple(left_out))


def matches(expression: str) -> Callable[["Contract", "Falsifier"], bool]:
    """Read a -k as pytest does. Raises ValueError with a sentence."""
    compiled = _compiled("-k", expression)

    def match(contract: "Contract", falsifier: "Falsifier") -> bool:
        names = _names(contract, falsifier)

        def named(name: str, /, **_: object) -> bool:
            return any(name.lower() in each.lower() for each in names)

        return bool(compiled.evaluate(named))

    return match


def selects(keyword: str | None, markers: str | None) -> Callable[["Contract", "Falsifier"], bool]:
    """Read a -k and a -m as pytest does; None selects all. Raises ValueError with a sentence.

    Of markers it knows the one that every falsifier has: where -m names another, it selects none for sure.
    """
    named = (lambda *_: True) if keyword is None else matches(keyword)
    compiled = None if markers is None else _compiled("-m", markers)

    def select(contract: "Contract", falsifier: "Falsifier") -> bool:
        said = {"kind": falsifier.kind, "contract": contract.id, "alias": falsifier.alias}
        others: list[str] = []

        def marked(name: str, /, **wanted: object) -> bool:
            others.extend([name] if name != "falsifier" else [])
            return all(key in said and said[key] == value for key, value in wanted.items())

        chosen = compiled is None or compiled.evaluate(marked)
        return named(contract, falsifier) and bool(chosen) and not others

    return select


def _compiled(option: str, expression: str) -> "Expression":
    # pytest has no public name for it; the alternative is another meaning of -k.
    from _pytest.mark.expression import Expression  # noqa: PLC0415 (start-up time)

    try:
        return Expression.compile(expression)
    except Exception as error:  # noqa: BLE001 (a syntax error, under a class that changed its name)
        told = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f"{option} {expression}: {told}") from None


def _names(contract: "Contract", falsifier: "Falsifier") -> Collection[str]:
    """What pytest compares with -k: the file, the falsifier, its alias and its kind."""
    return [contract.path.name, falsifier.id, falsifier.kind, *filter(None, [falsifier.alias])]


def _elsewhere(claim: "Claim", level: Level, profile: "Profile") -> str:
    """Why evidence of this level is not what the profile lacks of this claim."""
    if level is Level.FULL_MODEL and (profile == "pr" or claim.discharge is Level.EMBEDDED):
        return "wants evidence on the embedded model"
    return ""


def _settled(claim: "Claim", rows: Sequence["Row"]) -> str:
    """Why another attack would change nothing."""
    if claim.unwaived is Status.TAMPERED:
        return "tampered: its records have to be looked at first"
    refuted = next((row for row in rows if row.status is Status.FALSIFIED), None)
    return "" if refuted is None else f"falsified on this engine and model: {refuted.reason}"


def _held(rows: Sequence["Row"], testbed: str, counting: "Counting") -> str:
    """Why another attack gives the gate nothing: it holds here already, on the testbed that counts."""
    # A floor is of a host, and a policy may name hosts: then only evidence from this one counts.
    named = any(is_testbed(each, testbed) for each in counting.wants.testbeds.values())
    for row in rows:
        if row.status is Status.STALE or (named and row.testbed != testbed):
            continue
        if row.verdict is Verdict.NOT_APPLICABLE:
            return "does not apply, as was found already"
        if row.verdict is not Verdict.SURVIVED:
            continue
        refusal = counting.refuses(row)
        if refusal is None:
            return f"survived already, in run {row.run}"
        if refusal.command:
            return f"survived already; {refusal.reason}: {refusal.command}"
    return ""

"""What one falsifier found in one run: the record's unit, as plain data that survives a JSON round trip.

Everything that `judge` needs is in here, so that the verdict can be derived again from the file alone
(with the contract that lies beside it).
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from refute.kinds.base import Observation
from refute.verdict import Judgement, Outcome, Verdict

SCHEMA = "urn:refute:schema:finding:1"
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9a-f]{8}")  # of `record.new_run_id`


@dataclass(frozen=True, slots=True)
class FaultTrial:
    """One fault at one dose, planted and attacked. must: the contract names it; else a smaller dose.

    planted: `target`, or `stand-in` where the target has no seam for it.
    """

    name: str
    dose: float
    unit: str
    planted: str
    must: bool
    caught: bool
    reason: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """The known-good fake, attacked by the same falsifier; it must come out green."""

    target: str
    green: bool
    judgement: Judgement
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The smallest dose of one fault that was caught (None: not even the largest)."""

    fault: str
    unit: str
    smallest_caught: float | None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting three times: asked for, said by the engine before it was attacked, reported after.

    None: left open, or not known.
    """

    name: str
    requested: str | int | None
    effective: str | int | None
    observed: str | int | None


@dataclass(frozen=True, slots=True)
class Probe:
    """How steady the host was, raw; `refute.noise` says what it means.

    kernel_ns: times of one small piece of work, in order. cpu_ns: for how much of each it had a processor.
    late_ns: how much later than asked for each short
    sleep ended. ticks: of the host's processors meanwhile (`all`), and those that another guest had
    (`stolen`); None where the system does not tell.
    """

    kernel_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    late_ns: tuple[int, ...]
    ticks: Mapping[str, int] | None


@dataclass(frozen=True, slots=True)
class Noise:
    """The host of a claim about time: just before it was attacked, and between its cases."""

    before: Probe
    during: Probe


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one falsifier with all that it rests on.

    noise: of claims about time only.
    kind_origin: distribution, version and code digest of a kind that is not built in.
    replays: whether the counterexample refuted again when it was run once more; None without one.
    """

    run: str
    contract: str
    contract_version: str
    contract_semantic_sha256: str
    falsifier: str
    alias: str | None
    claim: str
    kind: str
    rule_version: str
    verdict: Verdict
    reason: str
    figure: str
    bound: Mapping[str, Any]
    parameters: Mapping[str, Any]
    seed: int
    target: Mapping[str, Any]
    settings: tuple[Setting, ...] = ()
    noise: Noise | None = None
    observations: tuple[Observation, ...] = ()
    counterexample: Observation | None = None
    replays: bool | None = None
    judgement: Judgement | None = None
    control: Control | None = None
    faults: tuple[FaultTrial, ...] = ()
    sensitivity: tuple[Sensitivity, ...] = ()
    counters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    started: str = ""
    ended: str = ""
    seconds: float = 0.0
    kind_origin: Mapping[str, Any] | None = None

    @property
    def judged(self) -> tuple[Observation, ...]:
        """What the verdict is judged from: all observations, and the shrunk counterexample."""
        return self.observations if self.counterexample is None else (*self.observations, self.counterexample)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json(to_json())` is the same finding. Cases and samples are not copied."""
        return {"schema": SCHEMA, **_plain(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Finding":
        """Read plain data that has passed the schema; unknown or missing keys raise TypeError."""
        fields = dict(data)
        if fields.pop("schema") != SCHEMA:
            raise ValueError(f"schema {data['schema']!r}, expected {SCHEMA!r}")
        odd = fields.keys() ^ cls.__slots__
        if odd:  # also those that a new finding need not give
            raise TypeError(f"{', '.join(sorted(odd))}: unknown, or missing")
        fields["verdict"] = Verdict(fields["verdict"])
        fields["settings"] = tuple(Setting(**entry) for entry in fields["settings"])
        if fields["noise"] is not None:
            fields["noise"] = Noise(**{when: _probe(probe) for when, probe in fields["noise"].items()})
        fields["observations"] = _observations(fields["observations"])
        fields["faults"] = tuple(
            FaultTrial(**{**trial, "observations": _observations(trial["observations"])})
            for trial in fields["faults"]
        )
        fields["sensitivity"] = tuple(Sensitivity(**entry) for entry in fields["sensitivity"])
        if fields["counterexample"] is not None:
            fields["counterexample"] = Observation(**fields["counterexample"])
        if fields["judgement"] is not None:
            fields["judgement"] = _judgement(fields["judgement"])
        if fields["control"] is not None:
            control = dict(fields["control"])
            control["judgement"] = _judgement(control["judgement"])
            control["observations"] = _observations(control["observations"])
            fields["control"] = Control(**control)
        return cls(**fields)


def demanded(trials: Iterable[FaultTrial]) -> list[FaultTrial]:
    """Return the trials of faults that the contract names, without the smaller doses."""
    return [trial for trial in trials if trial.must]


def missed(trials: Iterable[FaultTrial]) -> list[FaultTrial]:
    """Return the faults that had to be caught and were not."""
    return [trial for trial in demanded(trials) if not trial.caught]


def without_samples(finding: Finding, like: Finding | None = None) -> Finding:
    """Return what is left of a finding once it was judged: all but its observations and probes of the host.

    like: one of the same falsifier, whose equal parts are taken, so that thousands of findings share them.
    """
    control = finding.control and dataclasses.replace(finding.control, observations=())
    faults = tuple(dataclasses.replace(trial, observations=()) for trial in finding.faults)
    target, settings = finding.target, finding.settings
    if like is not None:
        target = like.target if like.target == target else target
        settings = like.settings if like.settings == settings else settings
    return dataclasses.replace(
        finding,
        observations=(),
        noise=None,
        control=control,
        faults=faults,
        target=target,
        settings=settings,
    )


def timestamp() -> str:
    """Return now in RFC 3339, UTC, to the millisecond, as records hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    """Dataclasses as mappings, also in tuples; what else a finding holds is plain already."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value


def _observations(entries: list[Mapping[str, Any]]) -> tuple[Observation, ...]:
    return tuple([Observation(**entry) for entry in entries])  # a list: there are hundreds in a record


def _probe(entry: Mapping[str, Any]) -> Probe:
    kernel, cpu, late = (tuple(entry[key]) for key in ("kernel_ns", "cpu_ns", "late_ns"))
    return Probe(kernel, cpu, late, entry["ticks"])


def _judgement(entry: Mapping[str, Any]) -> Judgement:
    return Judgement(**{**entry, "outcome": Outcome(entry["outcome"])})

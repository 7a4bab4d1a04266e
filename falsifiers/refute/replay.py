"""Run a recorded counterexample again: the finding's own file is all that is needed, beside a target."""

from dataclasses import dataclass
from pathlib import Path

from refute.finding import Finding
from refute.kinds import UnknownKind, kind_named
from refute.kinds.base import Observation, Searched
from refute.strict_json import StrictJsonError, load_strict
from refute.targets.base import Target


@dataclass(frozen=True, slots=True)
class Replay:
    """What the recorded case gave this time. same_model: whether it is the model of the record."""

    finding: Finding
    observation: Observation
    refuted: bool
    same_model: bool


class CannotReplay(Exception):  # noqa: N818 (it is an answer about a file)
    """The file holds no counterexample; the message says what it holds."""


def load_counterexample(path: Path) -> Finding:
    """Read a finding that holds a counterexample. Raises `CannotReplay` with a sentence."""
    from refute.reader import schema_faults  # noqa: PLC0415 (the schema validator is slow to import)

    try:
        data = load_strict(path.read_bytes())
    except (OSError, StrictJsonError) as error:
        raise CannotReplay(f"{path}: {error}") from None
    if not isinstance(data, dict) or next(schema_faults(data, "finding"), None) is not None:
        expected = "evidence/CONTRACT/RUN/FALSIFIER.json"
        raise CannotReplay(f"{path}: not a finding; expected a file such as {expected}")
    finding = Finding.from_json(data)
    if finding.counterexample is None:
        raise CannotReplay(f"{path}: a finding without a counterexample (verdict {finding.verdict})")
    return finding


def replay(finding: Finding, target: Target) -> Replay:
    """Run the counterexample once. Raises `CannotReplay` where the kind is gone."""
    assert finding.counterexample is not None
    try:
        kind_type = kind_named(finding.kind)
    except UnknownKind as why:
        raise CannotReplay(str(why)) from None
    kind = kind_type.of(finding.parameters)
    if not isinstance(kind, Searched):
        raise CannotReplay(f"kind {finding.kind!r} measures; only counterexamples replay")
    observation = kind.observe(target, finding.counterexample.case)
    same = finding.target.get("model_sha256") == target.identity.model_sha256
    return Replay(finding, observation, kind.refutes(observation), same)

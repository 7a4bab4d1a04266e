"""Run a recorded counterexample again: its own file, or its finding's, is all that it takes."""

from dataclasses import dataclass
from pathlib import Path

from refute.counterexample import SCHEMA, Counterexample
from refute.finding import Finding
from refute.kinds import UnknownKind, kind_named
from refute.kinds.base import Observation, Searched
from refute.strict_json import StrictJsonError, load_strict
from refute.targets.base import Target


@dataclass(frozen=True, slots=True)
class Replay:
    """What the recorded case gave this time. same_model: whether it is the model of the record."""

    observation: Observation
    refuted: bool
    same_model: bool


class CannotReplay(Exception):  # noqa: N818 (it is an answer about a file)
    """The file holds no counterexample; the message says what it holds."""


def load_counterexample(path: Path) -> Counterexample:
    """Read a counterexample, or a finding that holds one. Raises `CannotReplay` with a sentence."""
    from refute.reader import schema_faults  # noqa: PLC0415 (the schema validator is slow to import)

    try:
        data = load_strict(path.read_bytes())
    except OSError as error:
        raise CannotReplay(f"{path}: {error.strerror or error}") from None
    except StrictJsonError as error:
        raise CannotReplay(f"{path}: {error}") from None
    if isinstance(data, dict) and data.get("schema") == SCHEMA:
        try:
            return Counterexample.read(data)
        except ValueError as error:
            raise CannotReplay(f"{path}#{error}") from None
    if not isinstance(data, dict) or next(schema_faults(data, "finding"), None) is not None:
        expected = "evidence/CONTRACT/RUN/FALSIFIER.counterexample.json or FALSIFIER.json"
        raise CannotReplay(f"{path}: neither a counterexample nor a finding; expected {expected}")
    finding = Finding.from_json(data)
    found = Counterexample.of(finding)
    if found is None:
        raise CannotReplay(f"{path}: a finding without a counterexample (verdict {finding.verdict})")
    return found


def replay(known: Counterexample, target: Target) -> Replay:
    """Run the case once. Raises `CannotReplay` where its kind is gone, or cannot run it any more."""
    try:
        kind_type = kind_named(known.kind)
    except UnknownKind as why:
        raise CannotReplay(str(why)) from None
    try:
        kind = kind_type.of(known.parameters)
    except (TypeError, ValueError) as error:
        raise CannotReplay(f"parameters that kind {known.kind!r} does not take: {error}") from None
    if not isinstance(kind, Searched):
        raise CannotReplay(f"kind {known.kind!r} measures; only counterexamples replay")
    try:
        observation = kind.observe(target, known.case)
    except (KeyError, TypeError, ValueError) as error:
        raise CannotReplay(
            f"a case that kind {known.kind!r} cannot run: {type(error).__name__}: {error}"
        ) from None
    here = target.identity
    same = known.model_sha256 == here.model_sha256
    if known.model_sha256 is None:  # nobody knows the file, and all there is to compare is the name
        same &= known.model_name == here.model_name
    return Replay(observation, kind.refutes(observation), same)

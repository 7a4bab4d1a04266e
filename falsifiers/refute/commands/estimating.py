"""What a target is and how fast, asked before a plan is made of it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.contract import Falsifier
    from refute.estimate import Estimate, Known, Pace
    from refute.rows import Row
    from refute.select import Selection
    from refute.status import Claim


class Estimates:
    """Opens the target once, times it, and estimates attacks on it. Raises `Refused` where it cannot.

    claims: with their records, of which each says something of all.
    """

    def __init__(
        self, selection: "Selection", claims: "Sequence[tuple[Claim, Falsifier]]", console: "Console"
    ) -> None:
        from refute import noise
        from refute.estimate import Ground, pace_of, went
        from refute.host import facts, testbed
        from refute.plan import Subject
        from refute.provenance import model_sha256
        from refute.recordable import identity_as_data
        from refute.report.progress import hashing
        from refute.targets.base import TargetError

        try:
            if selection.model is not None:
                with hashing(console) as progress:
                    digest = model_sha256(selection.model, progress=progress)
                console.print(f"model {selection.model.name}, sha256 {digest}", soft_wrap=True)
            with console.status("timing the target") if console.is_terminal else nullcontext():
                target = selection.open()
                pace = pace_of(target)
        except TargetError as error:
            raise Refused(Exit.MISSING, f"refute: {error}") from None
        except OSError as error:
            raise Refused(
                Exit.MISSING, f"refute: {selection.model}: cannot be read ({error.strerror})"
            ) from None
        self.subject: Subject = Subject(identity_as_data(target), testbed(facts()))
        ground = Ground(
            self.subject.engine,
            self.subject.model,
            self.subject.testbed,
            self.subject.target["capabilities"],
            pace,
            self._embedded(selection) if pace is not None else {},
            noise.crowding(noise.before()),
        )
        self._known = {claim.name: _known(claim) for claim, _ in claims}
        records = ((falsifier, self._known[claim.name]) for claim, falsifier in claims)
        self._ground: Ground = replace(ground, went=went(records, ground))

    def __call__(self, claim: "Claim", falsifier: "Falsifier") -> "Estimate":
        """Estimate the attack on one claim."""
        from refute.estimate import estimate

        return estimate(falsifier, self._known[claim.name], self._ground)

    def _embedded(self, selection: "Selection") -> "Mapping[str, Pace]":
        """The pace of the embedded model on the same engine: records on it are what most have."""
        from refute.estimate import pace_of
        from refute.select import embedded_model
        from refute.targets.base import TargetError

        model = embedded_model()
        if selection.engine != "bundled" or selection.model is None or selection.model.samefile(model):
            return {}
        try:
            target = replace(selection, model=model).open()
            pace = pace_of(target)
        except TargetError:
            return {}
        return {} if pace is None else {str(target.identity.model_sha256): pace}


def _known(claim: "Claim") -> "list[Known]":
    from refute.estimate import known_from

    return known_from(claim.rows, lambda row: _taken(row, claim.falsifier))


def _taken(row: "Row", falsifier: str) -> tuple[float, float] | None:
    """How long the attack took that gives a row its status, and how crowded the host was.

    None where its file does not say how long.
    """
    from refute.finding import Finding
    from refute.noise import crowding
    from refute.strict_json import StrictJsonError, load_strict

    try:
        finding = Finding.from_json(load_strict((Path(row.path) / f"{falsifier}.json").read_bytes()))
    except (OSError, StrictJsonError, KeyError, TypeError, ValueError):
        return None
    return finding.seconds, 1.0 if finding.noise is None else crowding(finding.noise.during)

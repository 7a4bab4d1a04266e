"""What a target is and how fast, asked before a plan is made of it."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from refute.commands.shared import Refused
from refute.verdict import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from refute.contract import Falsifier
    from refute.estimate import Estimate, Pace
    from refute.rows import Row
    from refute.select import Selection
    from refute.status import Claim


class Estimates:
    """Opens the target once, times it, and estimates attacks on it. Raises `Refused` where it cannot."""

    def __init__(self, selection: "Selection", console: "Console") -> None:
        from refute.estimate import pace_of
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
                self._pace = pace_of(target)
        except TargetError as error:
            raise Refused(Exit.MISSING, f"refute: {error}") from None
        except OSError as error:
            raise Refused(
                Exit.MISSING, f"refute: {selection.model}: cannot be read ({error.strerror})"
            ) from None
        self.subject: Subject = Subject(identity_as_data(target), testbed(facts()))
        self._others: Mapping[str, Pace] = self._embedded(selection) if self._pace is not None else {}

    def __call__(self, claim: "Claim", falsifier: "Falsifier") -> "Estimate":
        """Estimate the attack on one claim."""
        from refute.estimate import estimate, known_from

        return estimate(
            falsifier,
            known_from(claim.rows, lambda row: _seconds_of(row, falsifier.id)),
            engine=self.subject.engine,
            model=self.subject.model,
            testbed=self.subject.testbed,
            capabilities=self.subject.target["capabilities"],
            pace=self._pace,
            others=self._others,
        )

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


def _seconds_of(row: "Row", falsifier: str) -> float | None:
    """How long the attack took that gives a row its status; None where its file does not say."""
    try:
        taken = json.loads((Path(row.path) / f"{falsifier}.json").read_bytes())["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(taken) if isinstance(taken, int | float) else None

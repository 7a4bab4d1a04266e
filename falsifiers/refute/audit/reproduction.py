"""Repeat a claim here: the newest record of it, attacked again with its contract and seed, and compared."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from refute.attack import attack
from refute.audit.subject import Filed, Subject
from refute.finding import Finding
from refute.record import new_run_id
from refute.recordable import Requested
from refute.targets.base import Target
from refute.trials import Controls, Stage
from refute.verdict import Exit


class CannotReproduce(Exception):  # noqa: N818 (it is an answer about records)
    """There is nothing to repeat; the message says why."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One claim, then and now. figure: point estimates, where the claim is measured; else None.

    difference: of the two, as a share of the recorded one. differs: why it was not reproduced; else empty.
    """

    file: str
    claim: str
    recorded: str
    now: str
    recorded_figure: float | None
    figure: float | None
    unit: str | None
    difference: float | None
    differs: str

    @property
    def code(self) -> Exit:
        """4 where it was not reproduced."""
        return Exit.INVALID if self.differs else Exit.OK

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**dataclasses.asdict(self), "exit_code": int(self.code)}


def newest(subjects: Sequence[Subject], claim: str, model_sha256: str) -> tuple[Subject, Filed, Finding]:
    """The newest judged finding of a claim on a model. Raises `CannotReproduce`.

    claim: CONTRACT/FALSIFIER, a falsifier or an alias.
    """
    found = [
        (subject, filed, finding)
        for subject in subjects
        for filed, finding in subject.findings
        if claim in (f"{finding.contract}/{finding.falsifier}", finding.falsifier, finding.alias)
    ]
    if not found:
        raise CannotReproduce(f"{claim}: no record of it is here; expected CONTRACT/FALSIFIER of one that is")
    judged = [entry for entry in found if entry[2].judgement is not None and entry[1].falsifier is not None]
    if not judged:
        raise CannotReproduce(f"{claim}: {found[-1][2].verdict} in every record, so nothing was measured")
    same = [entry for entry in judged if entry[2].target.get("model_sha256") == model_sha256]
    if not same:
        named = judged[-1][2].target["model_name"]
        digest = str(judged[-1][2].target["model_sha256"])[:12]
        raise CannotReproduce(
            f"{claim}: its records are of {named} ({digest}), not of the model that is given"
        )
    return max(same, key=lambda entry: entry[2].run)


def reproduce(
    entry: tuple[Subject, Filed, Finding],
    target: Target,
    controls: Controls,
    *,
    margin: float,
    report: Callable[[Stage], None] = lambda _: None,
) -> Reproduction:
    """Attack again and compare. margin: by which share figures may differ."""
    subject, filed, before = entry
    assert subject.contract is not None
    assert subject.summary is not None
    assert filed.falsifier is not None
    now = attack(
        filed.falsifier,
        target,
        contract=subject.contract,
        run=new_run_id(),
        seed=before.seed,
        controls=controls,
        requested=Requested(**{**subject.summary["requested"], "model": None}),
        report=report,
    )
    figures = [None if each.judgement is None else each.judgement.point for each in (before, now)]
    then, figure = figures
    difference = None
    if then and figure is not None:
        difference = (figure - then) / then
    differs = ""
    if now.verdict != before.verdict:
        differs = f"{now.verdict} here: {now.reason}"
    elif difference is not None and abs(difference) > margin:
        differs = f"{difference:+.1%}, expected at most {margin:.1%}"
    assert before.judgement is not None
    return Reproduction(
        file=f"{subject.folder.path}/{filed.file}",
        claim=f"{before.contract}/{before.falsifier}",
        recorded=str(before.verdict),
        now=str(now.verdict),
        recorded_figure=then,
        figure=figure,
        unit=before.judgement.unit,
        difference=difference,
        differs=differs,
    )

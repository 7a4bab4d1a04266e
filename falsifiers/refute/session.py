"""One pytest session on the side that attacks: the target, opened at the first falsifier, and its attacks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.finding import Finding, missed
from refute.select import Selection, embedded_model
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.attack import Stage
    from refute.contract import Contract, Falsifier
    from refute.faults.base import Fault
    from refute.targets.base import Target


@dataclass(slots=True)
class Attacker:
    """Attacks falsifiers on one target, which is opened when the first of them needs it.

    shared: processes that may attack while a claim about time is measured. report: told where the attack
    on a contract is. every_fault: with faults_only, plant also those that nobody has to catch.
    """

    selection: Selection
    run: str
    seed: int
    shared: int
    evidence: Path | None
    faults_only: bool
    every_fault: bool
    report: Callable[[str, "Stage"], None]
    _target: "Target | None" = field(default=None, init=False)
    _missing: str | None = field(default=None, init=False)

    def attack(self, contract: "Contract", falsifier: "Falsifier") -> tuple[Finding, Exception | None]:
        """Return the finding, and the exception behind it where the falsifier itself broke."""
        # Kinds need numpy, and pytest loads this module at start-up.
        from refute.attack import Controls, attack, identity_as_data, unattacked  # noqa: PLC0415
        from refute.kinds import kind_named  # noqa: PLC0415
        from refute.targets.fake import FakeTarget  # noqa: PLC0415

        common: dict[str, Any] = {"contract": contract, "run": self.run, "seed": self.seed}
        target = self._open()
        if target is None:
            reason = self._missing or ""
            return unattacked(falsifier, Verdict.BLOCKED, reason, target={}, **common), None
        if self.shared > 1 and kind_named(falsifier.kind).timing:
            reason = f"timing needs the host alone, but {self.shared} workers share it: run with --dist=load"
            identity = identity_as_data(target)
            return unattacked(falsifier, Verdict.INCONCLUSIVE, reason, target=identity, **common), None
        from refute.counterexample import known_cases  # noqa: PLC0415 (start-up time)

        known = known_cases(self.evidence, contract.id, falsifier) if self.evidence is not None else []
        bugs: list[Exception] = []
        finding = attack(
            falsifier,
            target,
            controls=Controls(fake=FakeTarget, stand_in=self._stand_in),
            report=lambda stage: self.report(contract.id, stage),
            known=known,
            faults_only=self.faults_only,
            also=self._undeclared(falsifier) if self.every_fault else (),
            on_bug=bugs.append,
            **common,
        )
        return finding, bugs[0] if bugs else None

    def green(self, finding: Finding) -> bool:
        """Whether pytest passes: the claim survived; where only faults were planted, all were caught."""
        if not self.faults_only:
            return finding.verdict is Verdict.SURVIVED
        return finding.control is not None and finding.control.green and not missed(finding.faults)

    def record(self, finding: Finding) -> Path | None:
        """Where the finding is going to lie; None where no record is kept."""
        if self.evidence is None:
            return None
        return self.evidence / finding.contract / finding.run / f"{finding.falsifier}.json"

    def _open(self) -> "Target | None":
        from refute.targets.base import TargetError  # noqa: PLC0415 (start-up time)

        if self._target is None and self._missing is None:
            self._missing = self.selection.missing
            if self._missing is None:
                try:
                    self._target = self.selection.open()
                except TargetError as error:
                    self._missing = str(error)
        return self._target

    @staticmethod
    def _undeclared(falsifier: "Falsifier") -> "list[Fault]":
        """Every fault that the falsifier is not known to catch, at its usual dose."""
        from refute.faults import FAULTS  # noqa: PLC0415 (start-up time)
        from refute.faults.base import Fault  # noqa: PLC0415

        declared = {fault.name for fault in falsifier.must_catch}
        return [Fault(spec.name, spec.default) for spec in FAULTS.values() if spec.name not in declared]

    def _stand_in(self) -> "Target":
        """Open the bundled runtime on the embedded model. Raises `CannotPlant` where that is not possible."""
        from refute.targets.base import CannotPlant, TargetError  # noqa: PLC0415 (start-up time)

        try:
            return Selection("bundled", embedded_model(), "embedded", "array", "auto").open()
        except TargetError as error:
            raise CannotPlant(str(error)) from None

"""One pytest session on the side that attacks: the target, opened at the first falsifier, and its attacks."""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.finding import Finding, missed
from refute.select import Selection, stand_in
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.contract import Contract, Falsifier
    from refute.faults.base import Fault
    from refute.recordable import Requested
    from refute.room import Room
    from refute.targets.base import Target
    from refute.trials import Stage

_PERIOD = 0.5  # seconds between two words about how far something is


@dataclass(slots=True)
class Attacker:
    """Attacks falsifiers on one target, which is opened when the first of them needs it.

    room: what the workers of one run share; None where there is one process. report: told where the attack
    on a contract is. every_fault: with faults_only, plant also those that nobody has to catch. notes: what
    the target said when it was opened, until somebody takes it.
    """

    selection: Selection
    run: str
    seed: int
    room: "Room | None"
    evidence: Path | None
    faults_only: bool
    every_fault: bool
    requested: "Requested"
    report: Callable[[str, "Stage"], None]
    _target: "Target | None" = field(default=None, init=False)
    _missing: str | None = field(default=None, init=False)
    _at: tuple[str, str] = field(default=("", ""), init=False)  # contract and falsifier under attack
    notes: list[str] = field(default_factory=list, init=False)

    def attack(self, contract: "Contract", falsifier: "Falsifier") -> tuple[Finding, Exception | None]:
        """Return the finding, and the exception behind it where the falsifier itself broke."""
        with self.room or nullcontext():
            return self._attack(contract, falsifier)

    def _attack(self, contract: "Contract", falsifier: "Falsifier") -> tuple[Finding, Exception | None]:
        # Kinds need numpy, and pytest loads this module at start-up.
        from refute.attack import attack, unattacked  # noqa: PLC0415
        from refute.targets.fake import FakeTarget  # noqa: PLC0415
        from refute.trials import Controls  # noqa: PLC0415

        common: dict[str, Any] = {
            "contract": contract,
            "run": self.run,
            "seed": self.seed,
            "requested": self.requested,
        }
        self._at = (contract.id, falsifier.id)
        target = self._open()
        if target is None:
            reason = self._missing or ""
            return unattacked(falsifier, Verdict.BLOCKED, reason, target={}, **common), None
        from refute.counterexample import known_cases  # noqa: PLC0415 (start-up time)

        known = known_cases(self.evidence, contract.id, falsifier) if self.evidence is not None else []
        bugs: list[Exception] = []
        finding = attack(
            falsifier,
            target,
            controls=Controls(fake=FakeTarget, stand_in=stand_in),
            report=lambda stage: self._pass(contract.id, stage),
            alone=self.room.to_oneself if self.room is not None else nullcontext,
            known=known,
            faults_only=self.faults_only,
            also=self._undeclared(falsifier) if self.every_fault else (),
            on_bug=bugs.append,
            **common,
        )
        _spare_the_collector()
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

    def _pass(self, contract: str, stage: "Stage") -> None:
        """Between two cases: let whoever measures times have the host, and say where the attack is."""
        if self.room is not None:
            self.room.pass_by()
        self.report(contract, stage)

    def _open(self) -> "Target | None":
        from refute.report.words import loaded  # noqa: PLC0415 (start-up time)
        from refute.targets.base import TargetError  # noqa: PLC0415 (start-up time)
        from refute.trials import Stage  # noqa: PLC0415 (start-up time)

        told = time.monotonic()

        def progress(doing: str, done: int, of: int) -> None:
            nonlocal told
            if time.monotonic() - told > _PERIOD:
                told = time.monotonic()
                self.report(self._at[0], Stage(self._at[1], loaded(doing, done, of), 0, 0))

        if self._target is None and self._missing is None:
            self._missing = self.selection.missing
            if self._missing is None:
                try:
                    self._target = self.selection.open(progress)
                    self.notes.extend(getattr(self._target, "notes", ()))
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


def _spare_the_collector() -> None:
    """Search no more for garbage in what is there after a process's first attack, most of it modules.

    Claims about memory have all the rest searched again and again.
    """
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()

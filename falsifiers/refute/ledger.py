"""One pytest session on the side that controls it: what is planned, what was found, the records on disk."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from refute.counterexample import Counterexample
from refute.finding import Finding
from refute.record import RunWriter, new_run_id
from refute.recordable import Requested
from refute.redaction import Secrets
from refute.verdict import EXIT_OF_VERDICT, Exit, Verdict, worst_exit

if TYPE_CHECKING:
    from refute.contract import Contract
    from refute.takeover import Takeover
    from refute.telemetry import Telemetry


@dataclass(slots=True)
class Ledger:
    """Keeps every finding as it comes.

    evidence: the tree that records go to; None keeps none (faults only). contracts and selected: by
    contract id. records: the path of each finding's file, by contract and falsifier.
    """

    seed: int
    evidence: Path | None
    directory: Path
    run: str = field(default_factory=new_run_id)
    requested: Requested = field(default_factory=Requested)
    secrets: Secrets = field(default_factory=Secrets)
    contracts: dict[str, "Contract"] = field(default_factory=dict)
    selected: dict[str, list[str]] = field(default_factory=dict)
    findings: list["Finding"] = field(default_factory=list)
    records: dict[tuple[str, str], Path] = field(default_factory=dict)
    interrupted: bool = False
    _writers: dict[str, "RunWriter"] = field(default_factory=dict)
    _telemetry: "Telemetry | None" = None

    def plan(
        self,
        contracts: Mapping[str, "Contract"],
        selected: Mapping[str, Sequence[str]],
        takeover: "Takeover | None" = None,
    ) -> None:
        """Bring to the disk what is going to be attacked, before it is. Raises `RecordError` or OSError.

        takeover: what an interrupted run found already; it is kept at once.
        """
        self.contracts = dict(contracts)
        self.selected = {id: list(falsifiers) for id, falsifiers in selected.items()}
        if self.evidence is None:
            return
        from refute.provenance import collect  # noqa: PLC0415 (start-up time)

        seeds = {"run": self.seed}
        provenance = collect(argv=sys.argv, seeds=seeds, directory=self.directory, evidence=self.evidence)
        for id, falsifiers in self.selected.items():
            if falsifiers:
                self._writers[id] = RunWriter.open(
                    self.evidence,
                    contracts[id],
                    selected=falsifiers,
                    provenance=provenance,
                    requested=self.requested,
                    resumes=None if takeover is None else takeover.cited[id],
                    secrets=self.secrets,
                    run=self.run,
                )
        if takeover is not None:
            for id, files in takeover.files.items():
                self._take_over(self._writers[id], files)
        if self._writers:
            from refute.telemetry import Telemetry  # noqa: PLC0415 (start-up time)

            runs = {writer.path: writer.began_ns for writer in self._writers.values()}
            self._telemetry = Telemetry.started(runs)

    def attacked(self, contract: str) -> None:
        """Note that an attack on a claim of a contract begins."""
        if self._telemetry is not None and contract in self._writers:
            self._telemetry.attacked(self._writers[contract].path)

    def rested(self, contract: str) -> None:
        """Note that it is over."""
        if self._telemetry is not None and contract in self._writers:
            self._telemetry.rested(self._writers[contract].path)

    def take(self, document: str) -> tuple["Finding", Path | None]:
        """Keep a finding that came as JSON; return it, and the file that it lies in."""
        finding = Finding.from_json(json.loads(document))
        self.findings.append(finding)
        writer = self._writers.get(finding.contract)
        if writer is None:
            return finding, None
        path = writer.write(finding)
        self._kept(writer, finding, path, finding.reason)
        return finding, path

    def _take_over(self, writer: "RunWriter", files: Sequence[Path]) -> None:
        for file in files:
            data = file.read_bytes()
            path = writer.take_over(data)
            finding = Finding.from_json(json.loads(data))
            self.findings.append(finding)
            self._kept(writer, finding, path, f"taken over from {finding.run}")

    def _kept(self, writer: "RunWriter", finding: Finding, path: Path, said: str) -> None:
        """Keep what belongs to a finding that is on the disk."""
        counterexample = Counterexample.of(finding)
        if counterexample is not None:
            writer.attach(counterexample.file, counterexample.to_bytes())
        writer.log(f"{finding.falsifier} {finding.verdict}: {said}")
        self.records[finding.contract, finding.falsifier] = path

    def seal(self) -> None:
        """Close every record; what was planned and has no finding makes it an interrupted one."""
        if self._telemetry is not None:
            self._telemetry.stop()
            self._telemetry = None
        for writer in self._writers.values():
            writer.seal(interrupted=self.interrupted)
        self._writers.clear()

    @property
    def folders(self) -> list[Path]:
        """The runs that records are kept in."""
        if self.evidence is None:
            return []
        return [self.evidence / id / self.run for id, falsifiers in self.selected.items() if falsifiers]

    @property
    def unobserved(self) -> list[tuple[str, str]]:
        """Declared falsifiers without a finding, as (contract, falsifier): deselected, or never reached."""
        seen = {(finding.contract, finding.falsifier) for finding in self.findings}
        declared = [(id, each.id) for id, contract in self.contracts.items() for each in contract.falsifiers]
        return [key for key in declared if key not in seen]

    def codes(self) -> list[Exit]:
        """What each finding, and an interrupt, is as an exit code."""
        return [Exit.INTERRUPTED if self.interrupted else Exit.OK, *map(self._code, self.findings)]

    def exit_code(self) -> Exit:
        """The exit code of `refute run`: the worst verdict; what was not observed is a failure."""
        return worst_exit([Exit.MISSING if self.unobserved or not self.findings else Exit.OK, *self.codes()])

    def _code(self, finding: Finding) -> Exit:
        if self.evidence is None and finding.verdict is Verdict.INCONCLUSIVE:
            return Exit.OK  # faults only: nothing was attacked, and every fault was caught
        return EXIT_OF_VERDICT[finding.verdict]

"""What a run takes over from the interrupted one that it goes on with: finished findings, byte for byte.

It may only where both are one run in all but time: the same contracts, engine, model, seed, testbed and code
of the framework.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refute.attempts import BUNDLED
from refute.interrupts import unbroken
from refute.provenance import model_sha256, package_digest
from refute.record import Sealed
from refute.recordable import Requested
from refute.report.words import counted
from refute.resume import CannotResume, Interrupted
from refute.sealing import CannotSeal, seal_interrupted

if TYPE_CHECKING:
    from refute.contract import Contract
    from refute.ledger import Ledger
    from refute.provenance import Progress
    from refute.select import Selection

_SAME = ("engine", "engine_digest", "model_sha256")


@dataclass(frozen=True, slots=True)
class Takeover:
    """What goes on. requested: as the run was asked for it.

    By contract id: what is selected, which run is cited, and the files of its findings in their order.
    """

    run: str
    tree: Path
    requested: Mapping[str, Any]
    contracts: Mapping[str, "Contract"]
    selected: Mapping[str, Sequence[str]]
    cited: Mapping[str, Sealed]
    files: Mapping[str, Sequence[Path]]

    def told(self) -> str:
        """Say which run goes on, and how much of it is done."""
        done = sum(map(len, self.files.values()))
        return (
            f"goes on with run {self.run}: {counted(done, 'finding')} taken over, {len(self.left)} to attack"
        )

    def finished(self, ledger: "Ledger") -> None:
        """Keep and close the record of a run that has nothing left to attack. Raises as `Ledger.plan`."""
        with unbroken():
            ledger.plan(self.contracts, self.selected, self)
            ledger.seal()

    @property
    def left(self) -> list[tuple[Path, str]]:
        """The falsifiers that are still to be attacked, with the files of their contracts."""
        done = {id: {file.stem for file in files} for id, files in self.files.items()}
        return [
            (self.contracts[id].path, falsifier)
            for id, falsifiers in self.selected.items()
            for falsifier in falsifiers
            if falsifier not in done[id]
        ]


def take_over(
    interrupted: Interrupted,
    contracts: Sequence["Contract"],
    selection: "Selection",
    *,
    testbed: str,
    harness: str | None,
    progress: "Progress | None" = None,
) -> Takeover:
    """Compare all, then seal what a killed process left open. Raises `CannotResume`."""
    by_id = {contract.id: contract for contract in contracts}
    for part in interrupted.parts:
        if part.problems:
            raise CannotResume(f"{interrupted.run} is not as it was written: {part.problems[0]}")
        summary = part.summary
        then = summary["provenance"]
        _refuse_other_contract(interrupted.run, summary["contract"], by_id)
        if then["testbed"] != testbed:
            raise _other(interrupted.run, "testbed", then["testbed"], testbed)
        if then["harness"]["digest"] != harness:
            raise _other(interrupted.run, "refute's code", then["harness"]["digest"], harness)
    _refuse_other_target(interrupted, selection, progress)
    sealed = [part if part.state == "complete" else _sealed(part.path) for part in interrupted.parts]
    return Takeover(
        interrupted.run,
        interrupted.tree,
        interrupted.requested,
        {part.contract: by_id[part.contract] for part in sealed},
        {part.contract: part.summary["plan"]["selected"] for part in sealed},
        {part.contract: Sealed(part.run, part.sha256) for part in sealed},
        {part.contract: [part.path / record.file for record in part.records] for part in sealed},
    )


def _refuse_other_contract(run: str, then: Mapping[str, Any], by_id: Mapping[str, "Contract"]) -> None:
    contract = by_id.get(then["id"])
    if contract is None:
        raise CannotResume(f"{run} is of the contract {then['id']}, which is not among these: name its file")
    if contract.bytes_sha256 != then["bytes_sha256"]:
        raise _other(run, f"contract {contract.id}", then["bytes_sha256"], contract.bytes_sha256)


def _refuse_other_target(
    interrupted: Interrupted, selection: "Selection", progress: "Progress | None"
) -> None:
    """Compare engine and model with what the findings say that they attacked."""
    if selection.missing:
        raise CannotResume(f"{interrupted.run} cannot go on: {selection.missing}")
    findings = [record.finding for part in interrupted.parts for record in part.records]
    attacked = [finding.target for finding in findings if finding.target]
    if not attacked:
        _refuse_other_request(interrupted, selection)
        return
    here = dict(_identity(selection, progress))
    for then in attacked:
        for name in _SAME:
            if then.get(name) != here[name]:
                raise _other(interrupted.run, name.replace("_", " "), then.get(name), here[name])


def _refuse_other_request(interrupted: Interrupted, selection: "Selection") -> None:
    """Compare the model's name with the one that was asked for: nothing was attacked that has a digest."""
    then, now = interrupted.requested, Requested.of(selection).to_json()
    if then["target"] is None:
        return
    if (then["model"], then["model_origin"] == "embedded") != (
        now["model"],
        now["model_origin"] == "embedded",
    ):
        raise _other(interrupted.run, "model", then["model"], now["model"])


def _identity(selection: "Selection", progress: "Progress | None") -> Iterator[tuple[str, Any]]:
    """Engine, its digest and the model's; the bundled runtime needs not be opened for them."""
    from refute.targets.base import TargetError  # noqa: PLC0415 (start-up time)

    try:
        if selection.engine == "bundled":
            assert selection.model is not None
            yield "engine", BUNDLED
            yield "engine_digest", package_digest(BUNDLED)
            yield "model_sha256", model_sha256(selection.model, progress=progress)
            return
        identity = selection.open().identity
    except TargetError as error:
        raise CannotResume(f"the target cannot be opened: {error}") from None
    except OSError as error:
        raise CannotResume(f"{selection.model}: cannot be read ({error.strerror})") from None
    yield from ((name, getattr(identity, name)) for name in _SAME)


def _sealed(path: Path) -> Any:
    try:
        return seal_interrupted(path)
    except CannotSeal as error:
        raise CannotResume(str(error)) from None
    except OSError as error:
        raise CannotResume(f"{path}: cannot be sealed ({error.strerror})") from None


def _other(run: str, what: str, then: object, now: object) -> CannotResume:
    told = [str(each)[:16] for each in (then, now)]
    return CannotResume(
        f"{run} cannot go on: the {what} changed, from {told[0]} to {told[1]}; "
        "start a new run, without --resume"
    )

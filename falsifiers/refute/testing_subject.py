"""A kind under test: what its class promises, and attacks with it on an engine that is known."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from refute.attack import attack
from refute.contract import Bound, Contract, Falsifier, ModelClaim, Scope
from refute.faults import FAULTS
from refute.faults.base import UnknownFault, parse_fault
from refute.finding import Finding, missed
from refute.kinds.base import Kind, Planned, Searched
from refute.record import new_run_id
from refute.targets.base import CannotPlant, Target
from refute.trials import Controls
from refute.verdict import Level, Verdict

_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Subject:
    """The kind under test, as the only falsifier of a contract that no file holds."""

    kind_type: type[Kind[Any]]
    falsifier: Falsifier
    contract: Contract
    fake: Callable[[int], Target]

    @classmethod
    def of(
        cls,
        kind_type: type[Kind[Any]],
        parameters: Mapping[str, Any],
        bound: Bound,
        faults: Sequence[str],
        fake: Callable[[int], Target],
    ) -> "Subject":
        if Kind not in getattr(kind_type, "__mro__", ()):
            sentence = f"{kind_type!r} is no kind; expected a class derived from Searched or Planned"
            raise AssertionError(sentence)
        try:
            caught = tuple(parse_fault(fault, FAULTS) for fault in faults)
        except UnknownFault as unknown:
            raise AssertionError(f"no fault is called {unknown}; see refute.faults.catalogue") from None
        except ValueError as error:
            raise AssertionError(f"a dose is not a number, expected NAME or NAME=DOSE: {error}") from None
        if not caught:
            raise AssertionError(
                f"{kind_type.name}: name faults; a kind that need not catch any shows nothing"
            )
        falsifier = Falsifier(
            id="checked",
            alias=None,
            claim=(kind_type.__doc__ or kind_type.name).strip(),
            kind=kind_type.name,
            requires=(),
            parameters=dict(parameters),
            bound=bound,
            must_catch=caught,
            needs=(),
            discharge=Level.SIMULATED,
            line=1,
            column=1,
        )
        contract = Contract(
            id="check-kind-v1",
            version="1.0.0",
            title="The conformance test of a kind",
            description="",
            model=ModelClaim("none", "none", ()),
            references=(),
            scope=Scope((), ()),
            falsifiers=(falsifier,),
            history=(),
            path=Path("check-kind-v1.yaml"),
            source=b"",
            bytes_sha256=_EMPTY,
            semantic_sha256=_EMPTY,
        )
        subject = cls(kind_type, falsifier, contract, fake)
        _declared(subject)
        return subject

    @property
    def kind(self) -> Kind[Any]:
        """A new instance, as every reader of a record makes one."""
        return self.kind_type.of(self.falsifier.parameters)

    @property
    def size(self) -> int:
        """Planned cases or runs."""
        bound = self.falsifier.bound
        size = bound.cases if issubclass(self.kind_type, Searched) else bound.runs
        if size is None:
            self.fail("the bound must say how many cases (or runs) are planned")
        return size

    def attack(self, target: Target, seed: int = 0, *, faults: bool = False) -> Finding:
        """Attack as a run does, with or without its faults."""
        bugs: list[Exception] = []
        falsifier = self.falsifier if faults else dataclasses.replace(self.falsifier, must_catch=())
        finding = attack(
            falsifier,
            target,
            contract=self.contract,
            run=new_run_id(),
            seed=seed,
            controls=Controls(self.fake),
            on_bug=bugs.append,
            kinds=lambda _: self.kind_type,
        )
        if bugs:
            raise AssertionError(f"{self.kind_type.name}: {finding.reason}") from bugs[0]
        return finding

    def green(self, finding: Finding, where: str) -> None:
        """The claim survived, every fault was caught."""
        uncaught = [f"{trial.name}={trial.dose:g} ({trial.reason})" for trial in missed(finding.faults)]
        if uncaught:
            self.fail(f"does not turn red on {', '.join(uncaught)}")
        if finding.verdict is not Verdict.SURVIVED:
            self.fail(f"is not green {where}: {finding.verdict}: {finding.reason}")

    def red(self, target: Target) -> Finding:
        """Attack an engine that has the first fault, as if it were any engine; it must not survive."""
        fault = self.falsifier.must_catch[0]
        with ExitStack() as stack:
            try:
                faulty = stack.enter_context(target.plant(fault, self.falsifier.bound))
            except CannotPlant as why:
                self.fail(f"cannot be shown to catch {fault}: {why}")
            finding = self.attack(faulty)
        if finding.verdict is Verdict.SURVIVED:
            self.fail(f"survives a whole attack on an engine with {fault}")
        return finding

    def fail(self, sentence: str) -> NoReturn:
        raise AssertionError(f"{self.kind_type.name}: {sentence}")


def _declared(subject: Subject) -> None:
    """What the class statement and the parameters promise."""
    kind_type, parameters, bound = subject.kind_type, subject.falsifier.parameters, subject.falsifier.bound
    if not issubclass(kind_type, Searched | Planned):
        subject.fail("derives from neither Searched nor Planned, so that nothing can attack with it")
    if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind_type.name) is None:
        subject.fail("its name must be of small letters, digits and single hyphens")
    fields = kind_type.parameters_type
    if not dataclasses.is_dataclass(fields) or not fields.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        subject.fail(f"its parameters, {fields.__name__}, must be a frozen dataclass")
    try:
        kind_type.of(parameters)
    except Exception as error:
        raise AssertionError(f"{kind_type.name}: refuses these parameters: {error}") from error
    if not _refuses(kind_type, {**parameters, "no_such_parameter": 0}):
        subject.fail("takes a parameter that it does not have, so that a misspelt one has no effect")
    given = {name for name, value in dataclasses.asdict(bound).items() if value is not None}
    unused = given - kind_type.bound_fields - {"unit"}
    if unused:
        subject.fail(f"cannot use {', '.join(sorted(unused))} in its bound; it names no such bound_fields")


def _refuses(kind_type: type[Kind[Any]], parameters: Mapping[str, Any]) -> bool:
    try:
        kind_type.of(parameters)
    except Exception:  # noqa: BLE001 (any refusal will do)
        return True
    return False

"""What `refute lint` found, as text and as JSON: in contracts, then in the project's policy."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from refute.contract import Contract, ContractError, Problem, declared, load_contract
from refute.contract_files import find_contracts
from refute.lint import lint
from refute.lint_base import Comparison, as_data, compare
from refute.policy_file import read_policy
from refute.report.words import counted
from refute.verdict import Exit


@dataclass(frozen=True, slots=True)
class Report:
    """contracts, falsifiers: how many there are; None where a contract is at fault by itself."""

    problems: tuple[Problem, ...]
    contracts: int | None
    falsifiers: int | None
    base: str | None
    comparisons: tuple[Comparison, ...]

    @property
    def code(self) -> Exit:
        """The exit code of the command."""
        return Exit.USAGE if self.problems else Exit.OK

    def lines(self) -> Iterator[str]:
        """Yield what is said besides the problems."""
        for each in self.comparisons:
            versions = " -> ".join(filter(None, (each.old_version, each.new_version)))
            step = f"; needs a {each.required.name.lower()} step" if each.required else ""
            yield f"{each.path}: {each.effect}, version {versions}{step}"
            yield from (f"  {change.sentence} ({change.effect})" for change in each.changes)
        if not self.problems:
            assert self.contracts is not None
            assert self.falsifiers is not None
            found = f"{counted(self.contracts, 'contract')} with {counted(self.falsifiers, 'falsifier')}"
            yield f"{found}: no fault found"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "problems": [as_data(problem) for problem in self.problems],
            "contracts": self.contracts,
            "falsifiers": self.falsifiers,
            "base": self.base,
            "compared": [each.to_json() for each in self.comparisons],
        }


def check(paths: Sequence[Path], base: str | None) -> Report:
    """Lint contracts and, where they have no fault, the policy; compare them with `base`. Raises `NoBase`."""
    root = Path()
    problems = lint(paths, root=root)
    if problems:
        return Report(tuple(problems), None, None, base, ())
    contracts = [load_contract(path) for path in find_contracts(root, paths)]
    faults = _policy(root, contracts)
    compared = compare(paths, base, root=root) if base is not None else []
    wrong = [*faults, *sorted(problem for each in compared for problem in each.problems)]
    falsifiers = sum(len(contract.falsifiers) for contract in contracts)
    return Report(tuple(wrong), len(contracts), falsifiers, base, tuple(compared))


def _policy(root: Path, contracts: Sequence[Contract]) -> Sequence[Problem]:
    """What is wrong with `[tool.refute]`, which speaks of all contracts of a project, named here or not."""
    known = list(contracts)
    for path in set(find_contracts(root)) - {contract.path for contract in contracts}:
        with suppress(ContractError):  # what is not named here is linted elsewhere
            known.append(load_contract(path))
    claims = list(map("/".join, declared(known)))
    try:
        return read_policy(root, claims, datetime.now(UTC).date()).problems
    except ContractError as error:
        return error.problems

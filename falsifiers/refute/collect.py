"""Contracts as pytest nodes: a file is a module, a falsifier is a function, so that fixtures work."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from refute.explain import explain
from refute.options import contract_files
from refute.verdict import Verdict

if TYPE_CHECKING:
    from refute.contract import Contract, Falsifier, Problem
    from refute.finding import Finding
    from refute.session import Attacker

FINDING = "refute.finding"  # the user property that carries a finding to the controller, as a JSON string
NOTE = "refute.note"  # the user property that carries what a target said when it was opened
ATTACKER: pytest.StashKey["Attacker"] = pytest.StashKey()
PROBLEMS: pytest.StashKey["dict[Path, list[Problem]]"] = pytest.StashKey()


class NotGreen(AssertionError):  # noqa: N818 (it carries a verdict)
    """The verdict of a falsifier is not green."""

    def __init__(self, finding: "Finding", record: Path | None) -> None:
        super().__init__(f"{finding.verdict}: {finding.reason}")
        self.finding = finding
        self.record = record


class ContractFile(pytest.Module):
    """One YAML contract; its falsifiers are collected in the order of the file."""

    obj = None  # no Python module stands behind it

    def collect(self) -> Iterator[pytest.Item]:
        """Read the contract. Raises `CollectError` with one sentence for each fault in it."""
        from refute.contract import load_contract  # noqa: PLC0415 (start-up time)

        problems = _problems(self.config, self.path)
        if problems:
            root = f"{self.config.rootpath}{os.sep}"  # sentences name files as people type them
            raise self.CollectError("\n".join(str(problem).replace(root, "") for problem in problems))
        contract = load_contract(self.path)
        for falsifier in contract.falsifiers:
            yield FalsifierItem.from_parent(
                self, name=falsifier.id, callobj=attack, contract=contract, falsifier=falsifier
            )


class FalsifierItem(pytest.Function):
    """One falsifier of one contract."""

    def __init__(self, *, contract: "Contract", falsifier: "Falsifier", **rest: Any) -> None:
        super().__init__(**rest)
        self.contract = contract
        self.falsifier = falsifier
        self.finding: Finding | None = None
        alias = falsifier.alias
        self.add_marker(pytest.mark.falsifier(kind=falsifier.kind, contract=contract.id, alias=alias))
        self.extra_keyword_matches.update(filter(None, (alias, falsifier.kind)))

    def attack(self) -> None:
        """Attack the claim, keep the finding, and say its verdict in pytest's words."""
        attacker = self.config.stash[ATTACKER]
        finding, bug = attacker.attack(self.contract, self.falsifier)
        self.finding = finding
        self.user_properties += [("refute.verdict", finding.verdict.value), ("refute.figure", finding.figure)]
        if bug is not None:
            raise bug
        if finding.verdict in (Verdict.BLOCKED, Verdict.NOT_APPLICABLE):
            pytest.skip(f"{finding.verdict}: {finding.reason}")
        if not attacker.green(finding):
            raise NotGreen(finding, attacker.record(finding))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Explain a verdict without a traceback; a bug keeps pytest's own."""
        if isinstance(excinfo.value, NotGreen):
            where = f"{relative(self.path, self.config.rootpath)}:{self.falsifier.line}"
            return explain(excinfo.value.finding, where, excinfo.value.record)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[os.PathLike[str], int | None, str]:
        """Point at the falsifier's line in the contract."""
        return self.path, self.falsifier.line - 1, f"{self.contract.id}/{self.falsifier.id}"


def _problems(config: pytest.Config, path: Path) -> "list[Problem]":
    """Every fault of one contract; all contracts of a run are read at once, for they name each other."""
    from refute.lint import lint  # noqa: PLC0415 (start-up time)

    known = config.stash.setdefault(PROBLEMS, {})
    if path not in known:
        files = sorted({path, *contract_files(config)})
        found = lint(files)
        known.update({file: [problem for problem in found if problem.path == file] for file in files})
    return known[path]


def attack(request: pytest.FixtureRequest) -> None:
    """Run the falsifier whose item asks; the function behind every item."""
    item = request.node
    assert isinstance(item, FalsifierItem)
    item.attack()


def relative(path: Path, root: Path) -> Path:
    """Return the path as people type it from the root; unchanged where it lies elsewhere."""
    return path.relative_to(root) if path.is_relative_to(root) else path

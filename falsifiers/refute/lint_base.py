"""`refute lint --base REV`: each contract beside its version at a git revision, and the version it must have.

The rules are in `refute.change`. What stands in the working tree is compared, committed or not. A contract
that is new needs no other version; one that is gone has none that could be wrong, so it is only named.
"""

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.change import REQUIRED, Bump, Change, Effect, bump, changes, effect_of, next_version
from refute.contract import Contract, ContractError, Problem, load_contract
from refute.contract_files import find_contracts
from refute.faults.base import FaultSpec
from refute.kinds import ANY, INSTALLED
from refute.lint_falsifier import Kinds
from refute.marked_yaml import Document, read_yaml


class NoBase(Exception):  # noqa: N818 (an answer to a person)
    """There is nothing to compare with; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One contract beside its version at the base.

    state: compared, new, removed, or incomparable (its old version cannot be read today; it then counts as
    breaking). old_version, new_version: None where there is none. problems: what is wrong with the version.
    """

    path: Path
    state: str
    effect: Effect
    changes: tuple[Change, ...]
    old_version: str | None
    new_version: str | None
    required: Bump
    problems: tuple[Problem, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as `refute lint --base REV --json` shows it."""
        return {
            "path": str(self.path),
            "state": self.state,
            "classification": str(self.effect),
            "changes": [{"effect": str(each.effect), "change": each.sentence} for each in self.changes],
            "old_version": self.old_version,
            "new_version": self.new_version,
            "required": self.required.name.lower(),
            "problems": [as_data(problem) for problem in self.problems],
        }


def as_data(problem: Problem) -> dict[str, Any]:
    """Return a problem as plain data."""
    return {**dataclasses.asdict(problem), "path": str(problem.path)}


def compare(
    paths: Sequence[Path],
    revision: str,
    *,
    root: Path,
    kinds: Kinds | None = None,
    faults: Mapping[str, FaultSpec] | None = None,
) -> list[Comparison]:
    """Compare contracts that lint clean with their versions at `revision`, sorted by path.

    Raises `NoBase` where there is no repository, no such revision, or no git.
    """
    kinds = INSTALLED if kinds is None else kinds
    files = find_contracts(root, paths)
    folders = [path for path in (paths or [root / "contracts"]) if path.is_dir()]
    compared = []
    gone: list[tuple[Path, Contract | None]] = []
    for folder in dict.fromkeys([*(file.parent for file in files), *folders]):
        repository = _Repository(folder, revision)
        names = {file.name for file in files if file.parent == folder}
        before = repository.contracts()
        if folder in folders:
            gone += [
                (folder / name, _load(repository.read(name), name, faults)[0])
                for name in before
                if name not in names and not (folder / name).exists()
            ]
        compared += [
            (file, repository.read(file.name) if file.name in before else None)
            for file in files
            if file.parent == folder
        ]
    found = [
        _new(file, gone, faults) if source is None else _compared(file, source, kinds, faults)
        for file, source in compared
    ]
    return sorted([*found, *map(_removed, gone)], key=lambda each: each.path)


class _Repository:
    """The files of one folder at one revision."""

    def __init__(self, folder: Path, revision: str) -> None:
        self._folder = folder
        if revision.startswith("-"):
            raise NoBase(f"{revision!r} is no revision; expected a branch, tag or commit")
        self._git(
            f"{folder} is in no git repository, so there is no base to compare with", "rev-parse", "--git-dir"
        )
        self._revision = (
            self._git(
                f"git knows no revision {revision!r}; fetch it first (in CI: checkout with fetch-depth: 0)",
                *("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"),
            )
            .decode()
            .strip()
        )

    def contracts(self) -> list[str]:
        """Names of the files that were contracts."""
        listed = self._git("", "ls-tree", "-z", "--name-only", self._revision, "./")
        names = [os.fsdecode(Path(os.fsdecode(name)).name) for name in listed.split(b"\0") if name]
        return [name for name in names if name.endswith((".yaml", ".yml"))]

    def read(self, name: str) -> bytes:
        """The bytes of one of them."""
        return self._git("", "show", f"{self._revision}:./{name}")

    def _git(self, otherwise: str, *arguments: str) -> bytes:
        command = ["git", "-C", str(self._folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        except FileNotFoundError:
            raise NoBase("git is not installed, so there is no base to compare with") from None
        except subprocess.TimeoutExpired:
            raise NoBase(f"git {arguments[0]} did not answer within a minute") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise NoBase(otherwise or f"git {arguments[0]}: {said[-1] if said else 'failed'}")
        return done.stdout


def _load(
    source: bytes, name: str, faults: Mapping[str, FaultSpec] | None
) -> tuple[Contract | None, str | None, str]:
    """Read an old version: the contract, else the version that it names and why it cannot be read."""
    with tempfile.TemporaryDirectory(prefix="refute-base-") as folder:
        path = Path(folder) / name
        path.write_bytes(source)
        try:
            contract = load_contract(path, kinds=ANY, faults=faults)
        except ContractError as error:
            first = str(error.problems[0]).removeprefix(f"{folder}{os.sep}")
            return None, _version_of(path), first
    return contract, contract.version, ""


def _version_of(path: Path) -> str | None:
    try:
        data = read_yaml(path).data
    except ContractError:
        return None
    version = data.get("version") if isinstance(data, dict) else None
    numbers = version.split(".") if isinstance(version, str) else []
    return version if len(numbers) == 3 and all(each.isdecimal() for each in numbers) else None


def _compared(file: Path, source: bytes, kinds: Kinds, faults: Mapping[str, FaultSpec] | None) -> Comparison:
    new = load_contract(file, kinds=kinds, faults=faults)
    old, version, why = _load(source, file.name, faults)
    if old is None:
        found: tuple[Change, ...] = (Change(Effect.BREAKING, f"the old version cannot be read today: {why}"),)
    else:
        found = changes(old, new, kinds, faults)
    effect = effect_of(found)
    required = REQUIRED[effect]
    problems = tuple(_problems(read_yaml(file), old, version, new, effect))
    state = "incomparable" if old is None else "compared"
    return Comparison(file, state, effect, found, version, new.version, required, problems)


def _problems(
    document: Document, old: Contract | None, version: str | None, new: Contract, effect: Effect
) -> Iterator[Problem]:
    required = REQUIRED[effect]
    moved = bump(version, new.version) if version is not None else Bump.MAJOR
    if moved is None:
        what, expected = (
            f"version {new.version} is lower than that of the base, {version}",
            "a higher version",
        )
        yield document.problem("base-version-back", ("version",), what, expected, "versions only go up")
    elif moved < required and version is not None:
        step = f"a {moved.name.lower()} step" if moved else "no step"
        what = f"version {new.version} is {step} from {version}, and the change is {_described(effect)}"
        least = next_version(version, required)
        fix = f"set version: {least} and add it to history"
        yield document.problem("base-version", ("version",), what, f"{least} or higher", fix)
    kept = {(entry.version, entry.date) for entry in new.history}
    for entry in old.history if old is not None else ():
        if (entry.version, entry.date) not in kept:
            what = f"the history has lost its entry of {entry.version}, {entry.date}"
            yield document.problem(
                "base-history", ("history",), what, "", "put it back: entries are only added"
            )


def _described(effect: Effect) -> str:
    article = "an" if effect.value[0] in "aeiou" else "a"
    return effect.value if effect in (Effect.EDITORIAL, Effect.BREAKING) else f"{article} {effect.value}"


def _new(
    file: Path, gone: Sequence[tuple[Path, Contract | None]], faults: Mapping[str, FaultSpec] | None
) -> Comparison:
    new = load_contract(file, faults=faults, kinds=ANY)
    sentence = "a new contract"
    for path, old in gone:
        if old is not None and _same(old, new):
            sentence = f"{path.name} under another name: a new id starts without records"
    change = Change(Effect.ADDITION, sentence)
    return Comparison(file, "new", Effect.ADDITION, (change,), None, new.version, Bump.NONE, ())


def _same(old: Contract, new: Contract) -> bool:
    """Whether two contracts claim the same under different ids."""
    claims = [{each.id: each.claim for each in contract.falsifiers} for contract in (old, new)]
    return claims[0] == claims[1]


def _removed(gone: tuple[Path, Contract | None]) -> Comparison:
    path, old = gone
    change = Change(Effect.BREAKING, "removed: what it claimed is claimed no more")
    version = None if old is None else old.version
    return Comparison(path, "removed", Effect.BREAKING, (change,), version, None, Bump.NONE, ())

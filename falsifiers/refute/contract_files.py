"""Where contracts are: what is named, else those of the project, else those that come with refute."""

from collections.abc import Sequence
from pathlib import Path

from refute.marked_yaml import ContractError, Problem


def find_contracts(root: Path, paths: Sequence[Path] = ()) -> list[Path]:
    """List contract files: `paths` (files, or folders of them), else root/contracts, else the bundled ones.

    Raises `ContractError` for a path that does not exist and for a folder without contracts.
    """
    chosen = list(paths)
    if not chosen:
        own = root / "contracts"
        chosen = [own if own.is_dir() else _bundled()]
    found: dict[Path, None] = {}  # a path that is named twice counts once
    problems = []
    for path in chosen:
        listed = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
        found.update(dict.fromkeys(listed))
        if not listed:
            fix = "refute init writes one to begin with"
            what = "no contract in this folder"
            problems.append(Problem(path, 1, 1, "folder-empty", what, "*.yaml files", fix))
        elif not path.exists():
            what, expected = "no such file or folder", "a contract or a folder of them"
            problems.append(Problem(path, 1, 1, "path-missing", what, expected, "check the path"))
    if problems:
        raise ContractError(problems)
    return list(found)


def _bundled() -> Path:
    """The contracts that come with refute: in the package of a wheel, in the repository of a checkout."""
    package = Path(__file__).parent
    inside = package / "bundled_contracts"
    return inside if inside.is_dir() else package.parents[1] / "contracts"

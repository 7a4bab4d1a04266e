"""`refute init`: what a repository needs to hold contracts, written once and never over anything.

The files lie in `templates/` as they are written; the schema is the one that contracts are read with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refute.report.words import shown
from refute.schemas import schema_text

_WORKFLOW = ".github/workflows/refute.yml"
_HOOKS = ".pre-commit-config.yaml"


class CannotWrite(Exception):  # noqa: N818 (an answer to a person)
    """A file or folder could not be written; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What was written and what was there before, as paths in `folder`."""

    folder: Path
    written: tuple[str, ...]
    left: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Yield what to tell the user: each file, what to add by hand, the next two commands."""
        yield from (f"wrote  {shown(self.folder / name)}" for name in self.written)
        yield from (f"left   {shown(self.folder / name)}, which was there" for name in self.left)
        if _HOOKS in self.left and "refute-lint" not in _read(self.folder / _HOOKS):
            yield f"to lint contracts before each commit, add to repos: in {shown(self.folder / _HOOKS)}:"
            yield from _template("pre-commit-config.yaml").splitlines()[1:]
        if _WORKFLOW in self.written:
            yield f"REFUTE in {shown(self.folder / _WORKFLOW)} names what pip installs there"
        yield "next:"
        if self.folder.resolve() != Path.cwd():
            yield f"  cd {shown(self.folder)}"
        yield "  refute lint"
        yield "  refute run"


def scaffold(folder: Path) -> Scaffold:
    """Write what is not there yet. Raises `CannotWrite`.

    The example is written only where no contract is: whoever deleted it has no use for it.
    """
    contracts = folder / "contracts"
    files = {
        "contracts/example-v1.yaml": _template("example-v1.yaml"),
        "contracts/contract.schema.json": schema_text("contract"),
        _WORKFLOW: _template("refute.yml"),
        _HOOKS: _template("pre-commit-config.yaml"),
    }
    if any(contracts.glob("*.y*ml")) and not (contracts / "example-v1.yaml").exists():
        del files["contracts/example-v1.yaml"]
    written: list[str] = []
    left: list[str] = []
    for name, text in files.items():
        (written if _write(folder / name, text) else left).append(name)
    return Scaffold(folder, tuple(written), tuple(left))


def _write(path: Path, text: str) -> bool:
    """Write a file that is not there; say whether it was written."""
    if path.is_symlink() or path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        why = error.strerror or str(error)
        raise CannotWrite(f"{path} cannot be written: {why}; name a folder that can") from None
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")

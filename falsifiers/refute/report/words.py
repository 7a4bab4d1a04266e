"""How verdicts, times and long texts are written, wherever they are shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from refute.verdict import Verdict

if TYPE_CHECKING:
    from rich.table import Table

_BAR = 20  # characters

STYLES: Mapping[Verdict, str] = {
    Verdict.SURVIVED: "green",
    Verdict.FALSIFIED: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.INVALID: "magenta",
    Verdict.ERROR: "bold magenta",
    Verdict.BLOCKED: "yellow",
    Verdict.NOT_APPLICABLE: "dim",
}


def seconds(value: float) -> str:
    """Return a time as people say it: `0.4 s`, `41 s`, `3 m 07 s`."""
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 119.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} m {rest:02d} s"


def shown(path: Path) -> str:
    """Return the path as it is typed from the working directory; in full where it lies elsewhere."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def counted(number: int, noun: str) -> str:
    """Return `1 contract`, `2 contracts`, `2 processes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def loaded(doing: str, done: int, of: int) -> str:
    """Return how far a model is loaded: a bar, and how much of it is done."""
    share = done / of if of else 1.0
    filled = int(share * _BAR)
    return f"{doing} {'━' * filled}{'╌' * (_BAR - filled)} {share:.0%}"


def short(text: str, width: int) -> str:
    """Return one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def table(*columns: str) -> "Table":
    """A table whose first two columns never wrap."""
    from rich import box  # noqa: PLC0415 (rich is slow to import)
    from rich.table import Table  # noqa: PLC0415

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for place, name in enumerate(columns):
        made.add_column(name, no_wrap=place < 2, overflow="fold")
    return made

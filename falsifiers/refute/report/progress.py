"""Progress on a terminal; nothing where the output is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def hashing(console: Console, what: str = "hashing the model") -> Iterator[Callable[[int, int], None]]:
    """Give what is told of bytes done and bytes in all; the bar only comes where it is told."""
    columns = TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = [bar.add_task("", visible=False)]
        yield lambda done, of: bar.update(tasks[0], completed=done, total=of, visible=True)

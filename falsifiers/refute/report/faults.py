"""The matrix of faults and falsifiers as people read it."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from refute.faults.base import written_dose
from refute.matrix import Cell, Matrix
from refute.report.words import counted, table


def declared_table(matrix: Matrix) -> RenderableType:
    """One row for every fault that a falsifier must catch: whether it did, and the smallest dose caught."""
    rows = table("fault", "dose", "", "smallest caught", "planted in")
    for falsifier in dict.fromkeys(cell.falsifier for cell in matrix.cells):
        rows.add_row(Text(falsifier, "bold"))
        for cell in matrix.cells:
            if cell.falsifier == falsifier and cell.must:
                least = (
                    "none" if cell.smallest_caught is None else written_dose(cell.smallest_caught, cell.unit)
                )
                rows.add_row(
                    f"  {cell.fault}", written_dose(cell.dose, cell.unit), _outcome(cell), least, cell.planted
                )
    for falsifier, reason in matrix.unattacked:
        rows.add_row(Text(falsifier, "bold"))
        rows.add_row(Text(f"  {reason}", "dim"))
    return rows


def every_table(matrix: Matrix) -> RenderableType:
    """One row for every fault, with all falsifiers that caught it; those that must are in bold."""
    rows = table("fault", "dose", "caught by")
    first = {cell.fault: cell for cell in reversed(matrix.cells)}
    for fault in matrix.faults:
        cells = [cell for cell in matrix.cells if cell.fault == fault]
        rows.add_row(fault, written_dose(first[fault].dose, first[fault].unit), _catchers(cells))
    return rows


def findings_of(matrix: Matrix) -> Iterator[Text]:
    """Say what the whole matrix shows: holes, what is unknown, who is never alone."""
    known = len(matrix.faults) - len(matrix.unplanted)
    caught = known - len(matrix.holes)
    yield Text(f"{caught} of {counted(known, 'fault')} caught", "green" if not matrix.holes else "bold red")
    for name, faults in (("hole", matrix.holes), ("planted nowhere", matrix.unplanted)):
        for fault in faults:
            why = "no falsifier catches it" if name == "hole" else _why(matrix, fault)
            yield Text(f"{name}: {fault}: {why}", "red" if name == "hole" else "yellow")
    for falsifier in matrix.never_alone:
        yield Text(f"never alone: {falsifier}: others catch all that it catches", "dim")


def _outcome(cell: Cell) -> Text:
    return Text("caught", "green") if cell.caught else Text("MISSED", "bold red")


def _catchers(cells: list[Cell]) -> Text:
    line = Text()
    for cell in cells:
        if cell.caught or (cell.must and cell.planted != "nowhere"):
            line.append(", " if line else "")
            line.append("" if cell.caught else "MISSED by ", "bold red")
            line.append(cell.falsifier.partition("/")[2], "bold" if cell.must else "")
    return line or Text("nothing" if any(cell.planted != "nowhere" for cell in cells) else "-", "red")


def _why(matrix: Matrix, fault: str) -> str:
    return next(cell.reason for cell in matrix.cells if cell.fault == fault)

"""One claim on a terminal: its status and what clears it, every attempt, figures against the bound."""

import math
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from refute.contract import Bound
from refute.detail import Detail, Tried
from refute.kinds.base import Drawn
from refute.report.escape import one_line
from refute.report.page.evidence import bound_in_words
from refute.report.page.pictures import limit_of
from refute.report.terminal import STATUS_STYLES
from refute.report.words import STYLES, counted
from refute.units import format_quantity
from refute.verdict import Status

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 56
_DIGITS = 12
_DECADES = 1.5  # figures that are further apart are shown on a logarithmic axis


def show_claim(detail: Detail, console: Console) -> None:
    """Print all about one claim."""
    claim = detail.claim
    alias = f" ({claim.alias})" if claim.alias else ""
    _say(console, f"{claim.name}{alias}, version {detail.version}", style="bold")
    _say(console, claim.claim, indent=2)
    level = f"holds at level {claim.level}" if claim.level else "holds at no level yet"
    for label, text in (
        ("bound", bound_in_words(detail.bound)),
        ("kind", f"{detail.kind}; must catch {', '.join(detail.must_catch)}"),
        *(("needs", f"{need}: {state or 'not declared here'}") for need, state in detail.needs),
        ("discharged by", f"{claim.discharge}; {level}"),
    ):
        _say(console, text, before=f"  {label:<15}")
    console.print()
    line = Text(str(claim.status), STATUS_STYLES[claim.status])
    line.append(f": {one_line(claim.reason)}" if claim.reason else "", "")
    console.print(line, soft_wrap=True)
    if claim.remedy:
        _say(console, f"{claim.remedy}:", indent=4)
    if claim.command and claim.status is not Status.DISCHARGED:
        _say(console, f"$ {claim.command}", indent=4, style="bold")
    if claim.unwaived is Status.FALSIFIED:
        _refuted(console, claim.name, [tried for tried in detail.tried if tried.refutes])
    for flag in claim.flags:
        _say(console, f"flagged: {flag}", style="bold yellow")
    for discrepancy in claim.discrepancies[1:]:
        _say(console, f"also tampered: {discrepancy}")
    console.print()
    _say(console, f"{counted(len(detail.tried), 'attempt')}{', oldest first' if detail.tried else ''}")
    for tried in detail.tried:
        _attempt(console, tried)
    if detail.drawn is not None:
        console.print()
        _say(console, f"run {detail.drawn_run}, one figure for each {detail.drawn.each}")
        for each in picture(detail.drawn, detail.bound):
            console.print(Text(f"  {each}".rstrip()), soft_wrap=True)


def _refuted(console: Console, claim: str, attempts: Sequence[Tried]) -> None:
    """Print how a counterexample is seen again, and the lines of a policy that take attempts out."""
    for each in attempts:
        if each.replay:
            _say(console, "to see it again:", indent=4)
            _say(console, f"$ {each.replay}", indent=4, style="bold")
    if attempts:
        _say(console, "to invalidate, in pyproject.toml:", indent=4)
    for each in attempts:
        for line in ("[[tool.refute.invalidations]]", f'claim = "{claim}"', f'run = "{each.run}"'):
            _say(console, line, indent=6)
        _say(console, 'owner = "who answers for it"', indent=6)
        _say(console, 'reason = "what of harness or host erred"', indent=6)


def _attempt(console: Console, tried: Tried) -> None:
    line = Text(f"  {tried.run}  ")
    line.append(f"{tried.verdict:<14}", STYLES[tried.verdict])
    build = f"{tried.engine} {tried.build[:_DIGITS]}".strip() or "nothing was attacked"
    fields = (one_line(tried.figure), str(tried.level), f"testbed {tried.testbed[:_DIGITS]}", one_line(build))
    line.append("  ".join(filter(None, fields)))
    console.print(line, soft_wrap=True)
    if tried.recorded is not tried.verdict:
        _say(console, f"recorded as {tried.recorded}: {tried.reason}", indent=6)
    for word, text in (
        ("tampered", tried.tampered),
        ("", tried.invalidated),
        ("stale", tried.stale),
        ("flagged", tried.flag),
    ):
        if text:
            _say(console, f"{word}: {text}" if word else text, indent=6)


def picture(drawn: Drawn, bound: Bound) -> Iterator[str]:
    """Draw how often figures fall where; below, the interval of their statistic and the bound."""
    figures = [figure for figure in drawn.figures if math.isfinite(figure)]
    broken = len(drawn.figures) - len(figures)
    if broken:
        yield f"{broken} of {len(drawn.figures)} gave no finite figure"
    if not figures:
        return
    limit = limit_of(bound)
    marks = [*(drawn.interval or ()), *([] if limit is None else [limit])]
    axis = _Axis([*figures, *filter(math.isfinite, marks)])
    counts = [0] * _WIDTH
    for figure in figures:
        counts[axis.place(figure)] += 1
    most = max(counts)
    yield "".join(_BARS[math.ceil(count / most * len(_BARS)) - 1] if count else " " for count in counts)
    if drawn.interval is not None and all(map(math.isfinite, drawn.interval)):
        first, last = map(axis.place, drawn.interval)
        line = f"{' ' * first}{'[' + '-' * (last - first - 1) + ']' if last > first else '|'}"
        ends = " to ".join(format_quantity(end, bound.unit) for end in drawn.interval)
        yield f"{line}{' ' * (_WIDTH - len(line))}  interval of the {drawn.statistic}: {ends}"
    if limit is not None:
        at = axis.place(limit)
        sign = "≥" if bound.above is not None else "≤"
        yield f"{' ' * at}^{' ' * (_WIDTH - at - 1)}  bound: {sign} {format_quantity(limit, bound.unit)}"
    low, high = (format_quantity(end, bound.unit) for end in (axis.low, axis.high))
    between = " " * max(1, _WIDTH - len(low) - len(high))
    scale = ", logarithmic" if axis.logarithmic else ""
    yield f"{low}{between}{high}  {counted(len(figures), 'figure')}{scale}"


class _Axis:
    """Places numbers in columns, from the lowest in the first to the highest in the last."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self.low, self.high = min(numbers), max(numbers)
        self.logarithmic = self.low > 0 and math.log10(self.high) - math.log10(self.low) > _DECADES

    def place(self, number: float) -> int:
        """The column of a number, from 0."""
        low, high, at = self.low, self.high, number
        if self.logarithmic:
            low, high, at = map(math.log, (low, high, at))
        # Halved, as the span of two floats need not be one.
        span = high / 2 - low / 2
        share = (at / 2 - low / 2) / span if span > 0 else 0.5
        return min(_WIDTH - 1, max(0, round(share * (_WIDTH - 1))))


def _say(console: Console, text: str, *, style: str = "", indent: int = 0, before: str = "") -> None:
    console.print(Text(f"{' ' * indent}{before}{one_line(text, 1_000)}", style), soft_wrap=True)

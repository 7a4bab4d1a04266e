"""What is drawn, as numbers: templates turn them into SVG. All pictures are 360 wide, so text scales alike.

Pictures carry their text alternative: `title` names them, `description` says all that they show.
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refute.contract import Bound
from refute.kinds.base import Drawn
from refute.report.page.axis import Axis, Tick
from refute.report.words import counted
from refute.units import format_quantity
from refute.verdict import Verdict

WIDTH = 360.0
_LEFT, _RIGHT = 12.0, 348.0
_DOT = 6.0  # the room that a dot takes, each way
_TOP = 18.0  # for the bound's label
_HIGHEST = 48.0  # of dots and bars
_MOST_DOTS = 150
_BARS = 42
_PITCH = 11.2  # from cell to cell
_ROW = 30
_MOST_CELLS = 240
_SHOWN = 24  # attempts in a history
_LARGEST = 1e150  # beyond it a figure is as good as infinite


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """The bound. wrong: where the side on which a claim fails begins and how wide it is.

    anchor: how the label stands to the line: `start` right of it, `end` left of it.
    """

    x: float
    label: str
    anchor: str
    wrong: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a statistic lies."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Strip:
    """Figures along a line, as dots or as bars, with the bound and the interval."""

    title: str
    description: str
    height: float
    base: float
    dots: tuple[tuple[float, float], ...]
    bars: tuple[Bar, ...]
    line: Line | None
    interval: Interval | None
    ticks: tuple[Tick, ...]
    unit: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A case, or several. state: `clean`, `refuting` or `idle` (it could not have refuted)."""

    x: float
    y: float
    state: str


@dataclass(frozen=True, slots=True)
class Cases:
    """Cases as cells; beneath them the failure rates that are excluded, on a line from 0 to 100 %."""

    title: str
    description: str
    height: float
    cells: tuple[Cell, ...]
    each: int
    excluded: float | None
    rate: str
    line: float


@dataclass(frozen=True, slots=True)
class Mark:
    """One attempt in a history."""

    x: float
    verdict: Verdict
    stale: bool


@dataclass(frozen=True, slots=True)
class History:
    """The newest attempts on a claim, oldest first."""

    marks: tuple[Mark, ...]
    width: float
    description: str


def strip(drawn: Drawn, bound: Bound, also: Sequence[float] = ()) -> Strip | None:
    """Draw figures against a bound; None where none of them is finite. also: what is on the line as well."""
    finite = [_tame(figure) for figure in drawn.figures if abs(figure) < _LARGEST]
    interval = None
    if drawn.interval is not None and all(abs(end) < _LARGEST for end in drawn.interval):
        interval = (_tame(drawn.interval[0]), _tame(drawn.interval[1]))
    limit = limit_of(bound)
    limit = None if limit is None or abs(limit) >= _LARGEST else _tame(limit)
    if not finite:
        return None
    numbers = [
        *(_tame(number) for number in also if abs(number) < _LARGEST),
        *finite,
        *(interval or ()),
        *([] if limit is None else [limit]),
    ]
    axis = Axis.over(numbers, bound.unit, left=_LEFT, right=_RIGHT)
    places = [axis.x(figure) for figure in finite]
    base = _TOP + _HIGHEST
    many = len(places) > _MOST_DOTS
    return Strip(
        title=f"Figures of {counted(len(finite), drawn.each)} against the bound",
        description=" ".join(_sentences(drawn, finite, interval, bound)),
        height=base + (30 if interval else 20),
        base=base,
        dots=() if many else _dots(places, base),
        bars=_bars(places, base) if many else (),
        line=None if limit is None else _line(axis.x(limit), bound, limit),
        interval=None if interval is None else Interval(*map(axis.x, interval)),
        ticks=axis.ticks(),
        unit=axis.unit,
    )


def numbers_of(drawn: Drawn, bound: Bound) -> list[float]:
    """All that has to lie on the line of a strip, for several strips with one line."""
    limit = limit_of(bound)
    return [*drawn.figures, *(drawn.interval or ()), *([] if limit is None else [limit])]


def cases(states: Sequence[str], rate: float | None, confidence: float) -> Cases:
    """Draw cases, in the order in which they were tried; of very many, several as one cell."""
    each = max(1, math.ceil(len(states) / _MOST_CELLS))
    groups = [states[start : start + each] for start in range(0, len(states), each)]
    cells = tuple(
        Cell(_LEFT + place % _ROW * _PITCH, place // _ROW * _PITCH + 1, _loudest(group))
        for place, group in enumerate(groups)
    )
    bottom = math.ceil(len(groups) / _ROW) * _PITCH + 4
    written = "" if rate is None else f"{rate:.2%}" if rate < 0.001 else f"{rate:.1%}"
    counts = Counter(states)
    parts = [f"{counted(len(states), 'case')} tried: {counts['refuting']} refute the claim"]
    if counts["idle"]:
        parts.append(f"{counts['idle']} could not have refuted it and do not count")
    text = ", ".join(parts) + "."
    if rate is not None:
        text += f" A failure rate above {written} is excluded with {percent(confidence)} confidence."
    return Cases(
        title=f"{counted(len(states), 'case')}, {counts['refuting']} of them refute the claim",
        description=text,
        height=bottom + (0 if rate is None else 26),
        cells=cells,
        each=each,
        excluded=None if rate is None else round(_LEFT + (_RIGHT - _LEFT) * min(rate, 1.0), 1),
        rate=written,
        line=bottom + 6,
    )


def history(attempts: Sequence[tuple[Verdict, bool]]) -> History:
    """Draw verdicts and whether they are stale, the newest last."""
    newest = attempts[-_SHOWN:]
    marks = tuple(Mark(place * 12.0 + 6, *attempt) for place, attempt in enumerate(newest))
    told = [f"{verdict}{' (stale)' if stale else ''}" for verdict, stale in newest]
    earlier = len(attempts) - len(newest)
    before = f"; {earlier} earlier" if earlier else ""
    text = f"{counted(len(attempts), 'attempt')}, oldest first: {', '.join(told)}{before}"
    return History(marks, max(len(marks), 1) * 12.0, text if told else "never attempted")


def percent(share: float) -> str:
    """A share, such as a confidence, in percent."""
    return f"{100 * share:.6g} %"


def limit_of(bound: Bound) -> float | None:
    """The threshold of a bound; None where it counts cases."""
    return next((each for each in (bound.above, bound.below, bound.within) if each is not None), None)


def _tame(figure: float) -> float:
    """What is next to nothing is nothing: ratios of figures stay finite."""
    return 0.0 if abs(figure) < 1 / _LARGEST else float(figure)


def _sentences(
    drawn: Drawn, finite: Sequence[float], interval: tuple[float, float] | None, bound: Bound
) -> Iterator[str]:
    def written(value: float) -> str:
        return format_quantity(value, bound.unit)

    middle = written(statistics.median(finite))
    spread = f"from {written(min(finite))} to {written(max(finite))}, median {middle}"
    yield f"{counted(len(finite), drawn.each)}: {spread if len(finite) > 1 else middle}."
    broken = len(drawn.figures) - len(finite)
    if broken:
        yield f"{broken} more gave no finite figure."
    limit = limit_of(bound)
    if limit is not None:
        relation = "at least" if bound.above is not None else "at most"
        outside = sum((each < limit) if bound.above is not None else (each > limit) for each in finite)
        yield f"The bound is {relation} {written(limit)}; {outside} on the wrong side."
    if interval is not None:
        ends = f"{written(interval[0])} to {written(interval[1])}"
        sure = f"with {percent(bound.confidence)} confidence at each end"
        yield f"The interval of the {drawn.statistic} is {ends}, {sure}."


def _line(x: float, bound: Bound, limit: float) -> Line:
    sign = "≥" if bound.above is not None else "≤"
    wrong = (0.0, x) if bound.above is not None else (x, round(WIDTH - x, 1))
    anchor = "start" if x < WIDTH / 2 else "end"
    return Line(x, f"bound {sign} {format_quantity(limit, bound.unit)}", anchor, wrong)


def _dots(places: Sequence[float], base: float) -> tuple[tuple[float, float], ...]:
    """Stack dots that would lie on each other."""
    columns: Counter[int] = Counter()
    stacked = []
    for x in sorted(places):
        column = round(x / _DOT)
        stacked.append((x, columns[column]))
        columns[column] += 1
    step = min(_DOT, _HIGHEST / max(columns.values()))
    return tuple((x, round(base - 4 - place * step, 1)) for x, place in stacked)


def _bars(places: Sequence[float], base: float) -> tuple[Bar, ...]:
    width = (_RIGHT - _LEFT) / _BARS
    counts = Counter(min(int((x - _LEFT) / width), _BARS - 1) for x in places)
    most = max(counts.values())
    bars = []
    for place, count in sorted(counts.items()):
        height = round(max(_HIGHEST * count / most, 1.0), 1)  # what is there at all is seen
        bars.append(
            Bar(round(_LEFT + place * width, 1), round(base - height, 1), round(width - 1, 1), height)
        )
    return tuple(bars)


def _loudest(group: Sequence[str]) -> str:
    return next(state for state in ("refuting", "clean", "idle") if state in group)

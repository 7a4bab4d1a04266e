"""What `cpu.py` measured, as tables and as a plot: medians, ratios within rounds, shares of the bandwidth."""

import html
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rounds import PEER, REFUTE


@dataclass(frozen=True, slots=True)
class Measured:
    """One file. samples: by figure and setting, in rounds. scan: what chose llama.cpp's best settings."""

    size: str
    file_bytes: int
    active_bytes: int
    runs: int
    tokens: int
    threads: int
    one_at_a_time: bool
    metrics: list[str]
    scan: dict[str, dict[str, float]]
    samples: dict[str, dict[str, list[float]]]
    memory: dict[str, dict[str, int]]
    opened: dict[str, Any]
    bandwidth: list[dict[str, float]]
    failures: dict[str, str]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the extremes around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of refute beside llama.cpp's; ratios are refute's rate by the other's, in each round."""

    metric: str
    refute: float
    default: float | None
    best: float | None
    best_name: str
    to_default: Spread | None
    to_best: Spread | None
    share: Spread | None


def ratio(samples: dict[str, list[float]], name: str) -> Spread | None:
    """Refute by another setting, round by round; None where that was not measured."""
    if name not in samples:
        return None
    return Spread.of([mine / other for mine, other in zip(samples[REFUTE], samples[name], strict=True)])


def rows(measured: Measured) -> Iterator[Row]:
    for metric in measured.metrics:
        samples = measured.samples[metric]
        medians = {name: statistics.median(values) for name, values in samples.items()}
        peers = [name for name in medians if name.split("+")[0] == PEER]
        best = max(peers, key=lambda name: medians[name]) if peers else ""
        yield Row(
            metric=metric,
            refute=medians[REFUTE],
            default=medians.get(PEER),
            best=medians.get(best),
            best_name=best,
            to_default=ratio(samples, PEER),
            to_best=ratio(samples, best),
            share=share(measured, metric),
        )


def share(measured: Measured, metric: str) -> Spread | None:
    """Bytes that refute reads per second by those that plain reading gets, in each round; of decoding only.

    Read are the weights of one token and the cache rows before it, in the middle of the sample.
    """
    kind, length = metric.split("@")
    if kind != "decode":
        return None
    middle = int(length) + measured.tokens / 2
    read = measured.active_bytes + middle * measured.opened[REFUTE]["row_bytes"]
    rates = measured.samples[metric][REFUTE]
    limits = [best_bandwidth(found, measured.threads) for found in measured.bandwidth]
    return Spread.of([rate * read / limit for rate, limit in zip(rates, limits, strict=True)])


def best_bandwidth(found: dict[str, float], threads: int) -> float:
    """The faster way to read, by at most so many threads."""
    return max(value for name, value in found.items() if int(name.split("-")[1]) <= threads)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def _or_dash(value: float | Spread | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, Spread) else f"{value:.1f}"


def tables(every: Sequence[Measured]) -> str:
    """All of it in Markdown."""
    return "\n\n".join(part for measured in every for part in _parts(measured))


def _parts(measured: Measured) -> Iterator[str]:
    mode = "one process at a time" if measured.one_at_a_time else "all engines loaded"
    yield (
        f"### {measured.size}: {measured.file_bytes / 1e9:.3f} GB, {measured.active_bytes / 1e6:.0f} MB of "
        f"weights a token, {measured.threads} threads, {measured.runs} rounds, {mode}"
    )
    yield _table(
        [
            "tok/s",
            "refute",
            "llama.cpp, default",
            "ratio",
            "llama.cpp, best",
            "its setting",
            "ratio",
            "of bandwidth",
        ],
        [
            [
                row.metric,
                _or_dash(row.refute),
                _or_dash(row.default),
                _or_dash(row.to_default),
                _or_dash(row.best),
                row.best_name.removeprefix(PEER).strip("+") or ("default" if row.best_name else "-"),
                _or_dash(row.to_best),
                _or_dash(row.share),
            ]
            for row in rows(measured)
        ],
    )
    names = list(measured.opened)
    if len(names) > 1:
        yield _table(["tok/s, medians", *names], list(_medians(measured, names)))
    yield _table(["seconds", "what", "median (extremes)", "refute's by it"], list(_times(measured)))
    yield _table(
        ["memory, GB", "resident at most", "at the end", "without mapped files"],
        [
            [name, *(f"{found[key] / 1e9:.2f}" for key in ("peak", "now", "anonymous"))]
            for name, found in measured.memory.items()
        ],
    )
    for name, why in measured.failures.items():
        yield f"Left out: {name}: {why}"
    yield _table(
        ["memory read, GB/s", "median (extremes)"],
        [
            [name, str(Spread.of([found[name] / 1e9 for found in measured.bandwidth]))]
            for name in measured.bandwidth[0]
        ],
    )


def _medians(measured: Measured, names: Sequence[str]) -> Iterator[list[str]]:
    """Every setting that was measured: llama.cpp's best ones only where they were the best of the scan."""
    for metric in measured.metrics:
        samples = measured.samples[metric]
        yield [metric, *(_or_dash(statistics.median(samples[n]) if n in samples else None) for n in names)]


def _times(measured: Measured) -> Iterator[list[str]]:
    """Times of loading; the ratio to reading is what a load costs beyond the file."""
    for figure, by_name in measured.samples.items():
        if figure in measured.metrics:
            continue
        kind, state = figure.split(", ")
        loads = measured.samples[f"load_s, {state}"][REFUTE]
        for name, values in by_name.items():
            compared = name != REFUTE and kind in {"load_s", "read_s"}
            pairs = [mine / other for mine, other in zip(loads, values, strict=True)] if compared else []
            yield [figure, name, str(Spread.of(values)), str(Spread.of(pairs)) if pairs else "-"]


_WIDTH, _LEFT, _LINE, _TOP = 900, 380, 26, 64
_COLOURS = {"default": "#8a8a8a", "best": "#1f5fa8"}


def plot(every: Sequence[Measured]) -> str:
    """An SVG: refute's rate by llama.cpp's for every figure, median and extremes; or refute's rates alone."""
    found = [(measured, row) for measured in every for row in rows(measured)]
    spreads = [spread for _, row in found for spread in (row.to_default, row.to_best) if spread]
    height = _TOP + _LINE * (len(found) + len(every)) + 40
    right = max([2.0, *(spread.high for spread in spreads)]) * 1.05
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        _text(16, 24, "refute's cpu backend: tokens per second, by llama.cpp's in the same round", size=16),
    ]
    if spreads:
        parts += [_dot(_LEFT, 42, "default"), _text(_LEFT + 10, 46, "llama.cpp as it is by default")]
        parts += [_dot(_LEFT + 220, 42, "best"), _text(_LEFT + 230, 46, "llama.cpp in its best setting")]
    else:
        parts.append(_text(_LEFT, 46, "llama.cpp was not measured"))

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 30) * value / right

    bottom = height - 34
    step = next(step for step in (0.5, 1, 2, 5, 10, 50, 1e9) if right / step <= 10)
    for mark in sorted({1.0, *(step * i for i in range(int(right / step) + 1))}):
        colour = "#333" if mark == 1 else "#ddd"
        parts.append(f'<path d="M{x(mark):.1f} {_TOP}V{bottom}" stroke="{colour}"/>')
        parts.append(_text(x(mark) - 4, bottom + 16, f"{mark:g}"))
    y = _TOP + 4
    for measured in every:
        y += _LINE
        parts.append(_text(16, y - 8, f"{measured.size}, {measured.file_bytes / 1e9:.2f} GB", bold=True))
        for row in rows(measured):
            y += _LINE
            against = " / ".join(f"{value:.1f}" for value in (row.default, row.best) if value is not None)
            label = f"{row.metric}: {row.refute:.1f}" + (f", llama.cpp {against}" if against else "")
            parts.append(_text(28, y - 8, label))
            for offset, kind, spread in ((-17, "default", row.to_default), (-8, "best", row.to_best)):
                if spread:
                    line = f'<path d="M{x(spread.low):.1f} {y + offset}H{x(spread.high):.1f}" '
                    parts.append(f'{line}stroke="{_COLOURS[kind]}" stroke-width="2"/>')
                    parts.append(_dot(x(spread.median), y + offset, kind))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, *, size: int = 13, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}"{weight}>{html.escape(text, quote=False)}</text>'


def _dot(x: float, y: float, kind: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{_COLOURS[kind]}"/>'

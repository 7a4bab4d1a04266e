"""What the host did during a run, from its telemetry: one small line for each thing that was sampled."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refute.reader import TELEMETRY
from refute.report.words import seconds
from refute.strict_json import StrictJsonError, load_strict
from refute.units import format_quantity

_POINTS = 120  # of a line; longer runs are thinned, and each point is the largest of what it stands for
_LEFT, _RIGHT, _TOP, _BASE = 0.0, 360.0, 3.0, 37.0
_Reading = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """One thing over the time of a run. points: from 0 at the bottom to the largest at the top.

    joined: whether each point goes on from the one before; between others nothing was known.
    """

    title: str
    description: str
    points: tuple[tuple[float, float], ...]
    joined: tuple[bool, ...]


def traces_of(folder: Path) -> tuple[Trace, ...]:
    """Read the telemetry of a run; what cannot be read is left out, and is a problem of the audit."""
    try:
        lines = (folder / TELEMETRY).read_bytes().splitlines()
    except OSError:
        return ()
    samples = [sample for sample in map(_sample, lines) if sample is not None]
    if len(samples) < 2:
        return ()
    return tuple(filter(None, (_trace(samples, *each) for each in _things(samples))))


def _sample(line: bytes) -> Mapping[str, Any] | None:
    try:
        sample = load_strict(line)
    except StrictJsonError:
        return None
    return sample if isinstance(sample, Mapping) and _number(sample.get("t_ns")) is not None else None


def _things(samples: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str | None, _Reading]]:
    """Name, unit and reading of everything that was sampled."""
    yield "CPU", "percent", lambda sample: sample.get("cpu_percent")
    yield "memory of the run", "B", lambda sample: sample.get("rss_bytes")
    gpus = samples[0].get("gpus")
    for place in range(min(len(gpus), 8) if isinstance(gpus, list) else 0):
        for name, unit, key in (
            ("clock", "MHz", "clock_mhz"),
            ("power", "W", "power_w"),
            ("temperature", "°C", "temperature_c"),
            ("memory", "B", "used_bytes"),
        ):
            yield f"GPU {place} {name}", unit, _of_gpu(place, key)


def _of_gpu(place: int, key: str) -> _Reading:
    def read(sample: Mapping[str, Any]) -> Any:
        gpus = sample.get("gpus")
        if not isinstance(gpus, list) or place >= len(gpus) or not isinstance(gpus[place], Mapping):
            return None
        return gpus[place].get(key)

    return read


def _trace(
    samples: Sequence[Mapping[str, Any]], name: str, unit: str | None, reading: _Reading
) -> Trace | None:
    times = [float(sample["t_ns"]) for sample in samples]
    values = [_number(reading(sample)) for sample in samples]
    known = [value for value in values if value is not None]
    if not known:
        return None
    stride = math.ceil(len(samples) / _POINTS)
    first, span = times[0], max(times[-1] - times[0], 1.0)
    points, joined, whole = [], [], False
    most = max(*known, 1e-9)
    for start in range(0, len(samples), stride):
        part = [value for value in values[start : start + stride] if value is not None]
        if not part:
            whole = False
            continue
        x = _LEFT + (_RIGHT - _LEFT) * min(max((times[start] - first) / span, 0.0), 1.0)
        points.append((round(x, 1), round(_BASE - (_BASE - _TOP) * max(part) / most, 1)))
        joined.append(whole)
        whole = True
    ends = f"{_written(min(known), unit)} to {_written(max(known), unit)}"
    return Trace(
        title=f"{name}: {ends}",
        description=f"{name} over {seconds(span / 1e9)}, {len(known)} samples: from {ends}.",
        points=tuple(points),
        joined=tuple(joined),
    )


def _written(value: float, unit: str | None) -> str:
    return f"{value:.0f} %" if unit == "percent" else format_quantity(value, unit)


def _number(value: Any) -> float | None:
    """A number at or above zero; anything else that an edited record may hold is none."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if plain and 0 <= value < 1e18 else None

"""What the host did during a run: lines from telemetry, whatever was not known and whatever was edited."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute.report.page.traces import Trace, traces_of

GPU = {"clock_mhz": 1500, "power_w": 300.0, "temperature_c": 60, "used_bytes": 2**30}


def sample(second: int, **changes: Any) -> dict[str, Any]:
    return {"t_ns": second * 10**9, "cpu_percent": 50.0, "rss_bytes": 2**20, "gpus": [], **changes}


def traced(folder: Path, *samples: Any) -> tuple[Trace, ...]:
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in samples]
    (folder / "telemetry.jsonl").write_bytes(b"\n".join(lines))
    return traces_of(folder)


def test_each_thing_is_one_line_over_the_whole_run(tmp_path: Path) -> None:
    cpu, memory = traced(tmp_path, sample(0, cpu_percent=0.0), sample(1), sample(2, cpu_percent=100.0))
    assert cpu.points == ((0.0, 37.0), (180.0, 20.0), (360.0, 3.0))
    assert cpu.joined == (False, True, True)
    assert cpu.title == "CPU: 0 % to 100 %"
    assert cpu.description == "CPU over 2.0 s, 3 samples: from 0 % to 100 %."
    assert memory.title == "memory of the run: 1 MiB to 1 MiB"


def test_where_nothing_was_known_the_line_is_broken(tmp_path: Path) -> None:
    cpu, _ = traced(tmp_path, sample(0), sample(1, cpu_percent=None), sample(2), sample(3))
    assert cpu.joined == (False, False, True)


def test_what_is_not_known_at_all_has_no_line(tmp_path: Path) -> None:
    (memory,) = traced(tmp_path, sample(0, cpu_percent=None), sample(1, cpu_percent=None))
    assert memory.title.startswith("memory")


def test_a_gpu_shows_clock_power_temperature_and_memory(tmp_path: Path) -> None:
    found = traced(tmp_path, sample(0, gpus=[GPU]), sample(1, gpus=[{**GPU, "clock_mhz": 900}]))
    assert [each.title for each in found[2:]] == [
        "GPU 0 clock: 900 MHz to 1500 MHz",
        "GPU 0 power: 300 W to 300 W",
        "GPU 0 temperature: 60 °C to 60 °C",
        "GPU 0 memory: 1 GiB to 1 GiB",
    ]


def test_a_long_run_is_thinned_and_its_peaks_stay(tmp_path: Path) -> None:
    values = [sample(n, cpu_percent=100.0 if n == 777 else 1.0) for n in range(2000)]
    cpu, _ = traced(tmp_path, *values)
    assert len(cpu.points) <= 120
    assert min(y for _, y in cpu.points) == 3.0


@pytest.mark.parametrize("lines", [(), (sample(0),), (b"{", b"[]", b"\xff")])
def test_too_little_gives_no_line(tmp_path: Path, lines: tuple[Any, ...]) -> None:
    assert traced(tmp_path, *lines) == ()


def test_without_telemetry_there_is_none(tmp_path: Path) -> None:
    assert traces_of(tmp_path) == ()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(sorted(GPU)), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(sample(0), PLAIN)), max_size=5))
def test_whatever_was_edited_all_points_lie_within_the_picture(tmp_path_factory, samples) -> None:
    for trace in traced(tmp_path_factory.mktemp("run"), *samples):
        assert all(0 <= x <= 360 and 0 <= y <= 40 for x, y in trace.points)

"""Gaps of telemetry: seconds while a claim of the run is attacked, a minute and a half else."""

import json
from datetime import datetime, timedelta

import pytest

from refute.audit.telemetry import telemetry_gaps


def gapped(audited, *seconds, attack):
    """The remarks on lines at these seconds of a run whose one claim was attacked from when until when."""
    bundle = audited.again.copy()
    begin = datetime.fromisoformat(bundle.json("findings.json")["time"]["started"])

    def at(second):
        return (begin + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    bundle.edit("floor.json", lambda d: d.update(started=at(attack[0]), ended=at(attack[1])))
    like = json.loads(bundle.files["telemetry.jsonl"].splitlines()[0])
    lines = [{**like, "t_ns": second * 10**9, "at": at(second)} for second in seconds]
    bundle.files["telemetry.jsonl"] = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return [each.found for each in telemetry_gaps.check(bundle.subject(audited.here, audited.library))]


@pytest.mark.parametrize(
    ("seconds", "attack"),
    [
        (range(100), (0, 99)),  # as records of before have it
        ([0, 60, 120, 121, 122, 123, 180], (120, 123)),
        ([0, 60, 69, 70, 71], (68, 71)),
    ],
    ids=["a line a second", "a line a minute else", "an attack that begins within a minute"],
)
def test_what_is_written_has_no_gap(audited, seconds, attack):
    assert gapped(audited, *seconds, attack=attack) == []


@pytest.mark.parametrize(
    ("seconds", "attack", "line"),
    [
        ([0, 1, 2, 13, 14], (0, 14), "line 3: 11.0 s until the next"),
        ([0, 60, 151], (0, 1), "line 2: 91.0 s until the next"),
        ([0, 60, 100], (85, 100), "line 2: 40.0 s until the next"),
    ],
    ids=["in an attack", "in a rest", "where a rest goes over into an attack"],
)
def test_a_gap_is_told_with_its_line(audited, seconds, attack, line):
    assert gapped(audited, *seconds, attack=attack) == [line]


def test_what_a_run_took_over_is_not_asked_of_its_telemetry(audited):
    bundle = audited.again.copy()
    begin = datetime.fromisoformat(bundle.json("findings.json")["time"]["started"])
    like = json.loads(bundle.files["telemetry.jsonl"].splitlines()[0])
    end = (begin + timedelta(seconds=60)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    lines = [like, {**like, "t_ns": 60 * 10**9, "at": end}]
    bundle.files["telemetry.jsonl"] = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    bundle.edit("floor.json", lambda d: d.update(ended=end))

    def remarks():
        return list(telemetry_gaps.check(bundle.subject(audited.here, audited.library)))

    assert len(remarks()) == 1
    bundle.edit("findings.json", lambda d: d["findings"][0].update(run="20261124T000000.000Z-00000001"))
    assert remarks() == []

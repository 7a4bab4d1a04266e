"""How steady a host is: derived from raw probes, alike for everybody."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refute import noise
from refute.finding import Noise, Probe

QUIET = Probe((1000, 1010, 990, 1005) * 10, (990,) * 40, (80_000,) * 20, {"all": 200, "stolen": 0})


def probe(kernel=QUIET.kernel_ns, late=QUIET.late_ns, ticks=QUIET.ticks, cpu=None):
    return Probe(tuple(kernel), tuple(kernel if cpu is None else cpu), tuple(late), ticks)


def test_a_quiet_host_is_no_reason_against_anything():
    assert noise.excesses(Noise(QUIET, QUIET)) == []


@pytest.mark.parametrize(
    ("loud", "says"),
    [
        (probe(kernel=[5000] * 40, cpu=[1000] * 40), "work waited for a processor 80% of its time"),
        (probe(kernel=[*[1000] * 32, *[99_000] * 8]), "equal work took times that vary by 217%"),
        (probe(ticks={"all": 200, "stolen": 50}), "25% of its processors' time"),
        (probe(late=[19_000_000] * 20), "19000 us late"),
    ],
    ids=["contended", "stalled", "stolen", "late"],
)
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_loud_host_is_named_with_its_figure_and_its_bound(loud, says, when):
    (said,) = noise.excesses(Noise(**{"before": QUIET, "during": QUIET, when: loud}))
    assert says in said
    assert f"{when} the attack" in said
    assert "(at most" in said


def test_a_host_that_got_slower_is_named():
    slower = probe(kernel=[4000] * 40, cpu=[3960] * 40)
    assert noise.excesses(Noise(QUIET, slower)) == [
        "the host computed 4.0 times as slowly during the attack as before it (at most 3)"
    ]
    assert noise.excesses(Noise(slower, QUIET)) == []


def test_a_neighbour_on_the_same_core_is_no_reason():
    shared = probe(kernel=[1000, 1700] * 20)  # it computes all the time, at a lower speed
    assert noise.excesses(Noise(shared, probe(kernel=[1700] * 30))) == []


def test_one_hiccup_is_no_reason():
    assert noise.excesses(Noise(QUIET, probe(kernel=[*QUIET.kernel_ns, 900_000]))) == []


def test_of_too_little_nothing_is_derived():
    scant = Probe((1, 900), (1, 900), (5,), {"all": 9, "stolen": 9})
    assert noise.score(scant) == noise.Score(None, None, None, None)
    assert noise.score(Probe((), (), (), None)) == noise.Score(None, None, None, None)
    assert noise.slowdown(Noise(Probe((), (), (), None), QUIET)) is None


times = st.lists(st.integers(0, 2**53), max_size=40)


@given(times, times, times, st.integers(0, 2**40), st.integers(0, 2**40))
def test_whatever_a_record_holds_there_is_a_score(kernel, cpu, late, ticks, stolen):
    odd = probe(kernel, late, {"all": ticks, "stolen": stolen}, cpu)
    for said in noise.excesses(Noise(odd, odd)):
        assert "(at most" in said


def test_a_probe_is_whole():
    before = noise.before()
    assert (len(before.kernel_ns), len(before.late_ns)) == (40, 20)
    assert min(before.kernel_ns) > 0
    assert min(before.late_ns) >= 0


def test_a_listener_adds_up():
    listener = noise.Listener()
    for _ in range(3):
        listener.listen()
    heard = listener.heard()
    assert (len(heard.kernel_ns), len(heard.late_ns)) == (12, 3)


def test_without_the_system_s_counts_there_are_no_ticks(monkeypatch, tmp_path):
    monkeypatch.setattr(noise, "_STAT", tmp_path / "none")
    assert noise.Listener().heard().ticks is None
    (tmp_path / "none").write_text("cpu  many\n")
    assert noise.Listener().heard().ticks is None
    (tmp_path / "none").write_text("cpu  1 2 3 4 5 6 7 8 0 0\n")
    assert noise.Listener().heard().ticks == {"all": 0, "stolen": 0}


def test_ticks_that_count_back_are_none(monkeypatch, tmp_path):
    monkeypatch.setattr(noise, "_STAT", tmp_path / "stat")
    (tmp_path / "stat").write_text("cpu  1 2 3 4 5 6 7 8 0 0\n")
    listener = noise.Listener()
    (tmp_path / "stat").write_text("cpu  9 2 3 4 5 6 7 7 0 0\n")
    assert listener.heard().ticks == {"all": 7, "stolen": 0}


@given(st.lists(st.integers(0, 2**53), min_size=20, max_size=60))
def test_the_variation_is_that_of_the_standard_library_without_the_slowest_twentieth(times):
    kept = sorted(times)[: len(times) - math.ceil(len(times) / 20)]
    mean = statistics.fmean(kept)
    expected = statistics.pstdev(kept) / mean if mean else 0.0
    assert noise.score(Probe(tuple(times), (0,), (), None)).variation == pytest.approx(expected, abs=1e-12)

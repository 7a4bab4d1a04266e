"""What the benchmark of the CPU computes from samples, and how it drives engines."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cpu_report import Measured, Spread, plot, rows, share, tables
from make_gguf import EMBEDDED
from rounds import Job, Rounds
from workers import Setting, Worker, WorkerError


def measured(**changed):
    told = {
        "size": "medium", "file_bytes": 10**9, "active_bytes": 10**8, "runs": 3, "tokens": 2, "threads": 2,
        "one_at_a_time": False, "metrics": ["decode@0", "prefill@8"], "scan": {},
        "samples": {
            "load_s, cold": {"refute": [2.0, 2.0, 2.0], "llama": [4.0, 4.0, 4.0]},
            "read_s, cold": {"1 thread": [1.0, 2.0, 4.0]},
            "decode@0": {"refute": [30, 40, 20], "llama": [10, 20, 20], "llama+no-mmap": [20, 25, 21]},
            "prefill@8": {"refute": [100, 100, 100], "llama": [200, 200, 200]},
        },
        "memory": {"refute": {"peak": 3, "now": 2, "anonymous": 1}},
        "opened": {"refute": {"row_bytes": 10**6}},
        "bandwidth": [{"plain-1": 9e9, "plain-2": 1e10, "prefetch-2": 1.01e10}] * 3,
        "failures": {},
    }  # fmt: skip
    return Measured(**told | changed)


def test_ratios_are_of_rounds_not_of_medians():
    decode, _ = rows(measured())
    assert decode.refute == 30
    assert decode.default == 20
    assert decode.to_default == Spread(1.0, 2.0, 3.0)
    assert decode.best_name == "llama+no-mmap"
    assert decode.to_best == Spread(20 / 21, 1.5, 1.6)


def test_the_default_can_be_the_best():
    _, prefill = rows(measured())
    assert prefill.best_name == "llama"
    assert prefill.to_best.median == 0.5


def test_the_share_counts_weights_and_cache_rows_against_the_faster_way_to_read():
    # 30 tokens of 100 MB and of one row of 1 MB, by 10.1 GB/s
    assert share(measured(), "decode@0").median == pytest.approx(30 * 101e6 / 1.01e10)


def test_one_thread_is_held_against_the_bandwidth_of_one():
    assert share(measured(threads=1), "decode@0").median == pytest.approx(30 * 101e6 / 9e9)


def test_loading_is_held_against_reading_the_file():
    assert "| read_s, cold | 1 thread | 2.00 (1.00 to 4.00) | 1.00 (0.50 to 2.00) |" in tables([measured()])


def test_another_setting_of_refute_is_shown_and_is_no_peer():
    samples = {**measured().samples, "decode@0": {"refute": [30, 40, 20], "refute+mmap": [9, 9, 9]}}
    both = measured(samples=samples, opened={"refute": {"row_bytes": 0}, "refute+mmap": {}})
    decode, _ = rows(both)
    assert decode.best is None
    assert "| decode@0 | 30.0 | 9.0 |" in tables([both])


def test_refute_alone_has_rates_and_no_ratios():
    samples = {
        figure: {"refute": by["refute"]} for figure, by in measured().samples.items() if "refute" in by
    }
    alone = measured(samples=samples)
    assert [row.to_best for row in rows(alone)] == [None, None]
    assert "| decode@0 | 30.0 | - | - | - | - | - |" in tables([alone])
    assert "llama.cpp was not measured" in plot([alone])


def test_the_plot_is_an_svg_with_a_line_for_every_figure():
    root = ET.fromstring(plot([measured()]))
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "decode@0: 30.0, llama.cpp 20.0 / 21.0" in texts


def test_a_setting_says_how_it_differs_from_the_default():
    setting = Setting.parsed("llama+no-mmap+no-flash+huge")
    assert setting.options == {"mmap": False, "flash": False}
    assert "GLIBC_TUNABLES" in setting.environment
    assert str(setting) == "llama+no-mmap+no-flash+huge"
    assert Setting.parsed("llama+one-thread").one_thread


@pytest.mark.parametrize("name", ["vllm", "llama+fast", "refute+no-flash", ""])
def test_an_unknown_setting_is_refused(name):
    with pytest.raises(ValueError, match="expected"):
        Setting.parsed(name)


def test_figures_are_taken_in_the_order_that_fills_a_sequence_once():
    job = Job("medium", Path("m"), "cpu", 2, 5, 8, (0, 512, 2048), (128, 512))
    assert job.metrics == ["decode@0", "prefill@128", "prefill@512", "decode@512", "decode@2048"]


def test_a_worker_says_why_an_engine_fails(tmp_path):
    with Worker("refute") as worker, pytest.raises(WorkerError, match=r"refute: open: .*none\.gguf"):
        worker.ask(
            "open", path=str(tmp_path / "none.gguf"), capacity=8, threads=1, backend="array", options={}
        )


def test_a_worker_that_dies_is_said():
    with Worker("nothing") as worker, pytest.raises(WorkerError, match="its process ended during 'open'"):
        worker.ask("open")


def test_an_engine_decodes_from_where_it_was_filled():
    with Worker("refute") as worker:
        told = worker.ask("open", path=str(EMBEDDED), capacity=40, threads=1, backend="array", options={})
        assert told["engine"]["threads"] == 1
        assert worker.ask("fill", count=30, seed=1) > 0
        assert len(worker.ask("decode", count=10, seed=1)) == 10
        assert len(worker.ask("decode", count=10, seed=1)) == 10  # the first ten are forgotten


JOB = Job("embedded", EMBEDDED, "array", 1, 2, 4, (0, 8), (8,))


@pytest.fixture
def rounds(monkeypatch):
    """Rounds of refute, and of one setting of llama.cpp that cannot be opened."""
    monkeypatch.setattr(Rounds, "machine", lambda _self, reading="": None)
    return Rounds(JOB, {"refute": set(JOB.metrics), "llama+no-mmap": set(JOB.metrics)})


@pytest.mark.parametrize("mode", ["apart", "together"])
def test_a_setting_that_fails_is_left_out_and_refute_is_measured(mode, rounds, monkeypatch):
    real = rounds.load

    def load(name, state):
        if name.startswith("llama"):
            raise WorkerError("no room")
        return real(name, state)

    monkeypatch.setattr(rounds, "load", load)
    getattr(rounds, mode)()
    assert rounds.failures == {"llama+no-mmap": "no room"}
    assert {metric: len(rounds.samples[metric]["refute"]) for metric in JOB.metrics} == {
        "decode@0": 2, "prefill@8": 2, "decode@8": 2,
    }  # fmt: skip
    assert rounds.memory["refute"]["peak"] > 0


def test_refute_that_fails_ends_the_run(rounds, monkeypatch):
    def load(name, state):
        raise WorkerError(name)

    monkeypatch.setattr(rounds, "load", load)
    rounds.wanted.pop("llama+no-mmap")
    with pytest.raises(WorkerError, match="refute"):
        rounds.apart()

"""The script for a machine with a GPU, as far as it goes without one."""

import json
import sys

import cuda_emulator
import gpu
import gpu_checks
import gpu_report
import gpu_speed
import pytest
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends import cuda
from refute_runtime.backends.cuda import Found
from refute_runtime.backends.gpu.weights import device_bytes
from refute_runtime.backends.simd import build
from refute_runtime.engine import Engine

THERE = Found("14.2.0", 13000, 13000, (9, 0), "A GPU")


@pytest.fixture
def there(monkeypatch):
    """A GPU that answers, and steps of the test."""
    monkeypatch.setattr(cuda, "found", lambda: THERE)
    return lambda **steps: monkeypatch.setattr(gpu, "STEPS", steps)


def test_without_a_gpu_it_says_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 5
    assert capsys.readouterr().err.startswith("gpu: CuPy is missing (")
    assert not list(tmp_path.iterdir())


def test_an_unknown_step_is_named(capsys):
    assert gpu.main(["--steps", "machine,nothing"]) == 2
    assert "unknown step 'nothing', expected some of machine, kernels" in capsys.readouterr().err


def test_a_step_that_fails_is_kept_and_the_next_one_begins(there, tmp_path, capsys):
    def broken(_):
        raise ValueError("it broke\nin many lines")

    there(
        first=lambda _: {"summary": "5 passed"}, second=broken, third=lambda _: {"skipped": "not installed"}
    )
    assert gpu.main(["--out", str(tmp_path / "out"), "--steps", "first,second,third"]) == 1
    kept = json.loads((tmp_path / "out.json").read_text())
    assert kept["found"]["name"] == "A GPU"
    assert [next(iter(step)) for step in kept["steps"].values()] == ["result", "error", "result"]
    said = capsys.readouterr().out
    assert "| second | 0.0 | ValueError: it broke |" in said
    assert "| third | 0.0 | not installed |" in said
    assert gpu.main(["--out", str(tmp_path / "out"), "--report"]) == 0
    assert capsys.readouterr().out.strip() == said.strip()


def test_figures_stand_beside_their_predictions_and_ratios_are_of_one_turn():
    results = {
        "found": {"name": "A GPU"}, "model": "m.gguf",
        "steps": {
            "limits": {"seconds": 1, "result": {"read_gb_s": [4000.0, 4100.0, 3900.0]}},
            "speed": {"seconds": 1, "result": {"load_s": 3.5, "decode@0": [500.0, 510.0]}},
            "parts": {
                "seconds": 1, "result": {"gate_up": {"launches": 48, "us": 200.0, "weights_mb": 400.0}},
            },
            "llama": {"seconds": 1, "result": {"turns": [
                {"refute": {"decode@0": 500.0}, "llama": {"decode@0": 250.0}},
                {"refute": {"decode@0": 300.0}, "llama": {"decode@0": 100.0}},
            ]}},
        },
    }  # fmt: skip
    said = gpu_report.tables(results).splitlines()
    assert "| read_gb_s | 4,000 | 3,900 | 4,100 | 4,300 |" in said
    assert "| load_s | 3.5 | 3.5 | 3.5 |  |" in said
    assert "| gate_up | 48 | 200.0 | 400.0 | 50% |" in said
    assert "| decode@0 | 400 | 175 | 2.50 |" in said


def test_llama_bench_is_read():
    rows = [
        {"n_gen": 0, "n_prompt": 512, "n_depth": 0, "avg_ts": 9000.0},
        {"n_gen": 0, "n_prompt": 512, "n_depth": 4096, "avg_ts": 8000.0},
        {"n_gen": 128, "n_prompt": 0, "n_depth": 4096, "avg_ts": 400.0},
    ]
    assert gpu_speed.told_by_llama(rows) == {"prefill@512": 9000.0, "decode@4096": 400.0}


@pytest.fixture(scope="module")
def emulated():
    build.compile_all()
    return cuda_emulator.EmulatedDevice()


def test_logits_have_one_digest_in_any_chunks_and_on_both_backends(emulated, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda, "CupyDevice", lambda _: emulated)
    path = write_tiny(tmp_path / "m.gguf", TinyModel(context=64))
    with Engine.load(path, "cuda") as there_, Engine.load(path, "cpu") as host:
        found = {**gpu_checks.digests(there_, (1, 7, 64)), "cpu": gpu_checks.digests(host, (64,))["64"]}
        assert len(set(found.values())) == 1
        assert gpu_checks.digest(gpu_checks.logits_of(host, 9, 9, 2)) not in found.values()


def test_the_bytes_of_a_tokens_launches_are_those_of_its_weights(emulated, monkeypatch, tmp_path):
    monkeypatch.setattr(cuda, "CupyDevice", lambda _: emulated)
    path = write_tiny(tmp_path / "m.gguf", TinyModel(architecture="qwen3", context=64, dense_ffn=64))
    with Engine.load(path, "cuda") as engine:
        cache = engine.new_cache(8)
        monkeypatch.setattr(cuda_emulator.EmulatedGraph, "launch", lambda _: None)  # what is recorded counts
        with gpu_speed._recorded(emulated) as launched:
            engine.model.forward([1], cache)
        read = sum(
            gpu_speed._READS[name](given) for name, _, _, given in launched if name in gpu_speed._READS
        )
        matrices = [info for info in engine.file.tensors.values() if len(info.shape) > 1]
        embedding = engine.file.tensors["token_embd.weight"].nbytes
        assert read == sum(info.nbytes for info in matrices) - embedding
        assert device_bytes(engine.file) >= read

"""The backend `cpu`: what is missing, or slow, is a warning with a fix."""

import sys
from pathlib import Path

import pytest

from refute.doctor.cpu import look_at_kernels
from refute_runtime.backends.simd import build


def checks():
    return {check.name: check for check in look_at_kernels()}


def test_what_is_there_is_told():
    found = checks()
    assert list(found) == ["numba", "instructions", "threads", "kernels"]
    assert build.processor().path in found["instructions"].found


def test_without_numba_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    (check,) = checks().values()
    assert (check.state, check.fix) == ("warn", "pip install 'refute[cpu]'")


@pytest.mark.parametrize(("layer", "state"), [("omp", "ok"), ("tbb", "ok"), ("workqueue", "warn")])
def test_slow_threads_are_a_warning(monkeypatch, layer, state):
    monkeypatch.setattr(build, "threading_layer", lambda: layer)
    check = checks()["threads"]
    assert (check.state, "libgomp" in check.fix) == (state, state == "warn")


def test_kernels_that_are_compiled_in_every_run_are_a_warning(monkeypatch):
    monkeypatch.setattr(build, "folder", lambda: build.Folder(Path("/x"), "the cache cannot be written"))
    check = checks()["kernels"]
    assert (check.state, check.found) == ("warn", "the cache cannot be written")
    assert "XDG_CACHE_HOME" in check.fix


AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ({"avx2", *AVX512}, "vnni"),
        ({"avx2"}, "avx2, as AVX512-VNNI is missing, with which they are faster"),
        (set(), "portable, as AVX2 is missing, with which they are faster"),
    ],
)
def test_the_instructions_name_the_kernels(monkeypatch, features, says):
    monkeypatch.setattr(build, "processor", lambda: build.Processor("a-lake", frozenset(features)))
    assert checks()["instructions"].found == f"a-lake: kernels {says}"

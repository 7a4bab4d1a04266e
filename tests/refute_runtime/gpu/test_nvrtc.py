"""The compiler needs no GPU: here every kernel is compiled for every architecture."""

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from refute_runtime.backends.gpu import nvrtc
from refute_runtime.errors import RuntimeFailure, UnsupportedError

ADD = """
extern "C" __global__ void __launch_bounds__(32) plus(float* x, float y) { x[threadIdx.x] += y; }
"""
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) much(float* x) {
    float kept[200];
    for (int i = 0; i < 200; i++) kept[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 200; i++) x[threadIdx.x * 200 + i] = kept[(i * 7 + threadIdx.x) % 200] + kept[i];
}
"""


@pytest.fixture
def compiling(monkeypatch):
    """Names of the sources that are compiled from now on."""
    names, honest = [], nvrtc.compile_source
    monkeypatch.setattr(nvrtc, "compile_source", lambda *given: names.append(given[2]) or honest(*given))
    return names


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", nvrtc.names())
def test_every_kernel_compiles_for_every_architecture_and_spills_nothing(name, architecture):
    compiled = nvrtc.compile_source(nvrtc.text(name), architecture, name)
    assert compiled.code.startswith(b"\x7fELF")
    assert compiled.usage
    for each in compiled.usage:
        assert (each.stack, each.spill_stores, each.spill_loads) == (0, 0, 0), each


def test_what_is_launched_is_compiled():
    folder = Path(nvrtc.__file__).parent
    wanted = set()
    for module in ("launches.py", "decoding.py"):
        for found in re.findall(r'device\.launch\(\s*f?"([^"]+)"', (folder / module).read_text()):
            wanted |= {found.format(width=width) for width in (1, 4, 8)}
    compiled = [nvrtc.compile_source(nvrtc.text(name), 90, name) for name in nvrtc.names()]
    there = [usage.name for each in compiled for usage in each.usage]
    assert len(wanted) > 20
    assert wanted <= set(there)
    assert len(there) == len(set(there))


def test_a_kernel_that_spills_is_seen():
    (usage,) = nvrtc.compile_source(SPILLING, 90).usage
    assert usage.name == "much"
    assert usage.stack > 0


def test_what_is_wrong_is_named_with_its_file_and_line():
    text = nvrtc.text("rows").replace('extern "C" __global__', 'extern "C" __globl__', 1)
    with pytest.raises(RuntimeFailure, match=r"rows\.cu does not compile for sm_90:\nrows\.cu\(\d+\): error"):
        nvrtc.compile_source(text, 90, "rows")


def test_an_architecture_that_the_compiler_does_not_know_is_named():
    with pytest.raises(UnsupportedError, match=r"does not compile for sm_35, expected one of sm_75.*newer"):
        nvrtc.compile_source(ADD, 35)


def test_code_is_kept_by_architecture_and_driver(tmp_path, compiling):
    told = []
    first = nvrtc.cubins(90, "580.1", tmp_path, lambda *done: told.append(done), ["choose"])
    assert told == [(0, 1), (1, 1)]
    assert nvrtc.cubins(90, "580.1", tmp_path, None, ["choose"]) == first
    assert compiling == ["choose"]
    nvrtc.cubins(90, "580.2", tmp_path, None, ["choose"])
    nvrtc.cubins(80, "580.1", tmp_path, None, ["choose"])
    assert compiling == ["choose"] * 3


@pytest.mark.parametrize("harm", [lambda code: code[:-1], lambda _: b"", lambda code: code[:-1] + b"\1"])
def test_code_that_was_harmed_is_compiled_again(tmp_path, compiling, harm):
    first = nvrtc.cubins(90, "", tmp_path, None, ["choose"])
    (file,) = tmp_path.iterdir()
    file.write_bytes(harm(file.read_bytes()))
    assert nvrtc.cubins(90, "", tmp_path, None, ["choose"]) == first
    assert compiling == ["choose", "choose"]


def test_a_folder_that_cannot_be_written_costs_a_compilation_only(tmp_path, compiling):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert nvrtc.cubins(90, "", tmp_path / "file", None, ["choose"])["choose"].code.startswith(b"\x7fELF")
    assert compiling == ["choose"] * 2


def test_code_is_compiled_where_there_is_no_place_for_it(monkeypatch, compiling):
    def nowhere(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(nvrtc, "user_cache", nowhere)
    assert nvrtc.cubins(90, "", None, None, ["choose"])["choose"].code.startswith(b"\x7fELF")
    assert compiling == ["choose"]
    assert not nvrtc.kept_all(90)


def test_code_of_four_states_of_a_source_is_kept(tmp_path, monkeypatch):
    code = nvrtc.compile_source(ADD, 90)
    monkeypatch.setattr(nvrtc, "compile_source", lambda _, architecture, name: replace(code, source=name))
    for architecture in (80, 90):
        nvrtc.cubins(architecture, "other", tmp_path, None, ["choose", "rows"])
    for age, file in enumerate(tmp_path.iterdir()):
        os.utime(file, (age, age))
    for driver in range(6):
        nvrtc.cubins(90, str(driver), tmp_path, None, ["choose"])
    kinds = Counter(file.name.rpartition("-")[0] for file in tmp_path.iterdir())
    assert kinds == {"choose-sm_80": 1, "choose-sm_90": 4, "rows-sm_80": 1, "rows-sm_90": 1}


def test_all_is_kept_only_when_all_is(tmp_path):
    nvrtc.cubins(90, "", tmp_path, None, ["choose"])
    assert not nvrtc.kept_all(90, "", tmp_path)


def test_without_the_compiler_the_extra_is_named(monkeypatch):
    nvrtc._nvrtc.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "cuda.bindings", None)
    try:
        with pytest.raises(
            UnsupportedError, match=r"NVRTC cannot be loaded \(.*pip install 'refute\[cuda13\]'"
        ):
            nvrtc.version()
    finally:
        nvrtc._nvrtc.cache_clear()

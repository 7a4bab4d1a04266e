"""Which backend computes, and what is said where it is not the fastest one."""

import sys
from types import ModuleType

import pytest
from tiny_gguf import TinyModel, write_tiny

from refute_runtime.backends.array import ArrayBackend
from refute_runtime.backends.choice import COMPILING, READING
from refute_runtime.backends.simd import build
from refute_runtime.engine import Engine
from refute_runtime.errors import UnsupportedError

REASON = "blk.0.attn_q.weight has type Q2_K"


class Compiled(ArrayBackend):
    """Stands in for the compiled backend: what it computes is not the matter here."""

    name = "cpu"
    lacking: str | None = None

    @classmethod
    def lacks(cls, weights) -> str | None:
        return cls.lacking

    def __init__(self, config, weights, threads) -> None:
        super().__init__(config, weights, threads=threads or 4)
        self.blocks = weights.blocks


@pytest.fixture
def compiled(monkeypatch):
    """Puts the stand-in where the backend is imported from."""
    module = ModuleType("refute_runtime.backends.cpu")
    module.CpuBackend = Compiled
    monkeypatch.setitem(sys.modules, "refute_runtime.backends.cpu", module)
    monkeypatch.setattr(Compiled, "lacking", None)
    monkeypatch.setattr(build, "compile_all", lambda progress: progress and progress(0, 1, "a kernel"))
    return monkeypatch


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("choice") / "m.gguf", TinyModel())


def test_the_fastest_is_taken_that_can_run_the_model(compiled, path):
    with Engine.load(path, device="cpu") as engine:
        assert engine.backend.name == engine.settings["backend"] == "cpu"
        assert engine.backend.blocks.kind == "memory"
        assert engine.settings["weights"] == "memory (enough memory is free)"


def test_a_type_that_it_does_not_have_leaves_array_and_is_told(compiled, path):
    compiled.setattr(Compiled, "lacking", REASON)
    with Engine.load(path, device="cpu") as engine:
        assert (engine.backend.name, engine.settings["weights"]) == ("array", "mmap")
        assert engine.notes == (f"computing on the backend array: {REASON}",)
    with pytest.raises(UnsupportedError, match=f"m.gguf: the backend cpu cannot compute: {REASON}"):
        Engine.load(path, "cpu")


def test_without_numba_it_is_told_once_what_that_costs(compiled, path):
    compiled.setitem(sys.modules, "numba", None)
    with Engine.load(path, device="cpu") as engine:
        (note,) = engine.notes
    assert engine.backend.name == "array"
    assert "numba" in note
    assert "pip install 'refute[cpu]'" in note
    with pytest.raises(UnsupportedError, match=r"pip install 'refute\[cpu\]'"):
        Engine.load(path, "cpu")


def test_array_stays_what_it_is(compiled, path):
    with Engine.load(path, "array", "cpu") as engine:
        assert (engine.backend.name, engine.backend.threads, engine.weights.blocks) == ("array", 1, None)
        assert engine.notes == ()
    with pytest.raises(UnsupportedError, match="array computes on the mapped file"):
        Engine.load(path, "array", "cpu", mmap=False)


@pytest.mark.parametrize(("mmap", "kind"), [(True, "mmap (asked for)"), (False, "memory (asked for)")])
def test_what_is_asked_for_is_done(compiled, path, mmap, kind):
    with Engine.load(path, "cpu", mmap=mmap) as engine:
        assert engine.settings["weights"] == kind


def test_threads_are_for_the_backend_to_say_or_as_asked_for(compiled, path):
    for threads, expected in ((None, 4), (2, 2)):
        with Engine.load(path, "cpu", threads=threads) as engine:
            assert engine.settings["threads"] == expected
    with Engine.load(path, "array", "cpu", threads=2) as engine:
        assert engine.settings["threads"] == 2


def test_several_processes_share_the_processors(compiled, path):
    compiled.setattr(build, "most_threads", lambda: 6)
    for processes, threads in ((1, 4), (2, 3), (9, 1)):
        with Engine.load(path, "cpu", processes=processes) as engine:
            assert engine.settings["threads"] == threads
    with Engine.load(path, "cpu", threads=4, processes=9) as engine:
        assert engine.settings["threads"] == 4
    with Engine.load(path, "array", "cpu", processes=2) as engine:
        assert engine.settings["threads"] == 1


def test_loading_is_told(compiled, path):
    told = []
    with Engine.load(path, "cpu", progress=lambda *each: told.append(each)) as engine:
        total = sum(info.nbytes for info in engine.file.tensors.values())
    assert told[0] == (COMPILING, 0, 1)
    assert told[-1] == (READING, total, total)


@pytest.mark.parametrize(
    ("backend", "device", "sentence"),
    [
        ("blas", "cpu", "'blas', expected one of auto, array, cpu, cuda, mirror"),
        ("auto", "tpu", "device is 'tpu'"),
        ("cpu", "tpu", "device is 'tpu'"),
    ],
)
def test_what_there_is_not_is_refused(path, backend, device, sentence):
    with pytest.raises(UnsupportedError, match=sentence):
        Engine.load(path, backend, device)


def test_another_backend_on_the_same_weights_keeps_what_was_told(compiled, path):
    compiled.setattr(Compiled, "lacking", REASON)
    with Engine.load(path, device="cpu") as engine:
        assert engine.with_threads(3).notes == engine.notes


def test_long_prompts_are_told_layer_by_layer(path):
    told = []
    with Engine.load(path, "array", "cpu", progress=lambda *each: told.append(each)) as engine:
        for engine_ in (engine, engine.with_threads(2)):
            engine_.model.forward([1] * 40, engine_.new_cache(41))
        engine.model.forward([1] * 4, engine.new_cache(5))
    assert told == [("computing 40 tokens", layer + 1, 2) for layer in range(2)] * 2

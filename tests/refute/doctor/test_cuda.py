"""What stands in the way of the backend `cuda`, told without a GPU."""

import sys

import fake_cupy
import pytest

from refute.doctor.cuda import look_at_cuda
from refute_runtime.backends import cuda
from refute_runtime.backends.cuda import Found
from refute_runtime.backends.gpu import nvrtc
from refute_runtime.errors import UnsupportedError

WHOLE = Found("14.2.0", 13000, 13000, (9, 0), "H200")


def last(found, *, wanted=True):
    """The last check: where nothing is missing that of the kernels, else what stands in the way."""
    return list(look_at_cuda(found, wanted=wanted))[-1]


@pytest.mark.parametrize(
    ("found", "name", "told", "fix"),
    [
        (Found(why="No module named 'cupy'"), "CuPy", "No module named 'cupy'", "refute[cuda13]"),
        (Found("14.2.0", None, 13000), "CUDA driver", "none answers", "driver"),
        (
            Found("14.2.0", 12080, 13000),
            "CUDA driver",
            "knows CUDA 12.8, CuPy is made for 13.0",
            "refute[cuda12]",
        ),
        (Found("14.2.0", 13000, 13000, why="no device"), "CUDA GPU", "no device", "nvidia-smi"),
        (Found("14.2.0", 13000, 13000, (7, 5), "T4"), "CUDA GPU", "7.5, expected 8.0", "--backend array"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(found, name, told, fix):
    check = last(found)
    assert (check.name, check.state) == (name, "fail")
    assert told in check.found
    assert fix in check.fix
    assert last(found, wanted=False).state in {"ok", "warn"}


def test_without_a_compiler(monkeypatch):
    def missing():
        raise UnsupportedError("NVRTC cannot be loaded (no library); pip install")

    monkeypatch.setattr(nvrtc, "version", missing)
    check = last(WHOLE)
    assert (check.name, check.state, check.found) == ("NVRTC", "fail", "NVRTC cannot be loaded (no library)")


def test_a_compiler_that_is_older_than_the_gpu():
    check = last(Found("14.2.0", 13000, 13000, (99, 0), "Later"))
    assert (check.name, check.state) == ("NVRTC", "fail")
    assert "does not compile for sm_990" in check.found


@pytest.mark.parametrize(("kept", "told"), [(True, "kept from before"), (False, "at first use")])
def test_kernels_are_kept_or_to_be_compiled(monkeypatch, kept, told):
    monkeypatch.setattr(nvrtc, "kept_all", lambda *_: kept)
    check = last(WHOLE)
    assert (check.name, check.state) == ("CUDA kernels", "ok")
    assert told in check.found


def test_found_is_what_cupy_says(monkeypatch):
    module = fake_cupy.make()
    module.__version__ = "14.2.0"
    module.cuda.runtime.runtimeGetVersion = lambda: 13000
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert cuda.found() == Found("14.2.0", 13000, 13000, (9, 0), "Fake GPU 0")


def test_found_is_nothing_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    found = cuda.found()
    assert found.cupy is None
    assert "cupy" in found.why

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest

from refute_runtime.backends.simd import build

VNNI = {"avx512f", "avx512bw", "avx512vl", "avx512vnni"}

KERNELS = """
import json, sys
import numpy as np
from refute_runtime.backends.simd import build

@build.kernel("int64(int64)")
def one(x):
    return x + 1

@build.kernel("int64(int64)")
def two(x):
    return one(x) * 2

told = []
build.compile_all(lambda *each: told.append(each))
print(json.dumps({
    "value": two(20), "told": told, "folder": str(build.folder().path), "why": build.folder().why,
    "hits": sum(two.stats.cache_hits.values()),
}))
"""


@pytest.fixture
def script(tmp_path: Path):
    """A script with two kernels, in processes that have a cache of their own."""
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS)
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    roots = os.pathsep.join(each for each in sys.path if each)

    def start(path: Path = path, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(path)],
            env={**environ, "PYTHONPATH": roots, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def answer(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture
def own_kernels(monkeypatch, tmp_path):
    """No kernels but those of the test, kept in a folder of the test."""
    monkeypatch.setattr(build, "_KERNELS", [])
    kept = build.Folder(tmp_path)
    monkeypatch.setattr(build, "folder", lambda: kept)


@pytest.mark.parametrize("missing", sorted(VNNI))
def test_vnni_needs_every_feature(missing):
    assert build.Processor("x", frozenset({"avx2", *VNNI})).path == "vnni"
    assert build.Processor("x", frozenset({"avx2", *VNNI} - {missing})).path == "avx2"


def test_any_processor_has_its_kernels():
    assert build.Processor("x", frozenset({"neon", "fullfp16"})).path == "portable"


def test_two_processes_compile_at_once_and_a_third_takes_what_they_kept(script):
    both = [script(), script()]
    first, second = map(answer, both)
    assert first["value"] == second["value"] == 42
    assert sorted([len(first["told"]), len(second["told"])]) == [0, 3]  # one waited for the other
    third = answer(script())
    assert third["told"] == []
    assert third["hits"] == 1
    assert third["folder"] == first["folder"]


def test_a_copy_of_the_sources_takes_what_was_compiled_for_the_first(script, tmp_path):
    first = answer(script())
    copy = tmp_path / "copy/kernels.py"
    copy.parent.mkdir()
    copy.write_text(KERNELS)
    os.utime(copy, (1, 1))
    second = answer(script(copy))
    assert (first["hits"], second["hits"], second["told"]) == (0, 1, [])


def test_a_cache_that_cannot_be_written_is_replaced_for_this_process_and_said(script, tmp_path):
    (tmp_path / "file").write_text("")
    told = answer(script(XDG_CACHE_HOME=str(tmp_path / "file")))
    assert told["value"] == 42
    assert "cannot be written" in told["why"]
    assert not Path(told["folder"]).exists()


def test_a_change_of_any_source_is_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_SOURCES", tmp_path)
    (tmp_path / "a.py").write_text("1")
    before = build._key()
    (tmp_path / "b.py").write_text("2")
    assert build._key() != before


@pytest.mark.usefixtures("own_kernels")
def test_kernels_leave_other_functions_their_cache():
    before = dict(vars(numba.config))
    build.kernel("int64(int64)")(same)
    assert before == vars(numba.config)


@pytest.mark.usefixtures("own_kernels")
def test_a_kernel_is_compiled_for_no_second_type():
    made = build.kernel("float32(float32[::1])")(first_of)
    build.compile_all()
    given = np.ones(3, np.float32)
    assert made(given) == 1
    given.flags.writeable = False
    with pytest.raises(TypeError, match="No matching definition"):
        made(given)


def test_one_python_thread_at_a_time_runs_kernels():
    inside: list[int] = []

    def other() -> None:
        with build.alone(1):
            inside.append(2)

    with build.alone(build.most_threads() + 5):
        assert numba.get_num_threads() == build.most_threads()
        thread = threading.Thread(target=other)
        thread.start()
        inside.append(1)
    thread.join()
    assert inside == [1, 2]


def test_a_slow_library_of_threads_is_told_with_what_to_install(monkeypatch):
    assert build.threading_layer() in {"tbb", "omp", "workqueue"}
    monkeypatch.setattr(build, "threading_layer", lambda: "omp")
    assert build.slow_layer() is None
    monkeypatch.setattr(build, "threading_layer", lambda: "workqueue")
    assert "libgomp" in (build.slow_layer() or "")


def same(x):
    return x


def first_of(x):
    return x[0]


@pytest.mark.parametrize(
    ("named", "expected"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "passive"}, None)],
    ids=["nothing", "spins", "policy"],
)
def test_threads_wait_for_a_moment_or_as_the_user_says(monkeypatch, named, expected):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    build.compile_all()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    os.environ.pop("GOMP_SPINCOUNT", None)

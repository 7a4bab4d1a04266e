"""For which processor kernels are compiled, where they are kept, and who may run them.

A module makes its kernels with `kernel`, `compile_all` compiles them all or takes them from the cache, and
`alone` is held around whatever runs them. Numba keeps compiled code by the file that a function is in and
does not see a change of what that file imports, so here each state of all sources has a folder of its own
(`locator` tells Numba).
"""

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from refute_runtime.places import prune, user_cache, write_whole

CodePath = Literal["vnni", "avx2", "portable"]
Progress = Callable[[int, int, str], None]
"""Told kernels done, kernels in all, and the name of the one that is compiled now."""

_NEEDS: tuple[tuple[CodePath, frozenset[str]], ...] = (  # the fastest first
    ("vnni", frozenset({"avx512f", "avx512bw", "avx512vl", "avx512vnni"})),
    ("avx2", frozenset({"avx2"})),
    ("portable", frozenset()),
)
_SOURCES = Path(__file__).parent
_SPINS = 2000  # some 30 us: longer than the way from one kernel to the next
_KEPT = 4  # states of the sources whose compiled code is kept
_COMPLETE = "complete"  # the file that names the kernels which were compiled whole
_ALONE = threading.RLock()
_KERNELS: list["Kernel"] = []


@dataclass(frozen=True, slots=True)
class Processor:
    """What this machine computes with, as LLVM names it."""

    name: str
    features: frozenset[str]

    @property
    def path(self) -> CodePath:
        """The kernels that it can run: an instruction that is not there ends the process, without a word."""
        return next(path for path, needed in _NEEDS if self.features >= needed)

    @property
    def totals(self) -> int:
        """Vectors of 16 floats that its registers hold while others pass through them, a power of two."""
        return 16 if "avx512f" in self.features else 4


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function of Numba, and the signatures that it is compiled for."""

    name: str
    dispatcher: Any
    signatures: tuple[Any, ...]

    @property
    def compiled(self) -> bool:
        """Whether it is ready to run."""
        return len(self.dispatcher.signatures) >= len(self.signatures)


@cache
def processor() -> Processor:
    """Return what LLVM finds in this machine."""
    from llvmlite import binding  # noqa: PLC0415 (an extra)

    found = binding.get_host_cpu_features()
    return Processor(binding.get_host_cpu_name(), frozenset(name for name, there in found.items() if there))


def kernel(*signatures: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate like `numba.njit(**options)`, kept in the cache; compiled for these signatures, and later.

    signatures: as Numba takes them. Afterwards no other is compiled: a call with other types is an error, not
    a second compilation. Arrays are writeable ones: a read-only array is another type.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        import numba  # noqa: PLC0415 (an extra)

        # Only these functions: a user's own ones keep their own cache. Old versions go by the folder alone.
        ours = {"CACHE_DIR": str(folder().path), "CACHE_LOCATOR_CLASSES": f"{__package__}.locator.Locator"}
        before = {name: getattr(numba.config, name, "") for name in ours}
        try:
            vars(numba.config).update(ours)
            dispatcher = numba.njit(cache=True, **options)(function)
        finally:
            vars(numba.config).update(before)
        _KERNELS.append(Kernel(f"{function.__module__}.{function.__qualname__}", dispatcher, signatures))
        return dispatcher

    return decorate


def compile_all(progress: Progress | None = None) -> None:
    """Compile every kernel that was made, or take it from the cache; processes wait for one that compiles.

    progress: only told where something has to be compiled.
    """
    with _ALONE:
        _wait_briefly()
        waiting = [each for each in _KERNELS if not each.compiled]
        if not waiting:
            return
        names = [each.name for each in waiting]
        kept = folder()
        if kept.has(names):
            _compile(waiting, None)
            return
        with kept.locked():
            _compile(waiting, None if kept.has(names) else progress)
            kept.note(names)


def _wait_briefly() -> None:
    """Have OpenMP's threads sleep after a moment of waiting for one another, unless the user said otherwise.

    By default they turn round and round for milliseconds. Where anything else runs on the machine, a thread
    then waits at full speed for one that this very waiting keeps off the processor, and decoding takes ten
    times as long. It is read when OpenMP's library is loaded, with the first parallel kernel.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))


def _compile(kernels: Sequence[Kernel], progress: Progress | None) -> None:
    for place, each in enumerate(kernels):
        if progress is not None:
            progress(place, len(kernels), each.name.rpartition(".")[2])
        for signature in each.signatures:
            each.dispatcher.compile(signature)
    if progress is not None:
        progress(len(kernels), len(kernels), "")
    for each in kernels:  # not before: a kernel may call another one
        each.dispatcher.disable_compile()


@contextmanager
def alone(threads: int) -> Iterator[None]:
    """Hold off all other Python threads that would run kernels, and run them on so many threads.

    Numba's own threads end the process (`workqueue`) or crowd each other out (`omp`) where two Python threads
    start parallel code at once.
    """
    import numba  # noqa: PLC0415 (an extra)

    with _ALONE:
        numba.set_num_threads(min(threads, most_threads()))  # per Python thread: a new one begins with all
        yield


def most_threads() -> int:
    """Threads that Numba can run here."""
    import numba  # noqa: PLC0415 (an extra)

    return int(numba.config.NUMBA_NUM_THREADS)


def threading_layer() -> str:
    """Start the threads, if they were not, and return which library runs them."""
    import numba  # noqa: PLC0415 (an extra)

    with _ALONE:
        numba.set_num_threads(numba.get_num_threads())
        return str(numba.threading_layer())


def slow_layer() -> str | None:
    """Say what a slow library of threads costs; None where it is a fast one."""
    if threading_layer() != "workqueue":
        return None
    return (
        "threads are Numba's own (workqueue), which about halves the speed: install libgomp "
        "(libgomp1 on Debian and Ubuntu), and Numba takes it by itself"
    )


@dataclass(frozen=True)
class Folder:
    """Where compiled kernels are kept. why: what was wrong with the usual place, where it is another one."""

    path: Path
    why: str | None = None

    @property
    def complete(self) -> bool:
        """Whether kernels were compiled and kept here before."""
        return bool(self._done)

    def has(self, names: Sequence[str]) -> bool:
        """Whether all of these kernels were compiled and kept here."""
        return self._done.issuperset(names)

    def note(self, names: Sequence[str]) -> None:
        """Remember that these are here now."""
        with suppress(OSError):
            lines = sorted(self._written() | set(names))
            write_whole(self.path / _COMPLETE, "\n".join(lines).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time compile; on systems without such locks each compiles for itself."""
        try:
            import fcntl  # noqa: PLC0415 (not on every system)
        except ImportError:
            yield
            return
        with (self.path / "lock").open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)  # the system lets it go when a process ends, however it does
            self.__dict__.pop("_done", None)  # another process may have compiled meanwhile
            yield

    @cached_property
    def _done(self) -> frozenset[str]:
        return self._written()

    def _written(self) -> frozenset[str]:
        try:
            return frozenset((self.path / _COMPLETE).read_text(encoding="utf-8").splitlines())
        except OSError:
            return frozenset()


@cache
def folder() -> Folder:
    """Make the folder of this state of the sources, in the user's cache; remove those of old states.

    Where it cannot be written it is a temporary one, which ends with the process: code in a folder that
    others can write is not to be run.
    """
    try:
        place = user_cache(os.environ, platform.system()) / "refute" / "kernels"
        path = place / _key()
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            os.utime(path)
    except (OSError, RuntimeError) as error:
        import atexit  # noqa: PLC0415 (seldom)

        path = Path(tempfile.mkdtemp(prefix="refute-kernels-"))
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return Folder(
            path, f"the user's cache cannot be written ({error}): kernels are compiled in every run"
        )
    prune(place.glob("*"), _KEPT)
    return Folder(path)


def _key() -> str:
    """Digest of all that compiled code depends on."""
    import llvmlite  # noqa: PLC0415 (an extra)
    import numba  # noqa: PLC0415 (an extra)

    found = processor()
    total = hashlib.sha256()
    versions = (numba.__version__, llvmlite.__version__, sys.version, found.name, *sorted(found.features))
    total.update("\0".join(versions).encode())
    for source in sorted(_SOURCES.glob("*.py")):
        content = source.read_bytes()
        total.update(f"{source.name}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:32]

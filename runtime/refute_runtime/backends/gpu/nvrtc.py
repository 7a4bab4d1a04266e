"""CUDA C to machine code by NVRTC, and where the code is kept.

A source in `kernels/` is compiled with all `*.cuh` put before it, into a cubin for one architecture, at first
use. Kept in the user's cache under a key of all that the code depends on, with a digest: a file that was cut
or changed is compiled again. This needs no GPU.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.places import prune, user_cache, write_whole

KERNELS = Path(__file__).parent.parent / "kernels"
ARCHITECTURES = (80, 86, 89, 90, 100, 120)  # compute capability without its point: what is compiled in tests
LEAST = 80  # int8 tensor cores of the shape that prefill uses, asynchronous copies
FLAGS = ("--std=c++17", "--fmad=false", "--ptxas-options=-v")
Progress = Callable[[int, int], None]
"""Told sources compiled, and sources in all."""

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes "
    r"spill stores, (?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_DIGEST = 32  # bytes of sha256 before the code in a file
_KEPT = 4  # states of a source whose code for one architecture is kept


@dataclass(frozen=True, slots=True)
class Usage:
    """What the assembler says of one kernel: bytes but for `registers`, of one thread."""

    name: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """A cubin, and what its kernels use."""

    source: str
    code: bytes
    usage: tuple[Usage, ...]


def names() -> tuple[str, ...]:
    """Sources, without their ending."""
    return tuple(sorted(path.stem for path in KERNELS.glob("*.cu")))


@cache
def text(name: str) -> str:
    """One source as it is compiled; its own lines keep their file's name and number in messages."""
    shared = sorted(KERNELS.glob("*.cuh"))
    parts = [(path, path.read_text(encoding="utf-8")) for path in [*shared, KERNELS / f"{name}.cu"]]
    return "".join(f'#line 1 "{path.name}"\n{content}\n' for path, content in parts)


def version() -> tuple[int, int]:
    """Return NVRTC's version. Raises `UnsupportedError` where it cannot be loaded."""
    nvrtc = _nvrtc()
    major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    return major, minor


def compiles_for() -> tuple[int, ...]:
    """Architectures that this NVRTC knows. Raises `UnsupportedError` where it cannot be loaded."""
    nvrtc = _nvrtc()
    (found,) = _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs())
    return tuple(found)


def compile_source(source: str, architecture: int, name: str = "kernel") -> Compiled:
    """Compile one text for an architecture, such as 90.

    Raises `UnsupportedError` where NVRTC is missing or does not know the architecture, `RuntimeFailure` with
    the compiler's messages, each naming file and line, for a source that is wrong.
    """
    nvrtc = _nvrtc()
    if architecture not in compiles_for():
        known = ", ".join(f"sm_{each}" for each in compiles_for())
        raise UnsupportedError(
            f"NVRTC {'.'.join(map(str, version()))} does not compile for sm_{architecture}, expected one of "
            f"{known}; install a newer nvidia-cuda-nvrtc"
        )
    (program,) = _checked(nvrtc, nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], []))
    try:
        options = [f"-arch=sm_{architecture}".encode(), *(flag.encode() for flag in FLAGS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        (size,) = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        log = b" " * size
        _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
        said = log.decode(errors="replace").strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeFailure(f"{name}.cu does not compile for sm_{architecture}:\n{said}")
        (size,) = _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        code = b" " * size
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return Compiled(name, code, usage_of(said))


def usage_of(log: str) -> tuple[Usage, ...]:
    """Registers and spills of each kernel, as the assembler's log says."""
    fields = ("registers", "stack", "stores", "loads")
    return tuple(
        Usage(match["name"], *(int(match[field]) for field in fields)) for match in _ENTRY.finditer(log)
    )


def cubins(
    architecture: int,
    driver: str = "",
    folder: Path | None = None,
    progress: Progress | None = None,
    wanted: Iterable[str] | None = None,
) -> dict[str, Compiled]:
    """Code of all sources, or of those wanted, by name: kept from before, or compiled now.

    driver: its version, where it is known: code is compiled anew after an update. folder: instead of the
    user's cache; where there is none that can be written, code is compiled in every run. Raises as
    `compile_source`.
    """
    chosen = tuple(names() if wanted is None else wanted)
    place = _place() if folder is None else folder
    paths = {} if place is None else {name: place / _file(name, architecture, driver) for name in chosen}
    found = {name: kept for name, path in paths.items() if (kept := _kept(path, name)) is not None}
    missing = [name for name in chosen if name not in found]
    if progress is not None and missing:
        progress(0, len(missing))
    with ThreadPoolExecutor(max(1, min(len(missing), os.cpu_count() or 1)), "nvrtc") as pool:
        made = pool.map(lambda name: compile_source(text(name), architecture, name), missing)
        for done, each in enumerate(made, start=1):
            found[each.source] = each
            if each.source in paths:
                _keep(paths[each.source], each)
                states = paths[each.source].parent.glob(f"{each.source}-sm_{architecture}-*.cubin")
                prune(states, _KEPT)
            if progress is not None:
                progress(done, len(missing))
    return found


def kept_all(architecture: int, driver: str = "", folder: Path | None = None) -> bool:
    """Whether nothing has to be compiled."""
    place = _place() if folder is None else folder
    return place is not None and all(
        _kept(place / _file(name, architecture, driver), name) is not None for name in names()
    )


def _place() -> Path | None:
    with suppress(RuntimeError):  # there is no such place
        return user_cache(os.environ, platform.system()) / "refute" / "cubins"
    return None


def _file(name: str, architecture: int, driver: str) -> str:
    total = hashlib.sha256()
    for part in (text(name), *FLAGS, str(architecture), repr(version()), driver):
        total.update(f"{len(part)}\0{part}".encode())
    return f"{name}-sm_{architecture}-{total.hexdigest()[:32]}.cubin"


def _kept(path: Path, name: str) -> Compiled | None:
    """Read what `_keep` wrote: None where it is not there, or not whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, rest = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(rest).digest() != digest:
        return None
    usage, _, code = rest.partition(b"\n")
    return Compiled(name, code, tuple(Usage(**each) for each in json.loads(usage)))


def _keep(path: Path, compiled: Compiled) -> None:
    rest = json.dumps([asdict(each) for each in compiled.usage]).encode() + b"\n" + compiled.code
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(rest).digest() + rest)


@cache
def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc  # noqa: PLC0415 (an extra)

        nvrtc.nvrtcVersion()
    except Exception as error:  # the binding has an exception type per way that a library is not found
        raise UnsupportedError(
            f"NVRTC cannot be loaded ({_first_line(error)}); pip install 'refute[cuda13]', or "
            "'refute[cuda12]' where the driver is older than 580"
        ) from error
    return nvrtc


def _checked(nvrtc: Any, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    status, *values = answer
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeFailure(f"NVRTC failed with {status.name}; expected it to compile the bundled kernels")
    return tuple(values)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

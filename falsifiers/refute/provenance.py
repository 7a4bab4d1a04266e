"""Where a run comes from: code, host, Python, command line and model file, read from the system itself.

What cannot be known is null, never a guess. Of the environment only names are kept.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from refute.host import boot_id, facts, start_ticks, testbed
from refute.redaction import redact

_RELEVANT = re.compile(r"(REFUTE_|QWEN3_|HYPOTHESIS_|PYTEST_|OMP_|OPENBLAS_|MKL_|NUMBA_|CUDA_|PYTHON|CI$)")
_CHUNK = 1 << 22
Progress = Callable[[int, int], None]


def collect(
    *,
    argv: Sequence[str],
    seeds: Mapping[str, int],
    directory: Path | None = None,
    evidence: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the provenance of a run that starts now, as `findings.json` holds it.

    directory: whose repository is named; the working directory, if not given. evidence: the tree of records.
    """
    environment = os.environ if environment is None else environment
    known = facts()
    return {
        "git": git_state(directory or Path.cwd(), evidence),
        "facts": known,
        "testbed": testbed(known),
        "python": {"implementation": platform.python_implementation(), "version": platform.python_version()},
        "packages": packages(),
        "argv": redact(argv),
        "environment": sorted(name for name in environment if _RELEVANT.match(name)),
        "seeds": dict(seeds),
        "harness": {
            "name": "refute",
            "version": _version("refute"),
            "digest": harness_digest(),
        },
    }


def git_state(directory: Path, evidence: Path | None = None) -> dict[str, Any]:
    """Return commit and dirty flag of the repository around a directory; null and a reason without one.

    diff_sha256: of a dirty tree, what tells it from others: sha256 of its difference to the commit and of
    the names that git does not track; null where that cannot be had. evidence: a tree of records, which is no
    change of what is attacked: else no run but the first could be a clean one.
    """
    try:
        commit = _git(directory, "rev-parse", "HEAD").decode().strip()
        where = _without(directory, evidence)
        changes = _git(directory, "status", "--porcelain", "--untracked-files=normal", *where)
    except FileNotFoundError:
        return _no_git("git is not installed")
    except subprocess.SubprocessError as error:
        text = getattr(error, "stderr", None) or str(error).encode()
        return _no_git(next(iter(text.decode(errors="replace").strip().splitlines()), "git failed")[:200])
    digest = None
    if changes:
        with suppress(subprocess.SubprocessError):  # a difference may be too large to be had in time
            digest = hashlib.sha256(_git(directory, "diff", "--binary", "HEAD", *where) + changes).hexdigest()
    return {"commit": commit, "dirty": bool(changes), "diff_sha256": digest, "reason": None}


def packages() -> dict[str, str]:
    """Return every installed distribution and its version."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[name.lower().replace("_", "-")] = distribution.version
    return dict(sorted(found.items()))


def package_digest(package: str, *, suffixes: Sequence[str] = (".py", ".cu", ".cuh")) -> str | None:
    """Return the content digest of a package, or a module, without importing it; None if it is not there.

    sha256 over its sources in the order of their paths, each as path, NUL, size, NUL, content: what
    the bundled engine reports of itself. The recipe of the embedded model runs nothing and is left out.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    recipe = root / "pocket" / "recipe"
    files = [Path(spec.origin)] if spec.submodule_search_locations is None else root.rglob("*")
    sources = (path for path in files if path.suffix in suffixes)
    digest = hashlib.sha256()
    for source in sorted(sources, key=lambda path: path.relative_to(root).parts):
        if not source.is_relative_to(recipe):
            content = source.read_bytes()
            digest.update(f"{source.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def harness_digest() -> str | None:
    """Return the content digest of refute itself, with what its schemas say."""
    return package_digest("refute", suffixes=(".py", ".json"))


def process_identity() -> dict[str, Any]:
    """Name this process so that no later one can be taken for it; nulls where there is no /proc."""
    return {"pid": os.getpid(), "boot_id": boot_id(), "start_ticks": start_ticks(os.getpid())}


def process_alive(identity: Mapping[str, Any]) -> bool:
    """Whether that process runs on this host now; False where nobody can tell."""
    if identity["boot_id"] is None or identity["start_ticks"] is None:
        return False
    same_boot = identity["boot_id"] == boot_id()
    return bool(same_boot and start_ticks(identity["pid"]) == identity["start_ticks"])


def cache_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return where digests are remembered: $XDG_CACHE_HOME/refute, else ~/.cache/refute."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "refute"


def model_sha256(path: Path, *, progress: Progress | None = None, cache: Path | None = None) -> str:
    """Return the sha256 of a model file, remembered by real path, inode, size and modification time.

    progress: called with (bytes done, bytes in all). cache: the file to remember in; a cache that
    cannot be read or written only costs time. Raises OSError where the model cannot be read.
    """
    path = path.resolve(strict=True)
    cache = cache_directory() / "model-digests.json" if cache is None else cache
    key = _file_key(path)
    known = _read_cache(cache)
    if key in known:
        return known[key]
    digest = hashlib.sha256()
    total, done = path.stat().st_size, 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if _file_key(path) == key:  # else it changed while it was read
        _write_cache(cache, {**_read_cache(cache), key: digest.hexdigest()})
    return digest.hexdigest()


def _file_key(path: Path) -> str:
    status = path.stat()
    return f"{path}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}"


def _read_cache(cache: Path) -> dict[str, str]:
    try:
        known = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if re.fullmatch("[0-9a-f]{64}", str(value))}


def _write_cache(cache: Path, known: Mapping[str, str]) -> None:
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(cache)
    except OSError:
        return


def _git(directory: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=20).stdout


def _without(directory: Path, tree: Path | None) -> list[str]:
    """Name to git all of a repository but one folder in it."""
    if tree is None:
        return []
    top = Path(os.fsdecode(_git(directory, "rev-parse", "--show-toplevel").removesuffix(b"\n")))
    folder = (directory / tree).resolve()
    if folder == top or not folder.is_relative_to(top):
        return []
    return ["--", ":/", f":(top,exclude,literal){folder.relative_to(top)}"]


def _no_git(reason: str) -> dict[str, Any]:
    return {"commit": None, "dirty": None, "diff_sha256": None, "reason": reason}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

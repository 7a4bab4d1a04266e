"""Which engine on which model is attacked: what is named, then the environment, then what is embedded.

Nothing here opens a model; what is missing becomes a sentence, and the falsifiers are then blocked.
"""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from refute.targets.base import Target

MODEL_VARIABLE = "QWEN3_MOE_GGUF_PATH"
BACKEND = "auto"  # where none is named
# those of the runtime; here too, so that nothing opens it to name them
BACKENDS = (BACKEND, "array", "cpu", "cuda", "mirror")
BACKEND_HELP = (
    "auto: the fastest that can run the model here; array: the specification, on NumPy or CuPy; "
    "cpu: compiled kernels on the blocks of the file (extra cpu); cuda: the same bits on a GPU (extra cuda12 "
    "or cuda13); mirror: the same bits in NumPy, slowly, to check them without a compiler or a GPU"
)
MMAP_HELP = (
    "whether the backend cpu maps the model's file, or reads it into memory, which is faster "
    "(default: it reads where memory is enough)"
)
DEVICES = ("auto", "cpu", "gpu")
Engine = Literal["bundled", "llama-cpp", "openai", "fake"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
ENGINES_HELP = (
    "bundled: the runtime that comes with refute; llama-cpp: llama.cpp, where llama-cpp-python is installed; "
    "openai: the server at --endpoint; fake: a simulated engine, to try a contract out"
)


@dataclass(frozen=True, slots=True)
class Named:
    """A server, as it was named. model: None for its only one. dialect: None for what it says itself."""

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    dialect: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be attacked.

    origin: who chose the model, for people. missing: why nothing can be attacked, in one sentence.
    endpoint: of the engine `openai`. mmap, processes: as `Engine.load` takes them.
    """

    engine: Engine
    model: Path | None
    origin: str
    backend: str
    device: str
    missing: str | None = None
    endpoint: "Named | None" = None
    mmap: bool | None = None
    processes: int = 1

    def __str__(self) -> str:
        if self.engine == "fake":
            return "the simulated engine (its records are evidence of the harness only)"
        if self.missing:
            return f"nothing: {self.missing}"
        if self.endpoint is not None:
            return f"{self.endpoint.model or 'the model'} at {self.endpoint.url}"
        assert self.model is not None
        if self.engine == "llama-cpp":
            return f"llama.cpp on {self.model.name} ({self.origin})"
        where = f"backend {self.backend}, device {self.device}"
        return f"the bundled runtime on {self.model.name} ({self.origin}), {where}"

    @property
    def key(self) -> str | None:
        """What the engine is asked with; never to be shown."""
        return None if self.endpoint is None else self.endpoint.key

    def open(self, progress: "Callable[[str, int, int], None] | None" = None) -> "Target":
        """Load the engine. progress: as `Engine.load` takes it. Raises `TargetError` with a sentence."""
        if self.engine == "fake":
            from refute.targets.fake import FakeTarget  # noqa: PLC0415 (start-up time)

            return FakeTarget()
        if self.endpoint is not None:
            from refute.targets.openai import EndpointTarget  # noqa: PLC0415 (start-up time)

            at = self.endpoint
            return EndpointTarget(at.url, at.model, at.key, dialect=at.dialect)
        from refute.provenance import model_sha256  # noqa: PLC0415 (start-up time)
        from refute.targets.bundled import BundledTarget  # noqa: PLC0415 (start-up time)

        assert self.model is not None
        if self.engine == "llama-cpp":
            from refute.targets.llama_cpp import LlamaCppTarget  # noqa: PLC0415 (start-up time)

            return LlamaCppTarget(self.model, model_sha256=model_sha256)
        return BundledTarget(
            self.model,
            self.backend,
            self.device,
            mmap=self.mmap,
            processes=self.processes,
            model_sha256=model_sha256,
            progress=progress,
        )


def select(
    *,
    engine: Engine,
    model: Path | None,
    backend: str,
    device: str,
    environ: Mapping[str, str],
    endpoint: Named | None = None,
    mmap: bool | None = None,
    processes: int = 1,
) -> Selection:
    """Choose the model: the one that is named, else the environment's, else the embedded one."""
    if engine == "fake":
        return Selection(engine, None, "simulated", backend, device)
    if engine == "openai":
        missing = None if endpoint is not None else "no server is named: expected --endpoint URL"
        return Selection(engine, None, "named", backend, device, missing, endpoint)
    if model:
        path, origin = model, "named"
    elif environ.get(MODEL_VARIABLE):
        path, origin = Path(environ[MODEL_VARIABLE]), MODEL_VARIABLE
    else:
        path, origin = embedded_model(), "embedded"
    missing = _missing(path, "--model" if model else origin)
    return Selection(engine, path, origin, backend, device, missing, mmap=mmap, processes=processes)


def check_runtime(engine: Engine, backend: str, device: str) -> None:
    """Raise ValueError with a sentence for what the bundled runtime does not have."""
    if device not in DEVICES:
        raise ValueError(f"device {device!r}: expected one of {', '.join(DEVICES)}")
    if engine == "bundled" and backend not in BACKENDS:
        raise ValueError(f"backend {backend!r}: expected one of {', '.join(BACKENDS)}")


def endpoint_among(options: Mapping[str, Any], environ: Mapping[str, str]) -> Named | None:
    """Return the server among options, which are told by their fields. Raises as `named_endpoint`."""
    names = ("endpoint", "model_name", "api_key_env", "dialect")
    others = [f"--{name}" for name in ("model", "backend", "device") if options[name]]
    others += [] if options["mmap"] is None else ["--mmap" if options["mmap"] else "--no-mmap"]
    return named_endpoint(
        *(options[name] or "" for name in names), others=others, target=options["target"], environ=environ
    )


def named_endpoint(
    url: str,
    model: str,
    variable: str,
    dialect: str = "",
    *,
    others: Iterable[str],
    environ: Mapping[str, str],
    target: str | None = None,
) -> Named | None:
    """Return the server that options name; empty ones are not given.

    others: options of other engines that are given. target: the engine, where one is named. Raises ValueError
    with a sentence for what cannot be, alone or together.
    """
    idle = ", ".join(others)
    if not url:
        if model or variable or dialect:
            raise ValueError(
                "a model name, a key and a dialect belong to a server: expected --endpoint URL too"
            )
        return None
    if target not in (None, "openai"):
        raise ValueError(f"--endpoint is attacked as openai, not as {target}")
    if idle:
        raise ValueError(f"--endpoint is a server that runs already; {idle} would change nothing there")
    if variable and not environ.get(variable, "").strip():
        raise ValueError(f"--api-key-env {variable}: the variable is not set, or empty; expected the key")
    from refute.wire.address import bases_of, check_key  # noqa: PLC0415 (start-up time)
    from refute.wire.dialects import DIALECTS  # noqa: PLC0415 (start-up time)

    bases_of(url)
    if dialect and dialect not in DIALECTS:
        raise ValueError(f"--dialect {dialect}: expected one of {', '.join(DIALECTS)}")
    key = environ[variable].strip() if variable else None
    if key is not None:
        check_key(key, f"--api-key-env {variable}")
    return Named(url, model or None, key, dialect or None)


def _missing(path: Path, origin: str) -> str | None:
    """Say what is wrong with a path to a model, if anything is."""
    if path.is_dir():
        return f"{path}: is a folder, expected a GGUF file ({origin})"
    return None if path.is_file() else f"{path}: no such model file ({origin})"


def embedded_model() -> Path:
    """Return where the embedded model lies, without importing the runtime."""
    spec = importlib.util.find_spec("refute_runtime")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pocket" / "pocket.gguf"


def stand_in() -> "Target":
    """Open the bundled runtime on the embedded model, for faults that a target has no seam for.

    Raises `CannotPlant` where that is not possible.
    """
    from refute.targets.base import CannotPlant, TargetError  # noqa: PLC0415 (start-up time)

    try:
        return Selection("bundled", embedded_model(), "embedded", "array", "auto").open()
    except TargetError as error:
        raise CannotPlant(str(error)) from None

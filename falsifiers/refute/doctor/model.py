"""The model: file, digest, architecture, quantization; or the endpoint that has it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refute.doctor.base import Check
from refute.units import format_bytes

if TYPE_CHECKING:
    from refute.contract import Contract
    from refute.provenance import Progress
    from refute.select import Named
    from refute_runtime.engine import Engine

_ROWS = 4096  # positions of the cache that the needs are told for
_TOKENS = 256  # of a prompt at once


@dataclass(frozen=True, slots=True)
class Needs:
    """Bytes that a run takes. held: in memory of its own; file: of the model, mapped and at best cached.

    reads: whether the file's weights are read into memory, too, and not mapped.
    """

    held: int
    file: int
    gpu: bool
    reads: bool = False


def look_at_file(path: Path, contracts: Sequence["Contract"], progress: "Progress | None") -> Iterator[Check]:
    """The file as a file, and whether it is one that a contract is about."""
    from refute.provenance import model_sha256  # noqa: PLC0415 (start-up time)
    from refute.select import embedded_model  # noqa: PLC0415

    if path.is_dir():
        yield Check(
            "model file", "fail", f"{path}: is a folder", "name the GGUF file in it, with --model FILE"
        )
        return
    if not path.exists():
        yield Check("model file", "fail", f"{path}: no such file", "check the path, or download the model")
        return
    try:
        size = path.stat().st_size
        digest = model_sha256(path, progress=progress)
    except OSError as error:
        yield Check("model file", "fail", f"{path}: cannot be read ({error.strerror})", f"chmod +r {path}")
        return
    yield Check("model file", "ok", f"{path}, {format_bytes(size)}")
    listed = [contract.id for contract in contracts if digest in contract.model.sha256]
    if listed:
        yield Check("sha256", "ok", f"{digest}, listed in {', '.join(listed)}: it can discharge their claims")
    elif path.resolve() == embedded_model().resolve():
        yield Check("sha256", "ok", f"{digest}, the embedded model: evidence at level embedded")
    else:
        yield Check(
            "sha256",
            "warn",
            f"{digest}, listed in no contract: it can falsify claims, and discharge none",
            f"if it is the model that a contract is about, add to its model.sha256:  - {digest}",
        )


def look_into_file(
    path: Path, backend: str, device: str, mmap: bool | None = None
) -> tuple[list[Check], Needs | None]:
    """What the runtime makes of the file: architecture, tensors, what computes, the memory that it takes."""
    from refute_runtime.engine import Engine  # noqa: PLC0415 (numpy)
    from refute_runtime.errors import RuntimeFailure  # noqa: PLC0415

    looks = ("array", "cpu") if backend == "cuda" else (backend, device)
    try:
        engine = Engine.load(path, *looks, mmap=True)  # nothing is read or uploaded to be looked at
    except (RuntimeFailure, OSError) as error:
        fix = "get the file again and compare its sha256, or name a model that the runtime runs"
        return [Check("model format", "fail", str(error), fix)], None
    except ImportError as error:
        fix = "install the extra of your CUDA: pip install 'refute[cuda12]', or use --device cpu"
        return [Check("model format", "fail", f"device {device}: {error}", fix)], None
    if backend == "cuda" or (backend == "auto" and engine.backend.device != "cpu" and not _left(engine)):
        uploads, needs = _uploads(engine, path)
        return [*_described(engine), uploads], needs
    weights, reads = _weights(engine, mmap)
    return [*_described(engine), weights], _needs(engine, path, reads=reads)


def look_at_endpoint(endpoint: "Named") -> Iterator[Check]:
    """Whether somebody answers, as what."""
    from refute.targets.base import TargetError  # noqa: PLC0415 (start-up time)
    from refute.targets.openai import EndpointTarget  # noqa: PLC0415

    try:
        target = EndpointTarget(endpoint.url, endpoint.model, endpoint.key, dialect=endpoint.dialect)
    except TargetError as error:
        yield Check("endpoint", "fail", str(error), "start the server, or name its URL, model and key")
        return
    identity = target.identity
    told = f"{identity.model_name} at {endpoint.url}, {identity.engine} {identity.engine_version}"
    yield Check("endpoint", "ok", f"{told}; offers {', '.join(sorted(target.capabilities))}")
    yield Check(
        "level",
        "warn",
        "a server that refute did not start shows no model file: it can falsify claims, and discharge none",
        "to discharge claims, run on the model's file: --model FILE",
    )


def _described(engine: "Engine") -> Iterator[Check]:
    config, tensors = engine.config, engine.file.tensors.values()
    experts = f", {config.experts_per_token} of {config.experts} experts" if config.experts else ""
    yield Check(
        "architecture",
        "ok",
        f"{config.architecture} ({config.name}): {config.layers} layers, hidden {config.hidden}, "
        f"{config.heads} heads on {config.kv_heads}{experts}, vocabulary {config.vocabulary}, "
        f"context {config.context}",
    )
    sizes, counts = Counter[str](), Counter[str]()
    for tensor in tensors:
        sizes[tensor.type.name] += tensor.nbytes
        counts[tensor.type.name] += 1
    mix = ", ".join(
        f"{name} {counts[name]} tensors {format_bytes(size)}" for name, size in sizes.most_common()
    )
    yield Check("quantization", "ok", mix)


def _left(engine: "Engine") -> str | None:
    """Why the GPU is left to the backend array."""
    from refute_runtime.backends.cuda import why_not  # noqa: PLC0415 (an extra)

    return why_not(engine.file, engine.config)


def _uploads(engine: "Engine", path: Path) -> tuple[Check, Needs | None]:
    """What the backend cuda takes of the GPU's memory: weights, work space, and two sequences."""
    from refute_runtime.backends.gpu import plan, weights  # noqa: PLC0415 (numpy)
    from refute_runtime.backends.gpu.layers import Sizes  # noqa: PLC0415

    refused = weights.lacks(engine.file, engine.config)
    if refused is not None:
        return Check(
            "weights", "fail", f"the backend cuda cannot compute: {refused}", "--backend array"
        ), None
    size, rows = weights.device_bytes(engine.file), min(engine.config.context, _ROWS)
    work = plan.workspace(Sizes.in_config(engine.config), min(_TOKENS, rows), rows)
    held = size + work + 2 * 2 * engine.config.cache_row_elements * rows
    told = f"{format_bytes(size)} are uploaded to the GPU, computed on by cuda"
    return Check("weights", "ok", told), Needs(held, path.stat().st_size, gpu=True, reads=False)


def _weights(engine: "Engine", mmap: bool | None) -> tuple[Check, bool]:
    """What will compute on the weights, and whether they will be read into memory."""
    from refute_runtime.resident import shortage  # noqa: PLC0415 (numpy)

    computes = f"computed on by {engine.backend.name}"
    if engine.backend.name != "cpu" or mmap is True:
        return Check("weights", "ok", f"mapped, {computes}"), False
    short = None if mmap is False else shortage(engine.file)
    if short is None:
        return Check("weights", "ok", f"read into memory, {computes}"), True
    return Check("weights", "warn", short, "free memory, or accept it: --mmap"), False


def _needs(engine: "Engine", path: Path, *, reads: bool) -> Needs:
    config = engine.config
    rows = min(config.context, _ROWS)
    cache = engine.backend.cache_row_bytes * rows
    # Two: claims about the cache decode one sequence with it beside another one.
    held = sum(engine.backend.memory(min(_TOKENS, rows), rows)) + 2 * cache
    return Needs(held, path.stat().st_size, engine.backend.device != "cpu", reads)

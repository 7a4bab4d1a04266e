"""The GPU behind the `cuda` backend, by CuPy: memory, launches and graphs on one stream.

What is computed is in `gpu/` and `kernels/`, and needs no GPU to be read or tested; this is what does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refute_runtime.backends.gpu import nvrtc, plan
from refute_runtime.backends.gpu.backend import DeviceBackend
from refute_runtime.backends.gpu.device import Buffer, Device, Graph
from refute_runtime.backends.gpu.layers import Sizes
from refute_runtime.backends.gpu.weights import DeviceWeights, device_bytes, lacks
from refute_runtime.backends.gpu.weights import Progress as Uploading
from refute_runtime.config import ModelConfig
from refute_runtime.errors import RuntimeFailure, UnsupportedError
from refute_runtime.gguf_reader import GgufFile
from refute_runtime.weights import Weights

_STAGES = 4  # pinned buffers: one is filled while others are copied
_STAGE = 16 << 20  # bytes of each
_SMALL = 64 << 10  # bytes: the driver copies so little by itself before the call returns
_ROWS = 4096  # positions that have to fit beside the model
_TOKENS = 512  # of a prompt, likewise


@dataclass(frozen=True, slots=True)
class CupyBuffer:
    """Memory of CuPy's pool, or pinned memory of the host that the device sees at the same address."""

    memory: Any
    nbytes: int

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.memory.ptr)


@dataclass(frozen=True, slots=True)
class CupyGraph:
    """A graph and the stream that it is launched on."""

    graph: Any
    stream: Any

    def launch(self) -> None:
        """Enqueue all of it."""
        self.graph.launch(self.stream)


class CupyDevice:
    """The current GPU, and one stream of it; kernels are compiled for it at first use."""

    def __init__(self, progress: nvrtc.Progress | None = None) -> None:
        """Raise `UnsupportedError` where there is no GPU that kernels can be compiled for."""
        self._cupy = cupy = _cupy()
        self._number = int(cupy.cuda.Device().id)
        self._capability = _capability(cupy)
        refused = too_old(self._capability)
        if refused is not None:
            raise UnsupportedError(refused)
        self.driver = str(cupy.cuda.runtime.driverGetVersion())
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._modules, self._functions = [], {}
        for compiled in nvrtc.cubins(architecture(self._capability), self.driver, progress=progress).values():
            module = cupy.cuda.function.Module()
            with self._failures(f"{compiled.source}.cu cannot be loaded"):
                module.load(compiled.code)
            self._modules.append(module)
            for usage in compiled.usage:
                self._functions[usage.name] = module.get_function(usage.name)
        self._stages: list[tuple[Any, np.ndarray, Any]] = []  # pinned memory, as bytes, when it was copied
        self._next = 0

    @property
    def name(self) -> str:
        """As its maker calls it."""
        properties = self._cupy.cuda.runtime.getDeviceProperties(self._number)
        return str(properties["name"].decode())

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability."""
        return self._capability

    @property
    def details(self) -> Mapping[str, object]:
        """The highest version of CUDA that the driver knows, those of NVRTC and CuPy."""
        return {
            "driver": self.driver,
            "nvrtc": ".".join(map(str, nvrtc.version())),
            "cupy": str(self._cupy.__version__),
        }

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes that are free, those that CuPy keeps for later included, and bytes in all."""
        free, total = self._cupy.cuda.runtime.memGetInfo()
        return int(free) + int(self._cupy.get_default_memory_pool().free_bytes()), int(total)

    def empty(self, nbytes: int) -> CupyBuffer:
        """Allocate. Raises `RuntimeFailure` where there is no room."""
        try:
            with self._stream:  # the pool gives memory again in the order of this stream
                return CupyBuffer(self._cupy.cuda.alloc(nbytes), nbytes)
        except self._cupy.cuda.memory.OutOfMemoryError:
            free, total = self.memory
            raise RuntimeFailure(
                f"the GPU has no room for {nbytes:,} bytes: {free:,} of {total:,} are free; use a shorter "
                "context, or close what else uses the GPU"
            ) from None

    def mapped(self, nbytes: int) -> tuple[CupyBuffer, np.ndarray]:
        """Allocate memory of the host that kernels can write: pinned, at one address for both."""
        with self._failures("memory of the host cannot be pinned"):
            memory = self._cupy.cuda.alloc_pinned_memory(nbytes)
        data = np.frombuffer(memory, np.uint8, nbytes)
        data[:] = 0
        return CupyBuffer(memory, nbytes), data

    def upload(self, to: Buffer, offset: int, data: np.ndarray) -> None:
        """Copy to the device; large arrays through pinned buffers, while the next piece is prepared."""
        flat, at = data.reshape(-1).view(np.uint8), to.address + offset
        if flat.nbytes <= _SMALL:
            self._copy(at, flat.ctypes.data, flat.nbytes, "memcpyHostToDevice")
            return
        for start in range(0, flat.nbytes, _STAGE):
            piece = flat[start : start + _STAGE]
            memory, stage, copied = self._stage()
            stage[: piece.nbytes] = piece
            self._copy(at + start, int(memory.ptr), piece.nbytes, "memcpyHostToDevice")
            copied.record(self._stream)

    def _stage(self) -> tuple[Any, np.ndarray, Any]:
        """The pinned buffer whose copy was begun first, when that is done."""
        if len(self._stages) < _STAGES:
            with self._failures("memory of the host cannot be pinned"):
                memory = self._cupy.cuda.alloc_pinned_memory(_STAGE)
            event = self._cupy.cuda.Event(disable_timing=True)
            self._stages.append((memory, np.frombuffer(memory, np.uint8, _STAGE), event))
            return self._stages[-1]
        found = self._stages[self._next % _STAGES]
        self._next += 1
        with self._failures("copying to the GPU failed"):
            found[2].synchronize()
        return found

    def download(self, source: Buffer, offset: int, out: np.ndarray) -> None:
        """Copy from the device, when all that was enqueued is done."""
        self._copy(out.ctypes.data, source.address + offset, out.nbytes, "memcpyDeviceToHost")
        self.synchronize()

    def copy(self, to: Buffer, to_offset: int, source: Buffer, offset: int, nbytes: int) -> None:
        """Copy on the device; enqueued."""
        self._copy(to.address + to_offset, source.address + offset, nbytes, "memcpyDeviceToDevice")

    def _copy(self, to: int, source: int, nbytes: int, kind: str) -> None:
        runtime = self._cupy.cuda.runtime
        with self._failures("copying failed"):
            runtime.memcpyAsync(to, source, nbytes, getattr(runtime, kind), self._stream.ptr)

    def fill(self, to: Buffer, offset: int, nbytes: int, value: int = 0) -> None:
        """Set bytes; enqueued."""
        with self._failures("filling failed"):
            self._cupy.cuda.runtime.memsetAsync(to.address + offset, value, nbytes, self._stream.ptr)

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int | np.float32],
        shared: int = 0,
    ) -> None:
        """Enqueue a kernel."""
        given = tuple(each if isinstance(each, np.float32) else np.int64(each) for each in arguments)
        with self._failures(f"the kernel {kernel} cannot be launched"):
            self._functions[kernel](grid, block, given, shared, self._stream)

    @contextmanager
    def capture(self) -> Iterator[list[Graph]]:
        """Record launches; the list holds their graph afterwards."""
        graphs: list[Graph] = []
        with self._failures("a graph cannot be recorded"):
            self._stream.begin_capture()
        try:
            yield graphs
        finally:
            with self._failures("a graph cannot be recorded"):
                graphs.append(CupyGraph(self._stream.end_capture(), self._stream))

    def synchronize(self) -> None:
        """Wait for all that was enqueued. Raises `RuntimeFailure` where a kernel failed."""
        with self._failures("computing failed"):
            self._stream.synchronize()

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """One sentence for what the driver or the runtime refuses."""
        cuda = self._cupy.cuda
        try:
            yield
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            raise RuntimeFailure(f"on the GPU {what}: {error}; refute doctor says what is set up") from error


@dataclass(frozen=True, slots=True)
class Found:
    """What this host has for the backend, each None where it is not there or the one before it is not.

    why: what the first missing one says of itself. driver: the highest version of CUDA that it knows, and
    toolkit CuPy's own, such as 13000. capability, name: of the current GPU.
    """

    cupy: str | None = None
    driver: int | None = None
    toolkit: int | None = None
    capability: tuple[int, int] | None = None
    name: str | None = None
    why: str = ""


def found() -> Found:
    """Look for CuPy, the driver and a GPU; nothing is compiled, and nothing raised."""
    here = Found()
    try:
        import cupy  # noqa: PLC0415 (an extra, and slow to import)

        runtime = cupy.cuda.runtime
        here = replace(here, cupy=str(cupy.__version__))
        driver, toolkit = int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion())
        here = replace(here, driver=driver or None, toolkit=toolkit)
        runtime.getDeviceCount()
        capability, number = _capability(cupy), int(cupy.cuda.Device().id)
        return replace(here, capability=capability, name=runtime.getDeviceProperties(number)["name"].decode())
    except Exception as error:  # noqa: BLE001 (CuPy has an exception type per layer of the driver)
        return replace(here, why=str(error).partition("\n")[0])


def architecture(capability: tuple[int, int]) -> int:
    """What NVRTC calls a compute capability: 90 for (9, 0)."""
    return 10 * capability[0] + capability[1]


def too_old(capability: tuple[int, int]) -> str | None:
    """Why kernels are not compiled for an architecture, or None."""
    if architecture(capability) >= nvrtc.LEAST:
        return None
    return (
        "the GPU has compute capability {}.{}, expected 8.0 or higher (Ampere and later); "
        "use --backend array or cpu".format(*capability)
    )


def why_not(file: GgufFile, config: ModelConfig) -> str | None:
    """Why this model cannot be computed on the GPU here, or None. Nothing is compiled or uploaded."""
    try:
        capability = _capability(_cupy())
        nvrtc.version()
    except UnsupportedError as error:
        return str(error)
    refused = too_old(capability)
    return lacks(file, config) if refused is None else refused


def open_cuda(
    file: GgufFile,
    config: ModelConfig,
    weights: Weights,
    compiling: nvrtc.Progress | None = None,
    uploading: Uploading | None = None,
) -> DeviceBackend:
    """Compile, upload the model and make the backend.

    Raises `UnsupportedError` for a GPU or model that it is not for, `RuntimeFailure` where memory is short.
    """
    refused = lacks(file, config)
    if refused is not None:
        raise UnsupportedError(f"{file.path}: the backend cuda cannot compute: {refused}")
    return open_on(CupyDevice(compiling), file, config, weights, uploading)


def open_on(
    device: Device, file: GgufFile, config: ModelConfig, weights: Weights, uploading: Uploading | None = None
) -> DeviceBackend:
    """Make the backend on a device, where model, work space and a few thousand positions fit it."""
    rows = min(config.context, _ROWS)
    work = plan.workspace(Sizes.in_config(config), min(_TOKENS, rows), rows)
    row_bytes = 2 * config.cache_row_elements
    plan.check_model(device.memory[0], device_bytes(file), row_bytes, work, rows, str(file.path))
    return DeviceBackend(config, weights, DeviceWeights(device, file, uploading), device)


def _capability(cupy: Any) -> tuple[int, int]:
    """Of the current GPU, which CuPy writes without a point."""
    written = str(cupy.cuda.Device().compute_capability)
    return int(written[:-1]), int(written[-1])


def _cupy() -> Any:
    try:
        import cupy  # noqa: PLC0415 (an extra, and slow to import)

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy has an exception type per layer of the driver
        raise UnsupportedError(
            f"the backend cuda needs CuPy and a GPU that answers ({str(error).partition(chr(10))[0]}); "
            "install refute[cuda13], or refute[cuda12] where the driver is older than 580, or use "
            "--backend cpu"
        ) from error
    return cupy

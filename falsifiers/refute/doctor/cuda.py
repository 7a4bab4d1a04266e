"""The backend `cuda`: CuPy, the driver, the GPU's architecture, the compiler, and its kernels."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from refute.doctor.base import Check, State

if TYPE_CHECKING:
    from refute_runtime.backends.cuda import Found

_EXTRAS = "pip install 'refute[cuda13]', or 'refute[cuda12]' where the driver is older than 580"


def found() -> "Found":
    """Look for CuPy, the driver and a GPU."""
    from refute_runtime.backends import cuda  # noqa: PLC0415 (start-up time)

    return cuda.found()


def look_at_cuda(found: "Found", *, wanted: bool) -> Iterator[Check]:
    """What a GPU computes with. wanted: whether the run names a GPU; else what is missing harms nothing."""
    from refute_runtime.backends.cuda import architecture, too_old  # noqa: PLC0415 (start-up time)

    lacking: State = "fail" if wanted else "ok"
    unused = "" if wanted else "; nothing is computed on a GPU"
    if found.cupy is None:
        fix = _EXTRAS if wanted else ""
        yield Check("CuPy", lacking, f"cannot be imported ({found.why}){unused}", fix)
        return
    yield Check("CuPy", "ok", found.cupy)
    if found.driver is None or found.toolkit is None:
        fix = (
            "install NVIDIA's driver, or give the container the GPU (docker run --gpus all)" if wanted else ""
        )
        yield Check("CUDA driver", lacking, f"none answers{unused}", fix)
        return
    told = f"knows CUDA {_version(found.driver)}, CuPy is made for {_version(found.toolkit)}"
    if found.driver // 1000 < found.toolkit // 1000:
        yield Check("CUDA driver", "fail" if wanted else "warn", told, f"a newer driver, or {_EXTRAS}")
        return
    yield Check("CUDA driver", "ok", told)
    if found.capability is None:
        yield Check(
            "CUDA GPU", lacking, f"none answers ({found.why}){unused}", "nvidia-smi" if wanted else ""
        )
        return
    refused = too_old(found.capability)
    if refused is not None:
        yield Check("CUDA GPU", "fail" if wanted else "warn", f"{found.name}: {refused}", "--backend array")
        return
    yield Check("CUDA GPU", "ok", "{}, sm_{}{}".format(found.name, *found.capability))
    yield from _kernels(architecture(found.capability), str(found.driver), wanted=wanted)


def _kernels(architecture: int, driver: str, *, wanted: bool) -> Iterator[Check]:
    """The compiler, and whether it has work to do."""
    from refute_runtime.backends.gpu import nvrtc  # noqa: PLC0415 (start-up time)
    from refute_runtime.errors import UnsupportedError  # noqa: PLC0415

    lacking: State = "fail" if wanted else "warn"
    try:
        version, knows = nvrtc.version(), nvrtc.compiles_for()
    except UnsupportedError as error:
        yield Check("NVRTC", lacking, str(error).partition(";")[0], _EXTRAS)
        return
    told = "{}.{}".format(*version)
    if architecture not in knows:
        fix = "pip install --upgrade nvidia-cuda-nvrtc"
        yield Check("NVRTC", lacking, f"{told} does not compile for sm_{architecture}", fix)
        return
    yield Check("NVRTC", "ok", told)
    if nvrtc.kept_all(architecture, driver):
        yield Check("CUDA kernels", "ok", f"compiled for sm_{architecture}, kept from before")
    else:
        yield Check("CUDA kernels", "ok", f"compiled for sm_{architecture} at first use, in some seconds")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"

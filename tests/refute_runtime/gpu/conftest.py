"""The kernels' own sources, run on the host."""

import os
import platform
import shutil

import pytest
from cuda_emulator import EmulatedDevice
from device_arrays import Room

from refute_runtime.backends.cuda import CupyDevice
from refute_runtime.backends.simd import build


@pytest.fixture(scope="session")
def device():
    """What kernels run on: the emulator, or the GPU where REFUTE_TEST_DEVICE=gpu."""
    if os.environ.get("REFUTE_TEST_DEVICE") == "gpu":
        return CupyDevice()
    if shutil.which("g++") is None or platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("the emulator of CUDA wants g++ and an x86-64 processor")
    return EmulatedDevice()


@pytest.fixture
def room(device):
    return Room(device)


@pytest.fixture(scope="session")
def cpu_kernels():
    """The kernels of the `cpu` backend, compiled: what these must equal."""
    build.compile_all()

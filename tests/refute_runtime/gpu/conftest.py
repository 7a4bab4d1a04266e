"""The kernels' own sources, run on the host."""

import pytest
from cuda_emulator import EmulatedDevice
from device_arrays import Room

from refute_runtime.backends.simd import build


@pytest.fixture(scope="session")
def device():
    return EmulatedDevice()


@pytest.fixture
def room(device):
    return Room(device)


@pytest.fixture(scope="session")
def cpu_kernels():
    """The kernels of the `cpu` backend, compiled: what these must equal."""
    build.compile_all()

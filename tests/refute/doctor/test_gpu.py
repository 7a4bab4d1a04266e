"""GPUs, as NVIDIA's library tells of them."""

import os
from types import SimpleNamespace

import pytest

from refute.doctor.gpu import look_at_gpus
from refute.doctor.model import Needs
from refute.gpus import Gpus, NoGpus

GIB = 2**30


class NVMLError(Exception):
    pass


def library(processes=(), used=GIB, throttles=0, temperature=40):
    memory = SimpleNamespace(total=80 * GIB, used=used)
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlSystemGetDriverVersion=lambda: "570.1",
        nvmlDeviceGetName=lambda gpu: "A GPU",
        nvmlDeviceGetUUID=lambda gpu: "GPU-1",
        nvmlDeviceGetMemoryInfo=lambda gpu: memory,
        nvmlDeviceGetClockInfo=lambda gpu, which: 1000,
        nvmlDeviceGetMaxClockInfo=lambda gpu, which: 2000,
        nvmlDeviceGetTemperature=lambda gpu, which: temperature,
        nvmlDeviceGetCurrentClocksEventReasons=lambda gpu: throttles,
        nvmlDeviceGetEnforcedPowerLimit=lambda gpu: 700_000,
        nvmlDeviceGetPowerUsage=lambda gpu: 100_000,
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: list(processes),
    )


def states(needs=None, **told):
    return {check.name: check.state for check in look_at_gpus(needs, library(**told))}


def test_an_idle_gpu_is_ok():
    assert set(states().values()) == {"ok"}


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"processes": [SimpleNamespace(pid=7, usedGpuMemory=GIB)]}, "GPU 0 processes"),
        ({"throttles": 0x4}, "GPU 0 clocks"),
        ({"temperature": 90}, "GPU 0 clocks"),
    ],
)
def test_what_slows_a_gpu_is_a_warning(told, name):
    assert states(**told)[name] == "warn"


def test_this_process_is_no_other_one():
    own = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)]
    assert states(processes=own)["GPU 0 processes"] == "ok"


def test_a_model_that_does_not_fit_fails_where_it_is_to_run_there():
    full = {"used": 79 * GIB}
    assert "GPU 0 memory" not in states(Needs(2 * GIB, GIB, gpu=False), **full)
    assert states(Needs(2 * GIB, GIB, gpu=True), **full)["GPU 0 memory"] == "fail"


def test_without_a_library_it_only_matters_to_a_run_on_a_gpu(monkeypatch):
    def absent(library):
        raise NoGpus("nvidia-ml-py is not installed")

    monkeypatch.setattr(Gpus, "open", absent)
    for gpu, state in ((False, "ok"), (True, "warn")):
        (check,) = look_at_gpus(Needs(1, 1, gpu), None)
        assert check.state == state

"""GPUs as their driver tells of them; what it does not tell is null."""

import sys

import pytest
from fake_nvml import FakeNvml

from refute import gpus
from refute.gpus import FIELDS, Gpus, NoGpus, throttles


def test_a_gpu_is_described():
    nvml = FakeNvml(2)
    opened = Gpus.open(nvml)
    first, second = opened.described()
    assert first == {
        "name": "Fake H0",
        "uuid": "GPU-0",
        "driver": "555.42",
        "memory_bytes": 1 << 37,
        "power_limit_w": 700.0,
        "clock_max_mhz": 1980,
        "memory_clock_max_mhz": 3201,
        "ecc": True,
    }
    assert tuple(second) == FIELDS
    opened.close()
    assert not nvml.open


def test_a_sample_says_what_a_gpu_does_and_what_holds_it_back():
    (sample,) = Gpus.open(FakeNvml()).sampled()
    assert sample == {
        "uuid": "GPU-0",
        "clock_mhz": 1500,
        "memory_clock_mhz": 3200,
        "power_w": 512.345,
        "temperature_c": 61,
        "busy_percent": 97,
        "used_bytes": 1 << 30,
        "throttles": ["power-cap", "thermal", "0x1000"],
    }


def test_what_a_gpu_does_not_know_is_null():
    nvml = FakeNvml(unknown=("nvmlDeviceGetCurrentEccMode", "nvmlDeviceGetPowerUsage"))
    opened = Gpus.open(nvml)
    assert opened.described()[0]["ecc"] is None
    assert opened.sampled()[0]["power_w"] is None


def test_an_older_library_is_asked_by_the_older_name():
    nvml = FakeNvml(missing=("nvmlDeviceGetCurrentClocksEventReasons",))
    assert Gpus.open(nvml).sampled()[0]["throttles"] == ["power-cap", "thermal", "0x1000"]


@pytest.mark.parametrize(
    ("bits", "names"), [(0, []), (1, ["idle"]), (0x48, ["hardware-slowdown", "hardware-thermal"])]
)
def test_throttles_have_names(bits, names):
    assert throttles(bits) == names


def test_without_a_driver_there_is_a_reason():
    with pytest.raises(NoGpus, match="Driver Not Loaded"):
        Gpus.open(FakeNvml(driver=False))


def test_without_the_library_there_is_a_reason(monkeypatch):
    monkeypatch.setattr(gpus, "_LIBRARY", "no_such_library_here")
    with pytest.raises(NoGpus, match="nvidia-ml-py is not installed"):
        Gpus.open()


def test_this_host_s_gpus_come_from_the_library_where_it_answers(monkeypatch):
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, gpus._LIBRARY, nvml)
    found, source = gpus.described()
    assert ([each["name"] for each in found], source) == (["Fake H0"], "NVML")
    assert not nvml.open


def test_without_it_they_come_from_the_driver_s_files(monkeypatch, tmp_path):
    (tmp_path / "proc/driver/nvidia/gpus/0").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/gpus/0/information").write_text("Model: H200\n")
    found, source = gpus.described(tmp_path)
    assert [each["name"] for each in found] == ["H200"]
    assert "only asked about this host" in source

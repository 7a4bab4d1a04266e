"""A stand-in for pynvml: as many GPUs as asked for, some of which do not know some things."""

from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


class FakeNvml:
    """unknown: functions that no GPU answers. missing: functions that this version of the library lacks."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(
        self,
        count: int = 1,
        *,
        driver: bool = True,
        unknown: tuple[str, ...] = (),
        missing: tuple[str, ...] = (),
    ) -> None:
        self.count, self.driver, self.unknown, self.missing = count, driver, unknown, missing
        self.open = False
        self.reasons = 0x4 | 0x20 | 0x1000

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlDeviceGetCount": lambda: self.count,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlSystemGetDriverVersion": lambda: b"555.42",
            "nvmlDeviceGetName": lambda gpu: f"Fake H{gpu}",
            "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}",
            "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=1 << 37, used=1 << 30),
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 700_000,
            "nvmlDeviceGetMaxClockInfo": lambda gpu, clock: {1: 1980, 2: 3201}[clock],
            "nvmlDeviceGetCurrentEccMode": lambda gpu: 1,
            "nvmlDeviceGetClockInfo": lambda gpu, clock: {1: 1500, 2: 3200}[clock],
            "nvmlDeviceGetPowerUsage": lambda gpu: 512_345,
            "nvmlDeviceGetTemperature": lambda gpu, sensor: 61,
            "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=97, memory=40),
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: self.reasons,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: self.reasons,
        }
        if name in self.missing or name not in answers:
            raise AttributeError(name)
        return self._unknown if name in self.unknown else answers[name]

    def _init(self) -> None:
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.open = True

    def _shutdown(self) -> None:
        self.open = False

    @staticmethod
    def _unknown(*_: Any) -> None:
        raise NVMLError("Not Supported")

"""The GPUs of this host, read from their driver: what they are, and what they do at a moment.

NVIDIA's library is asked through nvidia-ml-py, where it is installed (it comes with the extras `cuda12` and
`cuda13`) and answers. What a GPU does not tell is null.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIELDS = (
    "name",
    "uuid",
    "driver",
    "memory_bytes",
    "power_limit_w",
    "clock_max_mhz",
    "memory_clock_max_mhz",
    "ecc",
)
_DRIVER = "/proc/driver/nvidia/gpus"
_LIBRARY = "pynvml"
# Bits of NVML's clock event reasons: why a clock is not as high as it could be.
_THROTTLES = {
    0x1: "idle",
    0x2: "application-clocks",
    0x4: "power-cap",
    0x8: "hardware-slowdown",
    0x10: "sync-boost",
    0x20: "thermal",
    0x40: "hardware-thermal",
    0x80: "power-brake",
    0x100: "display-clocks",
    0x200: "board-limit",
    0x400: "reliability",
}


@dataclass(frozen=True, slots=True)
class Gpus:
    """The driver's library, opened. library: the module; tests give another one."""

    library: Any
    handles: Sequence[Any]

    @classmethod
    def open(cls, library: Any = None) -> "Gpus":
        """Open it. Raises `NoGpus` with a sentence where there is none."""
        try:
            nvml = importlib.import_module(_LIBRARY) if library is None else library
        except ImportError:
            raise NoGpus("nvidia-ml-py is not installed") from None
        try:
            nvml.nvmlInit()
            handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        except nvml.NVMLError as error:
            raise NoGpus(f"NVML does not answer: {error}") from None
        return cls(nvml, handles)

    def close(self) -> None:
        """Let the library go."""
        self._asked("nvmlShutdown")

    def described(self) -> list[dict[str, Any]]:
        """Say what each GPU is."""
        nvml = self.library
        driver = self._asked("nvmlSystemGetDriverVersion", convert=_text)
        return [
            {
                "name": self._asked("nvmlDeviceGetName", gpu, convert=_text),
                "uuid": self._asked("nvmlDeviceGetUUID", gpu, convert=_text),
                "driver": driver,
                "memory_bytes": self._asked("nvmlDeviceGetMemoryInfo", gpu, convert=lambda told: told.total),
                "power_limit_w": self._asked("nvmlDeviceGetEnforcedPowerLimit", gpu, convert=_watts),
                "clock_max_mhz": self._asked("nvmlDeviceGetMaxClockInfo", gpu, nvml.NVML_CLOCK_SM),
                "memory_clock_max_mhz": self._asked("nvmlDeviceGetMaxClockInfo", gpu, nvml.NVML_CLOCK_MEM),
                "ecc": self._asked("nvmlDeviceGetCurrentEccMode", gpu, convert=bool),
            }
            for gpu in self.handles
        ]

    def sampled(self) -> list[dict[str, Any]]:
        """Say what each GPU does now."""
        nvml = self.library
        why = "nvmlDeviceGetCurrentClocksEventReasons"
        if not hasattr(nvml, why):  # before its name was changed
            why = "nvmlDeviceGetCurrentClocksThrottleReasons"
        return [
            {
                "uuid": self._asked("nvmlDeviceGetUUID", gpu, convert=_text),
                "clock_mhz": self._asked("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_SM),
                "memory_clock_mhz": self._asked("nvmlDeviceGetClockInfo", gpu, nvml.NVML_CLOCK_MEM),
                "power_w": self._asked("nvmlDeviceGetPowerUsage", gpu, convert=_watts),
                "temperature_c": self._asked("nvmlDeviceGetTemperature", gpu, nvml.NVML_TEMPERATURE_GPU),
                "busy_percent": self._asked(
                    "nvmlDeviceGetUtilizationRates", gpu, convert=lambda told: told.gpu
                ),
                "used_bytes": self._asked("nvmlDeviceGetMemoryInfo", gpu, convert=lambda told: told.used),
                "throttles": self._asked(why, gpu, convert=throttles),
            }
            for gpu in self.handles
        ]

    def _asked(
        self, function: str, *arguments: Any, convert: Callable[[Any], Any] = lambda told: told
    ) -> Any:
        """Ask for one thing; None where the driver, the library or the GPU does not know it."""
        try:
            return convert(getattr(self.library, function)(*arguments))
        except (self.library.NVMLError, AttributeError):
            return None


class NoGpus(Exception):  # noqa: N818 (it is an answer, not a failure)
    """Nothing tells of GPUs; the message says why."""


def described(root: Path = Path("/")) -> tuple[list[dict[str, Any]], str]:
    """Return every GPU, with null for what its driver does not tell, and where that was read.

    root: where the host's files are; the library is asked only about this very host.
    """
    why = "NVML is only asked about this host"
    if root == Path("/"):
        try:
            gpus = Gpus.open()
        except NoGpus as error:
            why = str(error)
        else:
            try:
                return gpus.described(), "NVML"
            finally:
                gpus.close()
    found = []
    for file in sorted((root / _DRIVER.lstrip("/")).glob("*/information")):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        told = dict(re.findall(r"^([\w ]+?):[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE))
        found.append({**dict.fromkeys(FIELDS), "name": told.get("Model"), "uuid": told.get("GPU UUID")})
    return found, f"{_DRIVER} ({why})" if found else f"none in {_DRIVER}; {why}"


def throttles(bits: int) -> list[str]:
    """Name the reasons in a set of bits; those that are not known by their number."""
    named = [name for bit, name in _THROTTLES.items() if bits & bit]
    rest = bits & ~sum(_THROTTLES)
    return [*named, hex(rest)] if rest else named


def _text(told: Any) -> str:
    return told.decode(errors="replace") if isinstance(told, bytes) else str(told)


def _watts(milliwatts: int) -> float:
    return milliwatts / 1000

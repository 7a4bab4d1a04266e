"""The GPUs: who else is there, what power and clocks they may have, whether the model fits."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from refute.doctor.base import Check
from refute.doctor.model import Needs
from refute.gpus import Gpus, NoGpus
from refute.units import format_bytes

_WARM = 80  # degrees Celsius
_LIMITS = frozenset({"power-cap", "hardware-slowdown", "thermal", "hardware-thermal", "power-brake"})


def look_at_gpus(needs: Needs | None, library: Any = None) -> Iterator[Check]:
    """Every GPU. library: NVIDIA's, for tests."""
    try:
        gpus = Gpus.open(library)
    except NoGpus as error:
        wanted = needs is not None and needs.gpu
        fix = "install the driver, and pip install nvidia-ml-py" if wanted else ""
        told = f"none can be asked ({error}); the run uses {'one' if wanted else 'none'}"
        yield Check("GPU", "warn" if wanted else "ok", told, fix)
        return
    try:
        for place, (fixed, now) in enumerate(zip(gpus.described(), gpus.sampled(), strict=True)):
            yield from _look_at(f"GPU {place}", gpus, place, {**fixed, **now}, needs)
    finally:
        gpus.close()


def _look_at(
    name: str, gpus: Gpus, place: int, told: Mapping[str, Any], needs: Needs | None
) -> Iterator[Check]:
    total, used = told["memory_bytes"], told["used_bytes"]
    free = None if total is None or used is None else total - used
    memory = "memory unknown" if free is None else f"{format_bytes(free)} of {format_bytes(total)} free"
    yield Check(name, "ok", f"{told['name']}, driver {told['driver']}, {memory}")
    if needs is not None and needs.gpu and free is not None and free < needs.held:
        fix = "end what else uses it, or run with --device cpu"
        yield Check(
            f"{name} memory",
            "fail",
            f"needs {format_bytes(needs.held)}; {format_bytes(free)} free",
            fix,
        )
    cap = told["power_limit_w"]
    clocks = f"{told['clock_mhz']} of {told['clock_max_mhz']} MHz, {told['power_w']} of {cap} W"
    limits = sorted(_LIMITS.intersection(told["throttles"] or ()))
    if limits:
        fix = "let it cool, or raise its power limit (nvidia-smi -pl): times are those of a slowed GPU"
        yield Check(f"{name} clocks", "warn", f"{clocks}; held back by {', '.join(limits)}", fix)
    elif (told["temperature_c"] or 0) > _WARM:
        yield Check(f"{name} clocks", "warn", f"{clocks}, {told['temperature_c']} °C", "let it cool first")
    else:
        yield Check(f"{name} clocks", "ok", clocks)
    yield _others(name, gpus, place)


def _others(name: str, gpus: Gpus, place: int) -> Check:
    """Processes that compute there, beside this one."""
    try:
        running = gpus.library.nvmlDeviceGetComputeRunningProcesses(gpus.handles[place])
    except (gpus.library.NVMLError, AttributeError) as error:
        return Check(f"{name} processes", "warn", f"not told ({error})", "look yourself: nvidia-smi")
    running = [each for each in running if each.pid != os.getpid()]
    if not running:
        return Check(f"{name} processes", "ok", "no other process computes there")
    listed = ", ".join(f"{each.pid} ({format_bytes(each.usedGpuMemory or 0)})" for each in running)
    return Check(
        f"{name} processes", "warn", f"processes compute there: {listed}", "wait for them, or end them"
    )

"""The GPUs of this host, read from their driver."""

import re
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


def described(root: Path) -> tuple[list[dict[str, Any]], str]:
    """Return every GPU, with null for what its driver does not tell, and where that was read.

    root: where the host's files are.
    """
    found = []
    for file in sorted((root / _DRIVER.lstrip("/")).glob("*/information")):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        told = dict(re.findall(r"^([\w ]+?):[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE))
        found.append({**dict.fromkeys(FIELDS), "name": told.get("Model"), "uuid": told.get("GPU UUID")})
    return found, _DRIVER if found else f"none in {_DRIVER}"

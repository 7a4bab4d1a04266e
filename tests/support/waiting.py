"""Waiting for what another process does."""

import subprocess
import time
from pathlib import Path
from typing import Any


def until(folder: Path, pattern: str, process: "subprocess.Popen[Any]") -> None:
    """Wait for a file as long as the process goes on that is to write it: how slow a host is says nothing."""
    while not list(folder.glob(pattern)):
        ended = process.poll()
        assert ended is None or list(folder.glob(pattern)), f"ended with {ended} and left no {pattern}"
        time.sleep(0.01)

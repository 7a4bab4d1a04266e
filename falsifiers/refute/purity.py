"""Watch code that must be pure: whom it asks besides its arguments.

A profile hook sees every call of a C function, however it was imported, so a clock behind another name is
seen too. What it cannot see: state that the code keeps itself, and NumPy's global generator, whose state is
compared instead.
"""

import gc
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from types import FrameType, ModuleType
from typing import Any

_OUTSIDE = {"time", "posix", "nt", "_socket", "_io", "io"}  # the clock, the system, the network, files
_TODAY = {"now", "utcnow", "today"}
_GLOBAL = random.random.__self__  # type: ignore[attr-defined]  # the generator behind random.random
_ENVIRONMENT = type(os.environ).__getitem__.__code__


@contextmanager
def watched() -> Iterator[list[str]]:
    """Give a list that fills with what was asked: `time.time`, `os.environ`, `the global random state`."""
    asked: list[str] = []

    def note(frame: FrameType, event: str, called: Any) -> None:
        if event == "call" and frame.f_code is _ENVIRONMENT:
            asked.append("os.environ")
        elif event == "c_call":
            owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
            if isinstance(owner, ModuleType) and owner.__name__ in _OUTSIDE:
                asked.append(f"{'os' if owner.__name__ in {'posix', 'nt'} else owner.__name__}.{name}")
            elif owner is _GLOBAL:
                asked.append("the global random state")
            elif isinstance(owner, type) and issubclass(owner, date) and name in _TODAY:
                asked.append(f"{owner.__name__}.{name}")

    before, drawn, collects = sys.getprofile(), _numpy_state(), gc.isenabled()
    gc.disable()  # a collection would run others' callbacks and finalizers here: Hypothesis times each one
    sys.setprofile(note)
    try:
        yield asked
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
        if _numpy_state() != drawn:
            asked.append("NumPy's global random state")


def _numpy_state() -> str:
    """NumPy's global generator as text; nothing where nobody has imported NumPy."""
    numpy = sys.modules.get("numpy.random")
    return "" if numpy is None else repr([getattr(x, "tolist", lambda x=x: x)() for x in numpy.get_state()])

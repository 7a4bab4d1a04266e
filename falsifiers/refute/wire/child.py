"""Runs a module as a program that ends when whoever started it ends, in whatever way.

`python -m refute.wire.child MODULE ARGUMENT...`, started with a pipe as its standard input. The system closes
the pipe's other end with the process that holds it, also where that one is killed and can tell nobody.
"""

import os
import runpy
import sys
import threading


def environment() -> dict[str, str]:
    """Return this process's environment, changed so that a child finds the packages where this one did."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def main() -> None:
    """Run the module that the arguments name, as if it had been started itself."""
    held = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(target=_end_with, args=(held,), name="end", daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

"""One request in a process of its own, so that its peak of memory is the model's and nobody else's.

`measure` starts the process, `main` is what runs there: everything is imported, and the model opened once on
its mapped file, so that neither code nor vocabulary nor what the harness keeps counts; then the memory is
read, the model loaded, the request served, and the memory read again.
"""

import gc
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from refute.faults.base import Fault
from refute.targets.base import Peak, Request, TargetError
from refute.wire.child import environment

_COMMAND = "from refute.targets.fresh import main; main()"


def measure(
    path: Path, how: Mapping[str, Any], request: Request, fault: Fault | None, *, seconds: float
) -> Peak:
    """Serve one greedy request of `prompt` and `max_tokens` in a new process.

    how: backend, device and mmap, as `Engine.load` takes them.
    Raises `TargetError` with a sentence where it fails or takes longer than `seconds`.
    """
    order = {
        "path": str(path.absolute()),
        "how": dict(how),
        "prompt": list(request.prompt),
        "max_tokens": request.max_tokens,
        "fault": None if fault is None else asdict(fault),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COMMAND],
            input=json.dumps(order),
            capture_output=True,
            check=True,
            encoding="utf-8",
            env=environment(),
            timeout=seconds,
        )
        return Peak(**json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        raise TargetError(f"the process that loads the model took longer than {seconds:g} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        last = said[-1] if said else f"exit status {error.returncode}"
        raise TargetError(f"the process that loads the model failed: {last}") from None
    except (OSError, ValueError, TypeError) as error:
        raise TargetError(f"the process that loads the model gave no figures: {error}") from error


def main() -> None:
    """Read an order from the standard input, write a `Peak` to the standard output."""
    import refute_runtime.chat  # noqa: PLC0415
    import refute_runtime.engine  # noqa: PLC0415
    import refute_runtime.sampling  # noqa: F401, PLC0415
    from refute.targets import resident  # noqa: PLC0415
    from refute.targets.bundled import BundledTarget  # noqa: PLC0415

    order = json.load(sys.stdin)
    request = Request(tuple(order["prompt"]), order["max_tokens"])
    try:
        BundledTarget(Path(order["path"]), **order["how"] | {"mmap": True}).close()
        gc.collect()  # what was freed is taken again
        before, _, _ = resident.resident()
        target = BundledTarget(Path(order["path"]), **order["how"])
        if order["fault"] is None:
            target.generate(request)
        else:
            with target.plant(Fault(**order["fault"])) as faulty:
                faulty.generate(request)
    except TargetError as error:
        sys.exit(str(error))
    anonymous, file, peak = resident.resident()
    json.dump(asdict(Peak(before, anonymous, file, peak)), sys.stdout)

"""Write the same run again and again, each time killed at a later step, and say how far each one came.

    python crash_writer.py WORK WHEN      WHEN: `before` a step, or `within` it (a write half done)

WORK/<k>/ holds the tree of the run that was killed at step k; the lines on standard output are JSON,
{"step": k, "killed": true, "finished": [...]}; the last run was not killed. One process forks them all:
importing the package for each step would take most of the time.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from records import Unsynced, contract_at, finding, opened, run_id, write_run

from refute.contract import Contract
from refute.record import Sealed
from refute.strict_json import dump_strict


class Dying(Unsynced):
    """Dies at its k-th step: before it, or within it, which is after it for steps that have no middle."""

    def __init__(self, last: int, *, within: bool) -> None:
        self.left = last
        self.within = within

    @contextmanager
    def _step(self) -> Iterator[bool]:
        """Around one step; whether it is to be left half done."""
        self.left -= 1
        if self.left == 0 and not self.within:
            os.kill(os.getpid(), signal.SIGKILL)
        yield self.left == 0
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def mkdir(self, path: Path) -> None:
        with self._step():
            super().mkdir(path)

    def write(self, path: Path, data: bytes) -> int:
        with self._step() as half:
            return super().write(path, data[: len(data) // 2] if half else data)

    def append(self, path: Path, data: bytes) -> None:
        with self._step() as half:
            super().append(path, data[: len(data) // 2] if half else data)

    def fsync(self, descriptor: int) -> None:
        with self._step():
            super().fsync(descriptor)

    def replace(self, source: Path, destination: Path) -> None:
        with self._step():
            super().replace(source, destination)

    def fsync_directory(self, path: Path) -> None:
        with self._step():
            super().fsync_directory(path)


def write(contract: Contract, work: Path, step: int, tell: int, *, within: bool) -> None:
    writer = opened(
        work / str(step),
        contract,
        run=run_id(step),
        files=Dying(step, within=within),
        resumes=Sealed(run_id(0), "0" * 64),
    )
    for name in ("exact", "floor"):
        writer.log(f"attacking {name}")
        writer.write(finding(contract, name, writer.run))
        os.write(tell, f"{name}\n".encode())
    writer.attach("exact.replay.txt", b"again")
    (writer.path / "telemetry.jsonl").write_bytes(b"{}\n")
    writer.take_over(dump_strict(finding(contract, "small", run_id(0)).to_json()))
    os.write(tell, b"small\n")
    writer.seal()


def main(work: Path, *, within: bool) -> None:
    contract = contract_at(work)
    write_run(work / "warm", contract)  # so that no child imports anything
    step, killed = 0, True
    while killed:
        step += 1
        heard, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(heard)
            write(contract, work, step, tell, within=within)
            os._exit(0)
        os.close(tell)
        with os.fdopen(heard) as stream:
            finished = stream.read().split()
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status)
        if not killed and os.waitstatus_to_exitcode(status):
            raise SystemExit(f"step {step}: the writer failed")
        sys.stdout.write(json.dumps({"step": step, "killed": killed, "finished": finished}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), within=sys.argv[2] == "within")
